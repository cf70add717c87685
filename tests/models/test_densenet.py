"""DenseNet-BC against the published counts."""

from __future__ import annotations

import pytest
import torch

from nasdistill.models.base import MODELS
from nasdistill.models.densenet import Layer
from nasdistill.models.inspection import count_parameters


def test_published_parameter_count() -> None:
    assert count_parameters(MODELS.parse("densenet-100-12").build((3, 32, 32), 10)) == 769_162


@pytest.mark.parametrize(("name", "millions"), [("densenet-250-24", 15.3), ("densenet-190-40", 25.6)])
def test_published_counts_of_the_large_ones(name: str, millions: float) -> None:
    """Table 2 of the paper."""
    with torch.device("meta"):
        network = MODELS.parse(name).build((3, 32, 32), 10)
    assert count_parameters(network) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_layer_passes_its_input_on_unchanged() -> None:
    x = torch.randn(2, 6, 4, 4)
    output = Layer(6, growth=3, dropout=0.0)(x)
    assert output.shape == (2, 9, 4, 4)
    assert torch.equal(output[:, :6], x)


def test_compression_decides_what_is_kept_between_blocks() -> None:
    """Growth 4, one layer a block, half kept: 8+4 -> 6, 6+4 -> 5, 5+4 into the classifier."""
    network = MODELS.parse("densenet-10-4").build((1, 8, 8), 3)
    assert network.get_submodule("classifier").in_features == 9
