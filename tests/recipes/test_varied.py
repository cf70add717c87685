"""Distributions as people write them, and as nni and recipes read them."""

import pytest
from pydantic import TypeAdapter

from nasdistill.recipes.varied import PARAMETERS, Varied, VariedValue
from nasdistill.validation import build


def read(given) -> Varied:
    return TypeAdapter(VariedValue).validate_python(given)


@pytest.mark.parametrize(
    ("written", "space"),
    [
        ("loguniform(10, 3000)", {"_type": "loguniform", "_value": [10, 3000]}),
        ("uniform( -1.5,2e-1 )", {"_type": "uniform", "_value": [-1.5, 0.2]}),
        ("quniform(4, 20, 2)", {"_type": "quniform", "_value": [4, 20, 2]}),
        ("randint(1, 9)", {"_type": "randint", "_value": [1, 9]}),
        ("normal(0, 1)", {"_type": "normal", "_value": [0, 1]}),
        ("choice(sgd, adam)", {"_type": "choice", "_value": ["sgd", "adam"]}),
        ("[8, 16]", {"_type": "choice", "_value": [8, 16]}),
        ([True, "x"], {"_type": "choice", "_value": [True, "x"]}),
        ("choice([kd], {name: kd, weight: 2})", {"_type": "choice", "_value": ["[kd]", "{name: kd, weight: 2}"]}),
    ],
)
def test_what_is_written_is_what_nni_gets(written, space):
    assert read(written).search_space() == space


def test_choices_of_structured_values_come_back_as_they_were():
    varied = read("choice([kd], {name: kd, weight: 2}, null, 3)")

    given = varied.search_space()["_value"]

    assert [varied.value(value) for value in given] == [["kd"], {"name": "kd", "weight": 2}, None, 3]


def test_whole_numbers_stay_whole():
    assert read("quniform(4, 20, 2)").value(6.0) == 6
    assert isinstance(read("quniform(4, 20, 2)").value(6.0), int)
    assert isinstance(read("randint(0, 5)").value(3.0), int)
    assert read("quniform(0, 1, 0.25)").value(0.75) == 0.75


@pytest.mark.parametrize(
    ("written", "examples", "scale"),
    [
        ("loguniform(10, 3000)", [10, 3000, pytest.approx(962.2, abs=0.1)], "log"),
        ("uniform(0, 1)", [0, 1, pytest.approx(0.318, abs=1e-3)], "linear"),
        ("quniform(4, 20, 2)", [4, 20, 6], "linear"),
        ("randint(2, 5)", [2, 4], "linear"),
        ("normal(4, 1)", [4], "linear"),
        ("choice(a, b, c)", ["a", "b", "c"], "choice"),
    ],
)
def test_examples_are_the_ends_and_scales_those_of_the_distribution(written, examples, scale):
    assert read(written).examples() == examples
    assert read(written).scale == scale


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("lognorml(1, 2)", "unknown distribution 'lognorml'; did you mean 'lognormal'"),
        ("uniform(1)", "uniform(low, high), got uniform(1)"),
        ("uniform(1, a)", "uniform takes numbers"),
        ("uniform(2, 1)", "low must be below high"),
        ("loguniform(0, 1)", "low must be positive"),
        ("randint(0.5, 4)", "randint takes whole numbers"),
        ("quniform(0, 1, 0)", "the step must be positive"),
        ("normal(0, 0)", "the deviation must be positive"),
        ("choice()", "a choice needs a value"),
        ("choice(1, 2, 1)", "the value 1 stands here twice"),
        ("17", "'17' is no distribution: write it as uniform(0, 1)"),
        ("uniform(0", "quote it"),  # what YAML leaves of {key: uniform(0, 1)}
        ("choice({a: )", "no list of values"),
    ],
)
def test_mistakes_are_told_with_what_was_meant(written, told):
    from nasdistill.errors import SpecError
    from nasdistill.recipes.experiment import TuneSettings

    with pytest.raises(SpecError) as error:
        build(TuneSettings, {"vary": {"stages.a.x": written}})
    assert told in error.value.problem
    assert error.value.path == ("vary", "stages.a.x")


def test_nni_knows_every_distribution():
    """Against nni's own reading of search spaces, which refuses types that it does not know."""
    space = pytest.importorskip("nni.common.hpo_utils")
    numbers = {"low": 1, "high": 9, "beyond": 9, "mean": 1, "deviation": 1, "step": 1}

    for kind, names in PARAMETERS.items():
        arguments = [1, 2] if kind == "choice" else [numbers[name] for name in names]
        entry = Varied(kind=kind, arguments=tuple(arguments)).search_space()
        assert space.validate_search_space({"x": entry})
        assert len(space.format_search_space({"x": entry})) == 1
