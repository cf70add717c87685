from __future__ import annotations

import pytest

from nasdistill.report.trial_axes import axis


def test_places_on_a_line() -> None:
    found = axis([2.0, 4.0, 3.0], "linear")
    assert found.places == pytest.approx((0, 1, 0.5))
    assert found.ticks[0] == (0, "2")
    assert (1, "4") in found.ticks


def test_places_on_a_logarithmic_scale() -> None:
    found = axis([1.0, 10.0, 1e-4, 1e4], "log")
    assert found.places == pytest.approx((0.5, 0.625, 0, 1))
    assert found.ticks == tuple(
        (pytest.approx((exponent + 4) / 8), name)
        for exponent, name in zip(
            range(-4, 5), ("0.0001", "0.001", "0.01", "0.1", "1", "10", "100", "1,000", "10,000"), strict=True
        )
    )


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10.0, 3000.0], ("10", "100", "1,000")),
        ([0.02, 0.3], ("0.02", "0.05", "0.1", "0.2")),
        ([110.0, 190.0], ("120", "140", "160", "180")),
    ],
)
def test_a_logarithmic_scale_has_ticks_however_short_it_is(values: list[float], names: tuple[str, ...]) -> None:
    assert tuple(name for _, name in axis(values, "log").ticks) == names


def test_whole_numbers_have_whole_ticks() -> None:
    assert [name for _, name in axis([1, 3], "linear").ticks] == ["1", "2", "3"]


def test_choices_share_the_axis_evenly() -> None:
    found = axis([{"name": "sgd"}, ["a", "b"], {"name": "sgd"}, True], "choice")
    assert found.ticks == tuple(zip((1 / 6, 0.5, 5 / 6), ("[a, b]", "true", "{name: sgd}"), strict=True))
    assert found.places == (5 / 6, 1 / 6, 5 / 6, 0.5)


def test_choices_of_numbers_stand_in_their_order() -> None:
    assert [name for _, name in axis([128, 16, 1024], "choice").ticks] == ["16", "128", "1024"]


def test_many_choices_are_named_in_part() -> None:
    found = axis([f"{number:02}" for number in range(30)], "choice")
    assert [name for _, name in found.ticks] == ["00", "03", "06", "09", "12", "15", "18", "21", "24", "27"]
    assert len(set(found.places)) == 30


@pytest.mark.parametrize("scale", ["linear", "log", "choice"])
def test_a_single_value_stands_in_the_middle(scale: str) -> None:
    found = axis([7.0, 7.0], scale)  # type: ignore[arg-type]
    assert found.places == (0.5, 0.5)
    assert [place for place, _ in found.ticks] == [0.5]


def test_what_the_scale_cannot_hold() -> None:
    assert axis([0.0, 1.0], "log").places == (0, 1)
    assert axis(["auto", 1.0], "linear").places == (0.75, 0.25)
