"""Which foreign tensor becomes which: the cases in which the right answer is known."""

from __future__ import annotations

import random

import pytest
import torchvision

from nasdistill.errors import UserError
from nasdistill.models.base import MODELS
from nasdistill.models.matching import Shapes, by_numbers, match


def shapes_of(name: str, **options: object) -> dict[str, tuple[int, ...]]:
    network = MODELS.parse({"name": name, **options}).build((3, 32, 32), 10)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def renamed(name: str) -> str:
    """A name in the style of another well-known wide ResNet code."""
    parts = name.split(".")
    if parts[0] == "groups":
        block = {"norm1": "bn1", "norm2": "bn2", "shortcut": "convShortcut"}.get(parts[3], parts[3])
        return f"block{int(parts[1]) + 1}.layer.{parts[2]}.{block}.{parts[4]}"
    return {"stem": "conv1", "norm": "bn1", "classifier": "fc"}[parts[0]] + "." + parts[1]


WRN = shapes_of("wrn-40-1")


def test_the_same_names() -> None:
    found = match(WRN, WRN)
    assert found.how == "name"
    assert all(pair.theirs == pair.ours for pair in found.pairs)
    assert len(found.pairs) == len(WRN)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_wrappers_are_seen_through(prefix: str) -> None:
    found = match({prefix + name: shape for name, shape in WRN.items()}, WRN)
    assert found.how == "name"
    assert all(pair.theirs == prefix + pair.ours for pair in found.pairs)


def test_names_match_in_any_order() -> None:
    names = list(WRN)
    random.Random(0).shuffle(names)  # noqa: S311
    found = match({name: WRN[name] for name in names}, WRN, in_order=False)
    assert all(pair.theirs == pair.ours for pair in found.pairs)


@pytest.mark.parametrize("name", ["wrn-40-1", "wrn-16-2"])
def test_other_names_in_order(name: str) -> None:
    ours = shapes_of(name)
    found = match({renamed(key): shape for key, shape in ours.items()}, ours)
    assert found.how == "order"
    assert all(pair.theirs == renamed(pair.ours) for pair in found.pairs)
    assert found.kept == ()


def test_files_without_counters() -> None:
    theirs = {renamed(name): shape for name, shape in WRN.items() if not name.endswith("num_batches_tracked")}
    found = match(theirs, WRN)
    assert all(pair.theirs == renamed(pair.ours) for pair in found.pairs)
    assert len(found.kept) == 37
    assert {pair.ours for pair in found.pairs} | set(found.kept) == set(WRN)


def test_names_that_the_file_sorted() -> None:
    """Safetensors lists `layer.10` before `layer.2`, norms before convolutions, and biases before weights."""
    ours = shapes_of("wrn-70-1")
    theirs = {renamed(name): shape for name, shape in ours.items()}
    found = match(dict(sorted(theirs.items())), ours, in_order=False)
    assert found.how == "shape"
    assert all(pair.theirs == renamed(pair.ours) for pair in found.pairs)


def test_modules_made_in_another_order() -> None:
    """Shortcut first, then convolutions, then norms: alike modules still come in the same order."""

    def made(name: str) -> tuple[str, int]:
        parts = renamed(name).split(".")
        if not parts[0].startswith("block"):
            return ("a" if parts[0] == "conv1" else "z"), 0
        return f"{parts[0]}.{int(parts[2]):02}", ["convShortcut", "conv1", "conv2", "bn1", "bn2"].index(parts[3])

    ours = shapes_of("wrn-16-2")
    names = sorted(ours, key=made)
    found = match({renamed(name): ours[name] for name in names}, ours)
    assert found.how == "shape"
    assert all(pair.theirs == renamed(pair.ours) for pair in found.pairs)


def test_modules_made_in_any_order_are_matched_right_or_refused() -> None:
    ours = shapes_of("wrn-16-1")
    modules = sorted({name.rpartition(".")[0] for name in ours})
    shuffle = random.Random(0).shuffle  # noqa: S311
    matched = 0
    for _ in range(60):
        shuffle(modules)
        names = [name for path in modules for name in ours if name.rpartition(".")[0] == path]
        try:
            found = match({renamed(name): ours[name] for name in names}, ours)
        except UserError:
            continue
        matched += 1
        assert all(pair.theirs == renamed(pair.ours) for pair in found.pairs)
    assert matched > 5


def test_a_norm_of_the_end_never_becomes_one_of_the_last_group() -> None:
    """Made before the groups, it has the shape of norms in the last: order would put every one of them out of place."""
    last = [name for name in WRN if name.startswith("norm.")]
    names = [*last, *(name for name in WRN if name not in last)]
    with pytest.raises(UserError, match="do not tell which is which"):
        match({renamed(name): WRN[name] for name in names}, WRN)


