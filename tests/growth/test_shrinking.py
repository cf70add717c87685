"""Channels that matter least leave: their scores against autograd and brute force, and what is left of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from nasdistill.data.preparation import load
from nasdistill.errors import Interrupted, UserError
from nasdistill.growth.coupling import filters_of, groups_of
from nasdistill.growth.criteria import CRITERIA, Criterion
from nasdistill.growth.importance import channel_importance, group_importance
from nasdistill.growth.plan import size, widths_of, with_model
from nasdistill.growth.shrinking import Shrunk, groups_to_shrink, narrowest, shrink, with_groups
from nasdistill.growth.student import Student
from nasdistill.growth.widening import widen
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.channels import ChannelGroup
from nasdistill.registry import registry
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings

SEPARABLE = {"name": "mobilenet", "stem": 4, "head": 8, "stages": [{"width": 6, "expansion": 3, "depth": 2}]}
Images = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(accelerator="cpu", precision="32"))


@pytest.fixture(scope="module")
def digits() -> Images:
    data = load(registry("datasets").parse("digits"), 0)
    images = functional.avg_pool2d(data.train.images[:256].float() / 255, 1) - 0.3
    return list(zip(images.split(128), data.train.labels[:256].split(128), strict=True))


def drawn(model: Any, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[NetworkSpec, nn.Module]:
    """A network in double precision whose batch norms have statistics of their own."""
    spec = with_groups(NetworkSpec(model=MODELS.parse(model), shape=shape, classes=10))
    torch.manual_seed(0)
    network = spec.build().double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
            nn.init.uniform_(norm.bias, 0.5, 1)  # no ReLU is shut for all images
    network(torch.randn(32, *shape, dtype=torch.float64))
    return spec, network.eval()


@pytest.fixture(scope="module")
def learned(digits: Images) -> tuple[NetworkSpec, nn.Module]:
    spec = with_groups(NetworkSpec(model=MODELS.parse("wrn-10-1"), shape=(1, 8, 8), classes=10))
    torch.manual_seed(0)
    network = spec.build()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(12):
        for images, labels in digits:
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return spec, network.eval()


def few(count: int = 6) -> Images:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(count, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(count) % 10)]


def columns(group: ChannelGroup, state: Mapping[str, torch.Tensor], factors: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weights that read a group's channels, times a factor for each of these."""
    scaled: dict[str, torch.Tensor] = {}
    for place in (place for place in group.places if place.reads):
        weight = scaled.get(place.tensor, state[place.tensor])
        along = torch.ones(weight.shape[place.dimension], dtype=weight.dtype)
        along = along.index_put((place.positions,), factors.unsqueeze(1).expand_as(place.positions))
        scaled[place.tensor] = weight * along.reshape([-1 if at == place.dimension else 1 for at in range(weight.ndim)])
    return scaled


@pytest.mark.parametrize("model", ["wrn-10-1", SEPARABLE, "darts-v2-2-3", "mlp-6-5"])
def test_scores_are_those_of_single_images_by_a_factor_on_all_that_reads_a_channel(model: Any, engine: Engine) -> None:
    spec, network = drawn(model)
    state = network.state_dict()
    ((images, labels),) = few()
    groups = groups_to_shrink(spec, network)
    found = group_importance(network, groups, few(), engine)
    assert list(found) == [group.name for group in groups]
    for group in groups:
        expected = torch.zeros(group.width, dtype=torch.float64)
        for image, label in zip(images, labels, strict=True):
            factors = torch.ones(group.width, dtype=torch.float64, requires_grad=True)
            logits = functional_call(network, {**state, **columns(group, state, factors)}, image[None])
            (g,) = torch.autograd.grad(functional.cross_entropy(logits, label[None]), factors)
            expected += g**2 / (2 * len(images))
        torch.testing.assert_close(found[group.name], expected, rtol=1e-8, atol=1e-15)


def test_behind_one_norm_and_a_relu_they_are_those_that_growth_reads(engine: Engine) -> None:
    spec, network = drawn("wrn-10-1")
    (group,) = (group for group in groups_of(spec) if group.name == "groups.1.0.conv1")
    ours = group_importance(network, [group], few(), engine)[group.name]
    torch.testing.assert_close(
        ours, channel_importance(network, ["groups.1.0.norm2"], few(), engine)["groups.1.0.norm2"]
    )


