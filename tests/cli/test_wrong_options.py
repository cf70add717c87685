"""Commands whose options are wrong, or do not fit what they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.cli.mistakes import Mistake, Prepare, network, nothing

MISTAKES: Mapping[str, Mistake] = {
    "command misspelt": ("nasdistill trian", nothing, "Did you mean 'train'?"),
    "negative option": (
        "nasdistill train mlp --epochs -3",
        nothing,
        "--epochs: must be greater than 0, got -3",
    ),
    "misspelt --set": ("nasdistill train mlp --set optimizer.lrr=1", nothing, "1': optimizer.lrr: "),
    "--set of the data set": (
        "nasdistill train mlp --data digits --set data.limmit=9",
        nothing,
        "--set 'data.limmit=9': data.limmit: unknown key 'limmit'; did you mean 'limit'",
    ),
    "ratio": ("nasdistill grow-teacher --student mlp --ratio 0.5", nothing, "--ratio: must be greater than 1"),
    "ratio nan": ("nasdistill grow-teacher --student mlp --ratio nan", nothing, "--ratio: must be a finite"),
    "space as path": ("nasdistill search --space ../../x", nothing, "--space: unknown space '../../x'"),
    "huge network": (
        "nasdistill inspect mlp-99999999-99999999",
        nothing,
        "40 PB in single precision, and this machine has ",
    ),
    "normalisation of colours": (
        "nasdistill train mlp --data '{name: digits, normalisation: {mean: [0, 0, 0], std: [1, 1, 1]}}'",
        nothing,
        "data.normalisation.mean: the images have 1 channel(s), but 3 number(s) were given",
    ),
    "a layer that only `:input` misspells": (
        "nasdistill distill --student mlp-8 --teacher net "
        "--objectives '{name: rkd, pair: [\"hidden.0:inptu\", classifier]}'",
        network(),
        "--objectives: the student has no module 'hidden.0:inptu'; did you mean 'hidden.0:input'?",
    ),
    "a pair of one": (
        "nasdistill hints --student mlp-8 --teacher net --pair '[hidden.0]'",
        network(),
        "--pair: at least 2 must be given, got ['hidden.0']",
    ),
    "a pair of three": (
        "nasdistill hints --student mlp-8 --teacher net --pair '[a, b, c]'",
        network(),
        "--pair: at most 2 may be given, got ['a', 'b', 'c']",
    ),
    "a weight that is no number": (
        "nasdistill distill --student mlp-8 --teacher net --teacher-weights '[x]'",
        network(),
        "--teacher-weights.0: must be a number",
    ),
    "an objective without a name": (
        "nasdistill distill --student mlp-8 --teacher net --objectives ''",
        network(),
        "--objectives.0: an objective is a name or a mapping with a name and options",
    ),
    "zero-shot from a model": (
        "nasdistill zero-shot --student mlp-8 --teacher wrn-10-1",
        nothing,
        "--teacher: 'wrn-10-1' is a model, not yet a network: train it in a stage of its own",
    ),
    "zero-shot without losses": (
        "nasdistill zero-shot --student mlp-8 --teacher net --generator-losses '{name: adversarial, weight: 0}'",
        network(),
        "--generator-losses: at least one must have a weight over 0",
    ),
    "attention of a perceptron": (
        "nasdistill zero-shot --student mlp-8 --teacher net",
        network(),
        "--objectives: attention: ",
    ),
    "training without images": (
        "nasdistill train mlp --data none",
        nothing,
        "this stage works on images, but the data set is 'none'; name one with `data`",
    ),
}


@pytest.mark.parametrize("did", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(did: str, sentence: Callable[[str, Prepare], str]) -> None:
    command, prepare, words = MISTAKES[did]
    assert words in sentence(command, prepare)
