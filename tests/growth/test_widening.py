"""Net2Wider: a widened network computes what it did before, for every operation and at every boundary of cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.growth.widening import widen
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.operations import OPERATIONS
from tests.growth.parts import draw_norms


def darts(**options: object) -> tuple[NetworkSpec, nn.Module]:
    """A network in double precision whose every weight and statistic is drawn, so that no mistake hides behind a 1."""
    model = MODELS.parse({"name": "darts", "channels": 4, "cells": 6, "stem_multiplier": 1, **options})
    spec = NetworkSpec(model=model, shape=(3, 9, 9), classes=5)
    torch.manual_seed(0)
    network = spec.build().double().eval()
    draw_norms(network)
    return spec, network


def assert_same_function(before: nn.Module, after: nn.Module) -> None:
    images = torch.randn(3, 3, 9, 9, dtype=torch.float64)
    expected = before(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(after(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("genotype", ["DARTS_V1", "DARTS_V2"])
@pytest.mark.parametrize("cell", range(6))  # cells 2 and 4 reduce: every boundary, the stem's and the classifier's too
@pytest.mark.parametrize("grown", [5, 6, 11])
def test_the_published_cells_compute_the_same(genotype: str, cell: int, grown: int) -> None:
    spec, network = darts(genotype=genotype, widths=(4,) * 6)
    wider_spec, wider = widen(spec, network, f"cells.{cell}", grown, generator=torch.Generator().manual_seed(cell))
    assert wider_spec.model.cell_widths()[cell] == grown
    assert_same_function(network, wider)


@pytest.mark.parametrize("operation", sorted({*OPERATIONS.names()} - {"noise"}))  # which is drawn anew each time
def test_every_operation_computes_the_same(operation: str) -> None:
    edge, residual = (operation, 0), ("skip_connect", 1)
    nodes = ((edge, residual), ((operation, 1), (operation, 2)))
    spec, network = darts(genotype={"normal": nodes, "reduce": nodes})
    for cell, width in enumerate(spec.model.cell_widths()):
        assert_same_function(network, widen(spec, network, f"cells.{cell}", width + 3)[1])


def test_odd_widths_and_all_cells_after_each_other() -> None:
    spec, network = darts(genotype="DARTS_V2", widths=(3, 4, 5, 7, 2, 3))
    grown_spec, grown = spec, network
    generator = torch.Generator().manual_seed(1)
    for cell, width in enumerate((4, 7, 6, 9, 5, 8)):
        grown_spec, grown = widen(grown_spec, grown, f"cells.{cell}", width, generator=generator)
    assert grown_spec.model.widths == (4, 7, 6, 9, 5, 8)
    assert_same_function(network, grown)


def test_the_auxiliary_head_computes_the_same() -> None:
    spec, network = darts(genotype="DARTS_V1", auxiliary=True)
    _spec, grown = widen(spec, network, "cells.4", 21)  # the head reads the cell at 2/3 of the depth
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(grown.forward_with_auxiliary(images)[1], network.forward_with_auxiliary(images)[1])


def test_given_sources_are_copied() -> None:
    spec, network = darts(genotype="DARTS_V2", widths=(4,) * 6)
    sources = torch.tensor([0, 1, 1, 1, 2, 3, 3, 3])
    _spec, grown = widen(spec, network, "cells.1", 8, sources=lambda _group, _width: sources)
    assert torch.equal(grown.cells[1].preprocess1[1].weight, network.cells[1].preprocess1[1].weight[sources])
    assert_same_function(network, grown)


def test_noise_moves_only_copies_and_only_a_little() -> None:
    spec, network = darts(genotype="DARTS_V2", widths=(16,) * 6)
    generator = torch.Generator().manual_seed(0)
    _spec, exact = widen(spec, network, "cells.1", 32, generator=generator)
    generator.manual_seed(0)
    _spec, noisy = widen(spec, network, "cells.1", 32, noise=1e-3, generator=generator)
    before, after = exact.cells[1].preprocess1[1].weight, noisy.cells[1].preprocess1[1].weight
    moved = (after - before).abs().sum(dim=(1, 2, 3)) > 0
    assert moved.sum() == 16
    spread = (after - before)[moved].std() / network.cells[1].preprocess1[1].weight.std()
    assert 0.8e-3 < spread < 1.2e-3
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    assert 0 < (noisy(images) - network(images)).abs().max() < 0.05 * network(images).abs().max()


def test_the_network_keeps_its_mode_and_precision_and_the_old_one_its_weights() -> None:
    spec, network = darts(genotype="DARTS_V1")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _spec, grown = widen(spec, network.train(), "cells.0", 5, noise=1.0)
    assert grown.training
    assert {parameter.dtype for parameter in grown.parameters()} == {torch.float64}
    assert all(parameter.requires_grad for parameter in grown.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
