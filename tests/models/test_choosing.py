"""Which tensors of a file are taken, where it holds more than a network."""

from __future__ import annotations

import pytest

from nasdistill.errors import UserError
from nasdistill.models.base import MODELS
from nasdistill.models.choosing import EVERYTHING, Choice, Wanted, choose
from nasdistill.models.matching import Shapes

OURS = {name: tuple(value.shape) for name, value in MODELS.parse("wrn-10-1").build((3, 16, 16), 4).state_dict().items()}
DEEPER = {
    name: tuple(value.shape) for name, value in MODELS.parse("wrn-16-1").build((3, 16, 16), 4).state_dict().items()
}
FOREIGN = {name.replace("norm", "bn").replace("classifier", "fc"): shape for name, shape in OURS.items()}
LINEAR = {"classifier.weight": (3, 64), "classifier.bias": (3,)}


def within(place: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {place + name: shape for name, shape in shapes.items()}


def chosen(*dicts: tuple[str, Shapes], ours: Shapes = OURS, wanted: Wanted = EVERYTHING) -> Choice:
    """The choice from a file of these dictionaries, each with its key; that of the file itself is empty."""
    held = {f"{key}.{name}" if key else name: (shape, key) for key, shapes in dicts for name, shape in shapes.items()}
    shapes = {name: shape for name, (shape, _) in held.items()}
    return choose(shapes, {name: key for name, (_, key) in held.items()}, ours, True, wanted)


def taken(*dicts: tuple[str, Shapes], ours: Shapes = OURS, wanted: Wanted = EVERYTHING) -> str:
    """What the names of all tensors that were taken begin with, before the network's own name."""
    pairs = chosen(*dicts, ours=ours, wanted=wanted).match.pairs
    assert [pair.ours for pair in pairs] == list(ours)
    (place,) = {pair.theirs.removesuffix(pair.ours) for pair in pairs}
    return place


def test_an_average_is_taken_and_its_count_is_left_out() -> None:
    choice = chosen(("", {"n_averaged": (), **within("module.", OURS)}))
    assert {pair.theirs for pair in choice.match.pairs} == {f"module.{name}" for name in OURS}
    assert choice.left_out == {"n_averaged": ()}
    assert choice.lines()[1] == "left out: n_averaged (a number)"


@pytest.mark.parametrize("ours", [OURS, LINEAR])
def test_loose_tensors_metrics_and_losses_beside_the_weights(ours: Shapes) -> None:
    beside = {"accuracy.total": (), "loss.weight": (10,)}
    assert taken(("mine", ours), ("", {"rng": (5056,), "epoch": ()}), ours=ours) == "mine."
    assert taken(("state_dict", {**within("net.", ours), **beside}), ours=ours) == "state_dict.net."


def test_the_usual_key_comes_before_what_fits_as_well() -> None:
    for other in ("ema", "state_dict_ema", "teacher"):
        choice = chosen((other, OURS), ("state_dict", OURS))
        assert choice.match.pairs[0].theirs == "state_dict.stem.weight"
        assert f"{other} fits as well; --under {other} takes it" in choice.lines()


def test_a_teacher_of_another_size_is_left_out() -> None:
    both = {**within("student.", OURS), **within("teacher.", DEEPER)}
    assert taken(("state_dict", both)) == "state_dict.student."
    assert taken(("state_dict", both), ours=DEEPER) == "state_dict.teacher."


def test_two_that_fit_are_refused_with_the_options_that_choose() -> None:
    both = {**within("module.student.", LINEAR), **within("module.teacher.", LINEAR)}
    with pytest.raises(UserError) as caught:
        chosen(("model", both), ours=LINEAR)
    assert str(caught.value) == (
        "holds several networks that fit: "
        "model.module.student (2 tensors, classifier.weight 3x64 to classifier.bias 3), "
        "model.module.teacher (2 tensors, classifier.weight 3x64 to classifier.bias 3); "
        "choose with --under model.module.student or --under model.module.teacher"
    )


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(under="student"),
        Wanted(under="module.student"),
        Wanted(under="model.module.student."),
        Wanted(prefix="module.student."),
        Wanted(under="model", prefix="module.student"),
        Wanted(ignore=("module.teacher.*",)),
        Wanted(ignore=("*teacher*",)),
        Wanted(under="module", ignore=("teacher.*",)),
        Wanted(under="model", ignore=("*.teacher.*.*",)),
    ],
)
def test_what_is_wanted_can_be_said_in_many_ways(wanted: Wanted) -> None:
    both = {**within("module.student.", OURS), **within("module.teacher.", OURS)}
    assert taken(("model", both), wanted=wanted) == "model.module.student."


def test_a_prefix_ends_anywhere_and_is_proposed() -> None:
    both = {**within("student_", OURS), **within("teacher_", OURS)}
    assert taken(("model", both), wanted=Wanted(prefix="student_")) == "model.student_"
    with pytest.raises(UserError, match="it would fit with --prefix student_ or --prefix teacher_"):
        chosen(("model", both))


def test_what_is_to_be_ignored_is_proposed_unless_it_is_a_layer_among_the_networks() -> None:
    with pytest.raises(UserError, match=r"it would fit with --ignore 'net.loss.\*' --ignore net.steps$"):
        chosen(("", within("net.", {**OURS, "loss.weight": (4,), "steps": ()})))
    with pytest.raises(UserError) as caught:
        chosen(("", DEEPER))
    assert "--ignore" not in str(caught.value)


@pytest.mark.parametrize("beside", [{"body.weight": (64, 9)}, {"norm.weight": (64,), "norm.bias": (64,)}])
def test_the_head_of_a_larger_network_is_not_taken_unasked(beside: Shapes) -> None:
    for head in ({"classifier.weight": (3, 64), "classifier.bias": (3,)}, {"fc.weight": (3, 64), "fc.bias": (3,)}):
        with pytest.raises(UserError, match=r"among others: .*; choose with --under head$"):
            chosen(("", {**beside, **within("head.", head)}), ours=LINEAR)
        assert chosen(("", {**beside, **within("head.", head)}), ours=LINEAR, wanted=Wanted("head")).left_out == beside


def test_other_names_are_found_below_a_key_as_well() -> None:
    choice = chosen(("checkpoint", FOREIGN), ("", {"step": ()}))
    assert choice.match.how == "order"
    assert choice.match.pairs[-1].theirs == "checkpoint.fc.bias"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            Wanted(under="stundent"),
            r"holds nothing under 'stundent' \(did you mean 'student'\?\): it holds model.student",
        ),
        (
            Wanted(under="groups"),
            "holds 'groups' in several places; choose one: model.student.groups, model.teacher.gr",
        ),
        (Wanted(prefix="net."), "has no tensor whose name begins with 'net.': it holds model.student"),
        (Wanted(ignore=("accuracy",)), "has no tensor whose name fits 'accuracy': it holds model.student"),
        (Wanted(ignore=("*",)), "holds nothing beside what is to be ignored"),
        (Wanted(under="student", ignore=("norm.*",)), "does not fit: only in the network: norm.weight"),
    ],
)
def test_what_is_wanted_and_not_there(wanted: Wanted, words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen(("model", {**within("student.", OURS), **within("teacher.", OURS)}), wanted=wanted)


def test_what_does_not_fit_lists_what_the_file_holds() -> None:
    with pytest.raises(UserError) as caught:
        chosen(("model", {"fc.weight": (9, 64), "fc.bias": (9,)}), ("ema", {"x": (9, 64)}), ours=LINEAR)
    assert "it holds model (2 tensors, fc.weight 9x64 to fc.bias 9), ema.x (9x64)" in str(caught.value)