def test_flat_names_without_modules() -> None:
    found = match({f"p{index}": shape for index, shape in enumerate(WRN.values())}, WRN)
    assert found.how == "order"
    values = [(index, name) for index, name in enumerate(WRN) if not name.endswith("num_batches_tracked")]
    assert [(pair.theirs, pair.ours) for pair in found.pairs] == [(f"p{index}", name) for index, name in values]


def test_a_residual_network_in_torchvisions_names() -> None:
    ours = shapes_of("resnet-20", shortcut="project")
    theirs = {
        name.replace("stem", "conv1")
        .replace("groups.", "layer")
        .replace("norm", "bn")
        .replace("shortcut", "downsample")
        .replace("classifier", "fc"): shape
        for name, shape in ours.items()
    }
    assert [pair.theirs for pair in match(theirs, ours).pairs] == list(theirs)


def test_torchvisions_own() -> None:
    theirs = {name: tuple(value.shape) for name, value in torchvision.models.resnet18().state_dict().items()}
    network = MODELS.parse("torchvision:resnet18").build((3, 224, 224), 1000)
    found = match(theirs, {name: tuple(value.shape) for name, value in network.state_dict().items()})
    assert found.how == "name"


def test_a_single_number_that_is_no_counter_is_not_passed_over() -> None:
    with pytest.raises(UserError, match=r"only in the file: logit_scale \(a number\)"):
        match({**WRN, "logit_scale": ()}, WRN)


ALIKE: Shapes = {"first.weight": (4, 4), "first.bias": (4,), "second.weight": (4, 4), "second.bias": (4,)}


def test_alike_modules_of_a_sorted_file_are_refused() -> None:
    theirs = {"zebra.bias": (4,), "zebra.weight": (4, 4), "ape.bias": (4,), "ape.weight": (4, 4)}
    with pytest.raises(UserError, match="ape and zebra hold tensors of the same shapes"):
        match(dict(sorted(theirs.items())), ALIKE, in_order=False)
    assert match(theirs, ALIKE, in_order=True).pairs[0].theirs == "zebra.weight"


def test_numbers_order_alike_modules_of_a_sorted_file() -> None:
    theirs = {"fc10.bias": (4,), "fc10.weight": (4, 4), "fc9.bias": (4,), "fc9.weight": (4, 4)}
    found = match(theirs, ALIKE, in_order=False)
    assert [pair.theirs for pair in found.pairs] == ["fc9.weight", "fc9.bias", "fc10.weight", "fc10.bias"]


def test_weights_never_become_biases() -> None:
    """A norm's four vectors have one shape; a file that lists the bias first is still read right."""
    ours = {"n.weight": (4,), "n.bias": (4,), "n.running_mean": (4,), "n.running_var": (4,)}
    theirs = {"bn.bias": (4,), "bn.running_mean": (4,), "bn.running_var": (4,), "bn.weight": (4,)}
    found = match(theirs, ours)
    assert [(pair.theirs, pair.ours) for pair in found.pairs] == [("bn." + name[2:], name) for name in ours]


def test_other_classes_are_told_by_name_and_shape() -> None:
    theirs = {**WRN, "classifier.weight": (100, 64), "classifier.bias": (100,)}
    with pytest.raises(UserError) as caught:
        match(theirs, WRN)
    assert str(caught.value) == (
        "classifier.weight is 100x64 in the file and 10x64 in the network, "
        "classifier.bias is 100 in the file and 10 in the network"
    )


def test_missing_and_surplus_tensors_are_told() -> None:
    theirs = {**{name: shape for name, shape in WRN.items() if name != "norm.bias"}, "extra.scale": (7,)}
    with pytest.raises(UserError, match=r"only in the file: extra.scale \(7\); only in the network: norm.bias \(64\)"):
        match(theirs, WRN)


def test_other_names_and_other_shapes_are_told_by_shape() -> None:
    theirs = {renamed(name): shape for name, shape in WRN.items()}
    theirs["fc.weight"] = (100, 64)
    with pytest.raises(UserError, match=r"only in the file: fc.weight \(100x64\); .* classifier.weight \(10x64\)"):
        match(theirs, WRN)


def test_a_deeper_network_does_not_fit_and_the_list_is_short() -> None:
    with pytest.raises(UserError, match=r"and \d+ more") as caught:
        match({renamed(name): shape for name, shape in WRN.items()}, shapes_of("wrn-16-1"))
    assert len(str(caught.value)) < 400


def test_the_order_of_numbers() -> None:
    names = ["b.weight", "layer10.x", "layer10.y", "a.1", "layer2.x", "layer2.y", "a.0"]
    assert by_numbers(names) == ["b.weight", "layer2.x", "layer2.y", "a.0", "a.1", "layer10.x", "layer10.y"]


def test_lines_to_print() -> None:
    found = match({"w": (2, 3), "b": (2,)}, {"fc.weight": (2, 3), "fc.bias": (2,)})
    assert found.lines() == ["2 tensors matched by order", "w -> fc.weight (2x3)", "b -> fc.bias (2)"]
