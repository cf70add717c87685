"""Networks for texts: counts in closed form, embeddings by another hand, and who else reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.distill.taps import output_shapes
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, NetworkSpec, load_spec, save_network
from nasdistill.models.exporters import EXPORTERS
from nasdistill.models.inspection import count_parameters, multiply_adds

TOKENS = 50


def network(**options: object) -> nn.Module:
    torch.manual_seed(0)
    given = {"name": "text-cnn", "vocabulary": TOKENS, "embedding": 6, "filters": 4, **options}
    return MODELS.parse(given).build((1, 1, 9), 3).eval()


def test_counts_in_closed_form() -> None:
    """V*E of the table; k*E*F + F of each width; 3F*C + C of the classifier. Multiply-adds: L*k*E*F, and 3F*C."""
    net = network()
    assert count_parameters(net) == TOKENS * 6 + (3 + 4 + 5) * 6 * 4 + 3 * 4 + 12 * 3 + 3
    assert multiply_adds(net, (1, 1, 9)) == 9 * (3 + 4 + 5) * 6 * 4 + 12 * 3
    assert count_parameters(network(projection=2)) == TOKENS * 6 + 6 * 2 + 12 * 2 * 4 + 3 * 4 + 12 * 3 + 3


def test_the_published_size() -> None:
    """Kim 2014: 300 numbers, 100 filters of 3, 4 and 5 tokens, so 360,300 weights beside the table."""
    model = MODELS.parse("text-cnn-300-100").for_vocabulary(10)
    assert count_parameters(model.build((1, 1, 20), 2)) == 3000 + 360_300 + 602


def test_the_forward_pass_by_one_dimensional_convolutions() -> None:
    net = network(widths=[2, 3])
    texts = torch.randint(0, TOKENS, (5, 1, 1, 9)).float()
    embedded = functional.embedding(texts[:, 0, 0].long(), net.embedding.table.weight)  # type: ignore[union-attr, arg-type]
    found = []
    for width, convolution in zip((2, 3), net.features.convolutions, strict=True):  # type: ignore[union-attr, arg-type]
        weight, bias = convolution[1].weight.squeeze(2), convolution[1].bias  # type: ignore[index]
        padded = functional.pad(embedded.transpose(1, 2), ((width - 1) // 2, width // 2))
        found.append(functional.conv1d(padded, weight, bias).relu().amax(2))
    expected = net.classifier(torch.cat(found, 1))  # type: ignore[operator]
    torch.testing.assert_close(net(texts), expected)
    torch.testing.assert_close(net(embedded.transpose(1, 2).unsqueeze(2)), expected)  # embeddings are read as they are


def test_its_feature_point_is_a_map_along_the_text() -> None:
    assert output_shapes(network(), ["features"], (1, 1, 9)) == {"features": (12, 1, 9)}


def test_what_it_cannot_read() -> None:
    with pytest.raises(UserError, match="texts of 1x1xLENGTH, got 3x8x8"):
        MODELS.parse({"name": "text-cnn", "vocabulary": 9}).build((3, 8, 8), 2)
    with pytest.raises(UserError, match="how many tokens there are"):
        MODELS.parse("text-cnn-4-2").build((1, 1, 8), 2)
    with pytest.raises(ValueError, match="embeddings of 5 numbers for a network whose own have 6"):
        network()(torch.zeros(1, 5, 1, 9))


def test_the_spec_carries_the_vocabulary(tmp_path: Path) -> None:
    vocabulary = ("<padding>", "<unknown>", "caf\u00e9", "\u4f60")
    spec = NetworkSpec(
        model={"name": "text-cnn", "vocabulary": 4, "embedding": 2}, shape=(1, 1, 4), classes=2, vocabulary=vocabulary
    )
    save_network(tmp_path, spec, spec.build())
    assert load_spec(tmp_path) == spec
    assert load_spec(tmp_path).tokens == 4
    assert "vocabulary" not in NetworkSpec(model="mlp-4", shape=(1, 1, 4), classes=2).model_dump(mode="json")


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_exports_read_tokens(format: str, tmp_path: Path) -> None:
    model = {"name": "text-cnn", "vocabulary": 4, "embedding": 3, "filters": 2, "projection": 2}
    spec = NetworkSpec(model=model, shape=(1, 1, 7), classes=3, vocabulary=("<padding>", "<unknown>", "a", "b"))
    told = EXPORTERS.parse(format).export(spec, spec.build().eval(), tmp_path)
    assert told["difference"] < 1e-5
    if format == "onnx":
        import json

        import onnx

        props = {prop.key: prop.value for prop in onnx.load(tmp_path / "network.onnx").metadata_props}
        assert json.loads(props["vocabulary"]) == ["<padding>", "<unknown>", "a", "b"]