def test_scores_rank_channels_as_leaving_each_out_does(
    learned: tuple[NetworkSpec, nn.Module], digits: Images, engine: Engine
) -> None:
    spec, network = learned
    state = network.state_dict()
    groups = groups_to_shrink(spec, network)
    scores = group_importance(network, groups, digits, engine)
    images, labels = (torch.cat(parts) for parts in zip(*digits, strict=True))

    def loss(weights: Mapping[str, torch.Tensor]) -> float:
        return functional.cross_entropy(functional_call(network, {**state, **weights}, images), labels).item()

    whole, losses = loss({}), []
    with torch.no_grad():
        for group in groups:
            for channel in range(group.width):
                factors = torch.ones(group.width)
                factors[channel] = 0
                losses.append(loss(columns(group, state, factors)) - whole)
    fisher = torch.cat([scores[group.name] for group in groups])
    l1 = torch.cat([filters_of(network, group).abs().sum(dim=1) for group in groups])
    found = [spearmanr(each, losses).statistic for each in (fisher, l1)]
    assert found[0] > 0.6 > 0 > found[1]


@pytest.mark.parametrize("model", ["wrn-10-1", "densenet-10-4", SEPARABLE, "darts-v2-4-3", "mlp-8-8"])
def test_channels_that_nothing_hears_leave_first_and_nothing_changes(model: Any, engine: Engine) -> None:
    spec, network = drawn(model)
    state, heard = network.state_dict(), {}
    for group in groups_to_shrink(spec, network):
        heard[group.name] = max(2, group.width // 2)
        factors = torch.zeros(group.width, dtype=torch.float64)
        factors[torch.randperm(group.width)[: heard[group.name]]] = 1
        state.update(columns(group, state, factors))
    network.load_state_dict(state)
    network.train()(torch.randn(32, *spec.shape, dtype=torch.float64))
    network.eval()
    most = size(with_model(spec, spec.model.with_widths(heard)), "params")
    student = Student(spec, network, few(48), engine)
    shrunk = shrink(student, CRITERIA.parse("fisher"), lambda each: size(each, "params") / most)
    assert {name: widths_of(shrunk.spec)[name] for name in heard} == heard
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(shrunk.network(images), network(images), rtol=1e-9, atol=1e-9)


def half(
    learned: tuple[NetworkSpec, nn.Module],
    digits: Images,
    engine: Engine,
    criterion: Any = "fisher",
    ratio: float = 0.5,
    checkpoints: Checkpoints | None = None,
    **options: Any,
) -> Shrunk:
    spec, network = learned
    most = ratio * size(spec, "params")
    student = Student(spec, network, digits, engine, 0, checkpoints or Checkpoints())
    return shrink(student, CRITERIA.parse(criterion), lambda each: size(each, "params") / most, **options)


@pytest.mark.parametrize("criterion", ["fisher", "l1", "random", {"name": "fisher", "per": "multiply-add"}])
@pytest.mark.parametrize("options", [{}, {"rounds": 3}, {"alike": True}])
def test_every_criterion_reaches_the_size(
    criterion: Any, options: Any, learned: tuple[NetworkSpec, nn.Module], digits: Images, engine: Engine
) -> None:
    before = {name: value.clone() for name, value in learned[1].state_dict().items()}
    found = half(learned, digits, engine, criterion, estimate=criterion == "l1", **options)
    parameters = sum(weight.numel() for weight in found.network.parameters())
    whole = size(learned[0], "params")
    assert 0.98 * 0.5 <= parameters / whole <= 0.5
    assert [step["parameters"] / whole for step in found.steps] == pytest.approx(
        [0.5 ** (step / len(found.steps)) for step in range(1, len(found.steps) + 1)], rel=0.02
    )
    rebuilt = NetworkSpec.model_validate_json(found.spec.model_dump_json()).build()
    rebuilt.load_state_dict(found.network.state_dict())
    if options.get("alike"):
        shares = [after / before for after, before in zip(found.steps[-1]["widths"], found.before, strict=True)]
        assert max(shares) - min(shares) <= 2 / 16  # a channel of the smallest group, more or less, each
    assert all(torch.equal(value, before[name]) for name, value in learned[1].state_dict().items())


def test_those_of_the_highest_scores_stay_in_their_order(
    learned: tuple[NetworkSpec, nn.Module], digits: Images, engine: Engine
) -> None:
    spec, network = learned
    found = half(learned, digits, engine, {"name": "fisher", "per": "channel"})
    scores = group_importance(network, groups_to_shrink(spec, network), digits, engine)
    widths, least = widths_of(found.spec), narrowest(spec, 0.1)
    kept = {name: values.argsort()[-widths[name] :].sort().values for name, values in scores.items()}
    here = "groups.2.0.conv1"
    reads = next(
        group for group in groups_of(spec) if any(p.tensor == f"{here}.weight" and p.reads for p in group.places)
    )
    expected = network.state_dict()[f"{here}.weight"][kept[here]][:, kept[reads.name]]
    assert torch.equal(found.network.state_dict()[f"{here}.weight"], expected)

    ranked = {name: values.sort().values for name, values in scores.items()}
    left = torch.cat([values[: -widths[name]] for name, values in ranked.items()])
    stayed = torch.cat([values[-widths[name] :] for name, values in ranked.items() if widths[name] > least[name]])
    assert len(left) > 50
    assert (left > stayed.min()).sum() <= 1  # the last one, which is chosen by its size


def test_the_control_is_decided_by_its_seed(
    learned: tuple[NetworkSpec, nn.Module], digits: Images, engine: Engine
) -> None:
    groups = groups_to_shrink(*learned)
    one, same, other = (
        CRITERIA.parse("random").scores(Student(*learned, digits, engine, seed), groups) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[group.name], same[group.name]) for group in groups)
    assert not any(torch.equal(one[group.name], other[group.name]) for group in groups)


