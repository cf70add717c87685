"""Whole numbers of options have bounds, and networks that no memory holds are refused before they are drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, Field
from torch import nn

from nasdistill.component import Options, parts_of
from nasdistill.errors import SpecError, UserError
from nasdistill.models import memory_limit
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.genotypes import Genotype
from nasdistill.models.memory_limit import within_memory
from nasdistill.recipes.schema import RecipeFile
from nasdistill.registry import KINDS, build, registry

OURS = [kind for kind, place in KINDS.items() if place.startswith("nasdistill.")]


def whole_numbers(annotation: Any, bounds: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The bounds of each whole number that an annotation holds."""
    if get_origin(annotation) is Annotated:
        inner = [bound for each in get_args(annotation)[1:] for bound in getattr(each, "metadata", [each])]
        yield from whole_numbers(get_args(annotation)[0], (*bounds, *inner))
    elif annotation is int:
        yield bounds
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from whole_numbers(part, () if get_origin(annotation) in (tuple, list, dict) else bounds)


def models() -> dict[type[BaseModel], str]:
    """All typed options, with where they were found."""
    found: dict[type[BaseModel], str] = {}
    todo = [(f"{kind}/{name}", registry(kind).get(name)) for kind in OURS for name in registry(kind).names()]
    todo += [("a recipe", RecipeFile), ("a network", NetworkSpec)]
    while todo:
        where, model = todo.pop()
        if model not in found:
            found[model] = where
            for name, info in model.model_fields.items():
                held = [info.annotation, *parts_of(info.annotation)]
                classes = [each for each in held if isinstance(each, type) and issubclass(each, BaseModel)]
                todo += [(f"{where}.{name}", each) for each in classes]
    return found


def test_every_whole_number_has_bounds() -> None:
    """Those of `Options` have them by their base; a genotype's are compared with its nodes."""
    for model, where in models().items():
        if issubclass(model, Options | Genotype):
            continue
        for name, info in model.model_fields.items():
            for bounds in whole_numbers(info.annotation, tuple(info.metadata)):
                above, below = ({type(bound) for bound in bounds} & set(kinds) for kinds in ((Ge, Gt), (Le, Lt)))
                assert above, f"{where}.{name} has no least value"
                assert below, f"{where}.{name} has no largest value"


class Anything(Options):
    """What a plug-in may ask for."""

    number: int = 0
    perhaps: int | None = None
    several: tuple[Annotated[int, Field(gt=0)], ...] = ()
    steps: int | dict[float, int] = 1
    pairs: list[tuple[str, int]] = []
    seed: int = Field(0, le=2**63)


@pytest.mark.parametrize("size", [2**31, 2**63, 2**64, 10**300])
@pytest.mark.parametrize(
    ("options", "path"),
    [
        (lambda size: {"number": size}, ("number",)),
        (lambda size: {"number": -size}, ("number",)),
        (lambda size: {"perhaps": size}, ("perhaps",)),
        (lambda size: {"several": [1, size]}, ("several", 1)),
        (lambda size: {"steps": {0.5: size}}, ("steps", 0.5)),
        (lambda size: {"pairs": [["a", size]]}, ("pairs", 0, 1)),
    ],
)
def test_no_option_is_endless(options: Any, path: tuple[str | int, ...], size: int) -> None:
    with pytest.raises(SpecError) as caught:
        build(Anything, options(size))
    assert caught.value.path[: len(path)] == path
    assert caught.value.problem.startswith(("must be at most", "must be at least"))


@pytest.mark.parametrize(
    ("options", "path"), [({"dropout": True}, ("dropout",)), ({"hidden": [8, True]}, ("hidden", 1))]
)
def test_true_is_no_number(options: dict[str, Any], path: tuple[str | int, ...]) -> None:
    with pytest.raises(SpecError, match="must be a number, got True") as told:
        MODELS.parse({"name": "mlp", **options})
    assert told.value.path == path


def test_a_bound_of_its_own_counts() -> None:
    assert build(Anything, {"seed": 2**63, "number": 2**31 - 1, "several": [2**31 - 1]}).seed == 2**63
    for settings in ({"seed": 2**32}, {"seeds": [0, 2**32]}, {"seed": 2**63}):
        with pytest.raises(SpecError, match="must be at most 4294967295"):
            build(RecipeFile, {"name": "a", "stages": [{"name": "a", "uses": "train"}], **settings})


@pytest.mark.parametrize("name", ["wrn-9994-1", "resnet-9998", "densenet-9994-12", "darts-v2-4-1000", "wrn-10-1"])
def test_what_is_deep_is_a_model(name: str) -> None:
    assert MODELS.parse(name)


@pytest.mark.parametrize("name", ["wrn-10000000-1", "resnet-10000000000000000", "densenet-99994-12", "darts-v2-4-1001"])
def test_what_is_too_deep_is_none(name: str) -> None:
    with pytest.raises(SpecError, match=r"at most 1000"):
        MODELS.parse(name)


@pytest.mark.parametrize(
    ("name", "classes", "weights"),
    [
        ("mlp-999999999", 10, "3,082,999,996,927"),  # (3072 + 1 + 10) 999999999 + 10
        ("mlp-99999-99999", 10, "10,308,196,927"),  # (3072 + 1) 99999 + (99999 + 1) 99999 + 99999 * 10 + 10
        ("mlp-8", 2**31 - 1, "19,327,377,407"),  # (3072 + 1) 8 + (8 + 1) (2^31 - 1)
        ("wrn-10-999999", 10, "73,983,855,680,070,8"),  # about (10 * 16 * 32 + 9 * 32^2 + 10 * 32 * 64 + ...) 999999^2
        ("densenet-40-9999999", 10, None),
    ],
)
def test_a_network_beyond_all_memory_is_refused_at_once(name: str, classes: int, weights: str | None) -> None:
    spec = NetworkSpec(model=MODELS.parse(name), shape=(3, 32, 32), classes=classes)
    began = time.process_time()
    with pytest.raises(
        UserError, match=f"this network has {weights or ''}.* weights.* of memory; choose a smaller one"
    ):
        spec.build()
    assert time.process_time() - began < 2


def test_a_large_network_that_fits_gets_the_weights_that_it_always_got(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def linear() -> nn.Module:
        built.append(torch.empty(0).device.type)
        return nn.Linear(20, 10)

    torch.manual_seed(0)
    expected = nn.Linear(20, 10).weight
    for large, devices in ((1 << 28, ["cpu"]), (100, ["cpu", "meta", "cpu"])):
        monkeypatch.setattr(memory_limit, "LARGE", large)
        built.clear()
        torch.manual_seed(0)
        found = within_memory(linear)
        assert torch.equal(found.weight, expected)
        assert built == devices


def test_a_container_has_its_share_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "nowhere")))
    (tmp_path / "memory.max").write_text("max\n")
    whole = memory_limit.memory_bytes()
    assert whole > 1 << 28
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_limit.memory_bytes() == 1_000_000


@pytest.mark.parametrize("option", ["length", "train_per_class", "test_per_class"])
def test_tones_that_take_minutes_to_draw_are_refused(option: str) -> None:
    with pytest.raises(SpecError, match="must be at most 10"):
        registry("datasets").parse({"name": "synthetic-tones", option: 2**31 - 1})
