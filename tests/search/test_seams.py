"""What a search of cells is put together from: samplers, edges, regularisers; and what their mistakes are called."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Data
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError, UserError
from nasdistill.models import memory_limit
from nasdistill.models.genotypes import Genotype
from nasdistill.registry import build, registry
from nasdistill.search.edges import EDGES
from nasdistill.search.fan import Convolutions, Fan, of_edges
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.regularisers import REGULARISERS, Regulariser
from nasdistill.search.samplers import SAMPLERS, Sampler
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.search.supernet import Supernet
from nasdistill.stages import STAGES
from tests.search.parts import Every, Killed, engine

SPACE = SPACES.parse(
    {
        "name": "custom",
        "operations": ["none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_3x3"],
        "nodes": 2,
        "search_channels": 8,
        "search_cells": 3,
        "stem_multiplier": 1,
    }
)
TRAINING = Moment(0.5, "training")
ALPHAS = torch.tensor([[0.0, 1.0, -0.5], [2.0, 0.0, 0.3]])


def many(sampler: Sampler, moment: Moment = TRAINING, count: int = 4000) -> torch.Tensor:
    torch.manual_seed(0)
    return sampler.weights(ALPHAS.repeat(count, 1), moment).view(count, *ALPHAS.shape)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_without_a_half_nothing_is_drawn(name: str) -> None:
    sampler, state = SAMPLERS.parse(name), torch.get_rng_state()
    assert torch.equal(sampler.weights(ALPHAS, Moment(0.5)), sampler.weights(ALPHAS, Moment(0.5)))
    assert torch.equal(torch.get_rng_state(), state)


def test_softmax_and_sigmoid_are_closed_forms_with_their_gradients() -> None:
    alphas = ALPHAS.clone().requires_grad_()
    weights = SAMPLERS.parse("sigmoid").weights(alphas, TRAINING)
    assert weights.tolist() == [[pytest.approx(1 / (1 + math.exp(-a))) for a in row] for row in ALPHAS.tolist()]
    (gradient,) = torch.autograd.grad(weights.sum(), alphas)
    torch.testing.assert_close(gradient, weights * (1 - weights))
    exponentials = [[math.exp(a) for a in row] for row in ALPHAS.tolist()]
    expected = [[pytest.approx(e / sum(row)) for e in row] for row in exponentials]
    assert SAMPLERS.parse("softmax").weights(ALPHAS, TRAINING).tolist() == expected


def test_a_hard_gumbel_sample_draws_by_the_softmax_and_has_the_gradient_of_the_soft_one() -> None:
    hard = SAMPLERS.parse({"name": "gumbel", "temperature": 2, "temperature_end": 1})
    drawn = many(hard)
    assert torch.equal(drawn.ne(0).sum(dim=2), torch.ones(4000, 2, dtype=torch.int64))
    # 4000 draws: five standard deviations of a share are at most 0.04.
    torch.testing.assert_close(drawn.mean(dim=0), ALPHAS.softmax(dim=1), atol=0.04, rtol=0)
    gradients = []
    for sampler in (hard, SAMPLERS.parse({"name": "gumbel", "temperature": 2, "temperature_end": 1, "hard": False})):
        torch.manual_seed(1)
        alphas = ALPHAS.clone().requires_grad_()
        gradients.append(torch.autograd.grad(sampler.weights(alphas, TRAINING)[:, 0].sum(), alphas)[0])
    torch.testing.assert_close(*gradients)


def test_a_soft_gumbel_sample_goes_from_uniform_to_one_hot_with_its_temperature() -> None:
    hot = SAMPLERS.parse({"name": "gumbel", "temperature": 1e4, "temperature_end": 1e-3, "hard": False})
    torch.testing.assert_close(many(hot, Moment(0.0, "training")), torch.full((4000, 2, 3), 1 / 3), atol=1e-2, rtol=0)
    cold = many(hot, Moment(1.0, "training")).amax(dim=2)
    assert float((cold > 0.999).float().mean()) > 0.98
    assert hot.temperature_at(0.25) == pytest.approx(1e4 - 0.25 * (1e4 - 1e-3))
    with pytest.raises(SpecError, match="the temperature falls from 1"):
        SAMPLERS.parse({"name": "gumbel", "temperature": 1, "temperature_end": 2})


def test_dirichlet_samples_have_the_mean_and_variance_of_their_concentration() -> None:
    sampler = SAMPLERS.parse("dirichlet")
    concentration = torch.where(ALPHAS > 0, ALPHAS + 1, ALPHAS.exp())
    total = concentration.sum(dim=1, keepdim=True)
    mean = concentration / total
    torch.testing.assert_close(sampler.weights(ALPHAS, Moment()), mean)
    drawn = many(sampler)
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(dim=0), mean * (1 - mean) / (total + 1), atol=0.02, rtol=0)
    # The mean of the samples' gradients is the gradient of their mean.
    gradients = []
    for draw in (lambda alphas: many_of(sampler, alphas), lambda alphas: sampler.weights(alphas, Moment())):
        alphas = ALPHAS.clone().requires_grad_()
        gradients.append(torch.autograd.grad(draw(alphas)[:, 0].sum(), alphas)[0])
    torch.testing.assert_close(*gradients, atol=0.02, rtol=0)


def test_perturbed_weights_are_the_softmax_with_uniform_noise_while_weights_learn() -> None:
    sampler = SAMPLERS.parse({"name": "perturbed", "radius": 0.02, "radius_end": 0.08})
    torch.manual_seed(0)
    drawn = sampler.weights(ALPHAS, TRAINING)
    torch.manual_seed(0)
    expected = []
    for row, noise in zip(ALPHAS.softmax(dim=1).tolist(), torch.rand(2, 3).tolist(), strict=True):
        noisy = [max(0.0, weight + 0.05 * (2 * each - 1)) for weight, each in zip(row, noise, strict=True)]
        expected.append([pytest.approx(weight / sum(noisy)) for weight in noisy])
    assert drawn.tolist() == expected
    assert torch.equal(sampler.weights(ALPHAS, Moment(0.5, "validation")), ALPHAS.softmax(dim=1))
    # Noise in [-1, 1] on a third takes it below 0 in a third of the draws; two or three of three: 7 of 27.
    wide = SAMPLERS.parse({"name": "perturbed", "radius": 1, "radius_end": 1})
    torch.manual_seed(0)
    weights = wide.weights(torch.zeros(8000, 3), TRAINING)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(8000))
    assert float((weights.amax(dim=1) == 1).float().mean()) == pytest.approx(7 / 27, abs=0.02)


def many_of(sampler: Sampler, alphas: torch.Tensor, count: int = 4000) -> torch.Tensor:
    torch.manual_seed(0)
    return sampler.weights(alphas.repeat(count, 1), TRAINING).view(count, *alphas.shape).mean(dim=0)


def one_hot(drawn: list[int], size: int) -> Mixture:
    weights = functional.one_hot(torch.tensor(drawn), size).double().requires_grad_()
    return Mixture("normal", TRAINING, weights, weights, computed=weights.ne(0).tolist())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("drawn", [[0, 1, 2], [3, 3, 4], [4, 1, 3], [2, 2, 2], [0, 0, 0]])
def test_a_drawn_fan_is_the_dense_one_and_computes_nothing_else(drawn: list[int], stride: int) -> None:
    torch.manual_seed(0)
    fan = Fan(SPACE, 4, [SPACE.operations] * 3, stride).double()
    state = torch.randn(2, 4, 7, 7, dtype=torch.double)
    sparse, calls = one_hot(drawn, 5), []
    for name, operation in (*fan.separate.items(), *fan.shared.items()):
        operation.register_forward_hook(lambda _m, given, _out, name=name: calls.append((name, given[-1])))
    outputs = fan(state, sparse)
    expected = {SPACE.operations[column] for column in drawn} - {"none"}
    assert {name for name, _ in calls} == expected
    convolved = [edges for name, edges in calls if isinstance(dict(fan.separate.items()).get(name), Convolutions)]
    assert sum(map(len, convolved)) == sum(column >= 3 for column in drawn)
    dense = dataclasses.replace(sparse, computed=None)
    torch.testing.assert_close(outputs, fan(state, dense))
    if expected:
        direction = torch.randn_like(outputs)
        parameters = list(fan.parameters())
        both = [
            torch.autograd.grad(
                (fan(state, one) * direction).sum(),
                [*parameters, sparse.weights],
                materialize_grads=True,
                allow_unused=True,
            )
            for one in (sparse, dense)
        ]
        for gradient, same in zip(both[0][:-1], both[1][:-1], strict=True):
            torch.testing.assert_close(gradient, same)
        chosen = sparse.weights.detach().bool()
        torch.testing.assert_close(both[0][-1][chosen], both[1][-1][chosen])
        assert not both[0][-1][~chosen].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_edges_with_operations_of_their_own_are_those_edges_alone(stride: int) -> None:
    torch.manual_seed(0)
    offered = [("skip_connect", "sep_conv_3x3"), ("sep_conv_3x3", "max_pool_3x3"), ("none", "skip_connect")]
    fan = Fan(SPACE, 4, offered, stride).double()
    state, weights = torch.randn(2, 4, 7, 7, dtype=torch.double), torch.rand(3, 2, dtype=torch.double)
    together = fan(state, Mixture("normal", TRAINING, weights, weights)).chunk(3, dim=1)
    for edge, names in enumerate(offered):
        alone = Fan(SPACE, 4, [names], stride).double()
        for name, operation in alone.separate.items():
            offering = [other for other, _column in fan.places[name]]
            for one, all_of_them in zip(operation.parameters(), fan.separate[name].parameters(), strict=True):
                one.data = of_edges(all_of_them.data, len(offering), [offering.index(edge)])
        own = weights[edge : edge + 1]
        torch.testing.assert_close(together[edge], alone(state, Mixture("normal", TRAINING, own, own)))


def test_partial_channels_are_the_published_edge_with_its_shuffle() -> None:
    torch.manual_seed(0)
    fan: Any = EDGES.parse({"name": "partial", "divisor": 2}).fan(SPACE, 8, [SPACE.operations] * 2, stride=2).double()
    state = torch.randn(2, 8, 7, 7, dtype=torch.double)
    weights = torch.rand(2, 5, dtype=torch.double)
    mixture = Mixture("normal", TRAINING, weights, weights)
    inner = fan.fan(state[:, :4], mixture).chunk(2, dim=1)
    assert fan.fan.separate["sep_conv_3x3"].channels == 4
    passing = nn.MaxPool2d(2, 2, ceil_mode=True)(state[:, 4:])
    expected = [functional.channel_shuffle(torch.cat([mixed, passing], dim=1), 2) for mixed in inner]
    torch.testing.assert_close(fan(state, mixture), torch.cat(expected, dim=1))


def test_channels_that_cannot_be_divided_are_refused_before_anything_runs() -> None:
    config = {"space": "darts-tiny", "strategy": {"name": "darts", "edges": {"name": "partial", "divisor": 3}}}
    with pytest.raises(SpecError, match="its 8 channels do not divide into 3 equal parts of 2 or more"):
        build(STAGES.get("search"), config)


def test_normalised_edges_share_a_node_and_leave_the_entropy_of_operations() -> None:
    torch.manual_seed(0)
    supernet = Supernet(SPACE, (1, 8, 8), 10, edge_normalisation=True).double()
    assert len(supernet.alphas()) == 4
    with torch.no_grad():
        supernet.normal_edges.copy_(torch.tensor([0.0, math.log(3), 0.0, 0.0, math.log(2)]))
    normal, _ = supernet.mixture(Moment())
    assert normal.shares is not None
    assert normal.shares.tolist() == pytest.approx([1 / 4, 3 / 4, 1 / 4, 1 / 4, 1 / 2])
    assert normal.entropy() == pytest.approx(math.log(5), abs=1e-5)
    images = torch.randn(3, 1, 8, 8, dtype=torch.double)
    cell = next(cell for cell in supernet.cells if not cell.reduction)
    state = supernet.stem(images)
    # Two states, two nodes, three edges to the first states' sums, one from the first node to the second.
    one, other = cell.preprocess0(state), cell.preprocess1(state)
    plain = dataclasses.replace(normal, shares=None)
    fans = [
        fan(x, plain.of(rows)).chunk(len(rows), 1)
        for fan, rows, x in zip(cell.fans, cell.rows, (one, other), strict=False)
    ]
    first = fans[0][0] / 4 + 3 * fans[1][0] / 4
    last = cell.fans[2](first, plain.of(cell.rows[2]))
    expected = torch.cat([first, fans[0][1] / 4 + fans[1][1] / 4 + last / 2], dim=1)
    torch.testing.assert_close(cell(state, state, normal), expected)


def test_regularisers_are_their_closed_forms() -> None:
    alphas = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    mixture = Mixture("normal", TRAINING, alphas, torch.eye(5)[[1, 3]])
    decay = REGULARISERS.parse("beta-decay").loss(SPACE, mixture)
    assert float(decay) == pytest.approx(0.5 * (math.log(5) + math.log(4 + math.e)) / 2)
    zero_one = REGULARISERS.parse("zero-one").loss(SPACE, dataclasses.replace(mixture, weights=alphas))
    assert float(zero_one) == pytest.approx(-0.25)
    gates = dataclasses.replace(mixture, weights=torch.tensor([[0.5, 0.9]]))
    assert float(REGULARISERS.parse("zero-one").loss(SPACE, gates)) == pytest.approx(-0.08)
    # A separable convolution, 2 (3 * 3 C + C^2) parameters, is the largest; a skip connection has none.
    chosen = dataclasses.replace(mixture, weights=torch.eye(5)[[1, 3, 1, 3, 2]])
    assert float(REGULARISERS.parse("expected-parameters").loss(SPACE, chosen)) == pytest.approx(0.4)
    dilated = dataclasses.replace(mixture, weights=torch.eye(5)[[4] * 5])
    assert float(REGULARISERS.parse("expected-parameters").loss(SPACE, dilated)) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(64)))


ALL: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "sampler": "gumbel",
    "edges": {"name": "partial", "divisor": 2},
    "edge_normalisation": True,
    "regularisers": ["beta-decay", {"name": "expected-parameters", "weight": 0.1}],
    "selection": {"name": "capped-skips", "skips": 1},
}


@pytest.mark.parametrize("options", [ALL, {**ALL, "sampler": "dirichlet", "order": 2}])
def test_all_at_once_a_killed_search_ends_with_the_same_bits(
    data: Data, tmp_path: Path, options: dict[str, Any]
) -> None:
    strategy = build(DartsSearch, options)
    whole = Every(tmp_path / "whole")
    unbroken = strategy.search(SPACE, data, engine(), 3, whole)
    with pytest.raises(Killed):
        strategy.search(SPACE, data, engine(), 3, Every(tmp_path / "killed", 4))
    torch.manual_seed(99)
    resumed = Every(tmp_path / "killed")
    found = strategy.search(SPACE, data, engine(), 3, resumed)
    assert (found.model, found.history) == (unbroken.model, unbroken.history)
    states = [checkpoints.load() for checkpoints in (whole, resumed)]
    assert all(torch.equal(states[0]["supernet"][name], value) for name, value in states[1]["supernet"].items())
    curves = found.history["curves"]
    assert curves["regulariser/beta-decay"][-1][1] == pytest.approx(50 * 0.5 * math.log(5), rel=0.01)
    assert sum(curves[f"alpha/normal/{edge}/share of the node"][-1][1] for edge in (0, 1)) == pytest.approx(1)
    normal = Genotype.model_validate(found.model["genotype"]).normal
    assert sum(operation == "skip_connect" for node in normal for operation, _ in node) <= 1


class Flat(Sampler):
    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        return alphas.softmax(dim=1).mean(dim=1)


class Infinite(Sampler):
    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        return alphas / 0


class Vector(Regulariser):
    def loss(self, space: Any, mixture: Mixture) -> torch.Tensor:
        return mixture.weights.sum(dim=1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"sampler": Flat()},
            r"sampler 'Flat' \(Flat, .*test_seams.py, line \d+\) gave weights of the shape \[5\] for alphas",
        ),
        ({"sampler": Infinite()}, r"\(Infinite, .*test_seams.py, line \d+\) gave weights that are not finite"),
        (
            {"regularisers": [Vector()]},
            r"\(Vector, .*test_seams.py, line \d+\) must be a scalar tensor .*, got torch.float32 of shape \[5\]",
        ),
    ],
)
def test_mistakes_are_named_with_class_and_line(data: Data, option: dict[str, Any], message: str) -> None:
    strategy = build(DartsSearch, {"epochs": 1, "batch_size": 16, **option})
    with pytest.raises(UserError, match=message):
        strategy.search(SPACE, data, engine(), 3)


def test_a_supernet_that_no_memory_holds_is_refused_before_it_is_drawn(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limit, "LARGE", 1000)
    monkeypatch.setattr(memory_limit, "memory_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"and this machine has 1 kB of memory; choose a smaller one"):
        DartsSearch().learner(SPACE, data, engine(), 0)