def test_the_norm_is_that_of_all_filters_of_a_group(engine: Engine) -> None:
    spec, network = drawn("wrn-16-1")
    state = network.state_dict()
    (group,) = (group for group in groups_of(spec) if group.name == "groups.1.0.conv2")
    scores = CRITERIA.parse("l1").scores(Student(spec, network, [], engine), [group])[group.name]
    writers = ("groups.1.0.conv2", "groups.1.0.shortcut", "groups.1.1.conv2")
    torch.testing.assert_close(scores, sum(state[f"{path}.weight"].abs().sum(dim=(1, 2, 3)) for path in writers))


def test_every_group_keeps_what_it_must_and_grows_again(
    learned: tuple[NetworkSpec, nn.Module], digits: Images, engine: Engine
) -> None:
    found = half(learned, digits, engine, ratio=0.05, least=0.15)
    few = narrowest(learned[0], 0.15)
    assert all(width >= few[name] for name, width in widths_of(found.spec).items())
    assert few["stem"] == 3
    assert narrowest(learned[0], 0.01)["stem"] == 2
    wider = widen(found.spec, found.network, "stem", 14)[1]
    torch.testing.assert_close(wider(digits[0][0]), found.network(digits[0][0]), rtol=1e-4, atol=1e-5)


class StoppedAfter(Checkpoints):
    """As if Ctrl-C were pressed in a round."""

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__(folder)
        self.last = last

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        if number == self.last:
            self.save(number, capture())
            raise Interrupted(2)


@pytest.mark.parametrize("last", [1, 3])
def test_it_goes_on_where_it_was_stopped(
    last: int, learned: tuple[NetworkSpec, nn.Module], digits: Images, engine: Engine, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"rounds": 3, "estimate": True}
    unbroken = half(learned, digits, engine, **options)
    with pytest.raises(Interrupted):
        half(learned, digits, engine, checkpoints=StoppedAfter(tmp_path, last), **options)
    found = half(learned, digits, engine, checkpoints=Checkpoints(tmp_path), **options)
    assert found.told() == unbroken.told()
    ours, theirs = found.network.state_dict(), unbroken.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_criterion_that_leaves_channels_out_is_told(engine: Engine) -> None:
    class First(Criterion):
        def scores(self, student: Student, groups: Any) -> dict[str, torch.Tensor]:
            return {groups[0].name: torch.ones(groups[0].width), groups[1].name: torch.ones(3)}

    First.registered_name = "first"
    spec, network = drawn("mlp-8-8")
    told = "the criterion 'first' must score each of the 8 channels of 'hidden.1.0' with a finite number"
    with pytest.raises(UserError, match=told):
        shrink(Student(spec, network, few(), engine), First(), lambda _: 2.0)
