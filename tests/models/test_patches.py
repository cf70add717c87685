"""Networks of patches: their blocks against torch's and against the papers' formulas, and sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.distill.matching import embedding_point
from nasdistill.distill.taps import Taps
from nasdistill.errors import SpecError, UserError
from nasdistill.models.adapted import with_outputs
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.models.patches import AttentionBlock, MixerBlock, attention


def test_the_transformer_has_the_size_of_deit_tiny() -> None:
    # Embedding, 64 positions, twelve blocks of 12 w^2 + 13 w, the last norm, and the head.
    block = 12 * 192**2 + 13 * 192
    counted = (3 * 16 + 1) * 192 + 64 * 192 + 12 * block + 2 * 192 + 193 * 10
    assert count_parameters(MODELS.parse("vit").build((3, 32, 32), 10)) == counted
    assert MODELS.parse("vit-192-12") == MODELS.parse("vit")


def test_an_attention_block_is_torchs() -> None:
    ours = AttentionBlock(12, 3, 4)
    theirs = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
    order = ("self_attn.in_proj_", "self_attn.out_proj.", "linear1.", "linear2.", "norm1.", "norm2.")
    names = ("queries_keys_values.", "projection.", "perceptron.0.", "perceptron.2.", "norm1.", "norm2.")
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    state = {
        our + kind: theirs.state_dict()[their + kind]
        for our, their in zip(names, order, strict=True)
        for kind in ("weight", "bias")
    }
    ours.load_state_dict(state)
    patches = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(patches), theirs(patches))


def test_attention_and_its_gradients_in_16_bits_are_the_fused_ones_in_32() -> None:
    exact = list(torch.randn(3, 2, 3, 7, 8).requires_grad_().unbind())
    rounded = [each.detach().bfloat16().requires_grad_() for each in exact]
    fused = functional.scaled_dot_product_attention(*exact)
    ours = attention(*rounded)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), fused, rtol=0.02, atol=0.02)
    slope = torch.randn(fused.shape)
    for found, expected in zip(
        torch.autograd.grad(ours, rounded, slope.bfloat16()), torch.autograd.grad(fused, exact, slope), strict=True
    ):
        torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_a_mixer_block_mixes_patches_and_then_channels() -> None:
    block = MixerBlock(6, 4, 3, 8)
    x = torch.randn(2, 4, 6)
    normed = block.norm1(x)
    over_patches = torch.stack([block.over_patches(normed[:, :, channel]) for channel in range(6)], dim=2)
    mixed = x + over_patches
    torch.testing.assert_close(block(x), mixed + block.over_channels(block.norm2(mixed)))


@pytest.mark.parametrize(("name", "points"), [("vit-12-6", (1, 3, 5)), ("mixer-8-2", (0, 1))])
def test_feature_points_are_maps_of_the_patches_where_they_lie(name: str, points: tuple[int, ...]) -> None:
    network = MODELS.parse(name).build((1, 8, 16), 3)
    assert network.feature_points == tuple(f"blocks.{number}" for number in points)
    seen = []
    network.blocks[0].block = nn.Identity()
    network.blocks[0].register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output)))
    network(torch.randn(2, 1, 8, 16))
    ((read, given),) = seen
    assert given.shape[2:] == (2, 4)
    assert torch.equal(read, given)


def with_token(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.parse({"name": "vit-12-3", "distillation_token": True})
    return model.build((1, 8, 16), classes)


def test_a_token_runs_through_the_blocks_beside_the_patches_and_answers_with_them() -> None:
    """Against the blocks one by one on plain rows of tokens, the token first."""
    network = with_token()
    nn.init.normal_(network.token)  # type: ignore[arg-type]
    images = torch.randn(2, 1, 8, 16)
    patches = (network.embedding(images) + network.positions).flatten(2).transpose(1, 2)  # type: ignore[operator]
    tokens = torch.cat([network.token.expand(2, 1, 12), patches], 1)  # type: ignore[operator]
    maps = []
    for block in network.blocks:  # type: ignore[union-attr]
        tokens = block.block(tokens)
        maps.append(tokens[:, 1:].transpose(1, 2).reshape(2, 12, 2, 4))
    normed = network.norm(tokens)  # type: ignore[operator]
    of_patches = network.classifier(normed[:, 1:].mean(1))  # type: ignore[operator]
    of_token = network.token_classifier(normed[:, 0])  # type: ignore[operator]
    for found, expected in zip(network.forward_with_auxiliary(images), (of_patches, of_token), strict=True):  # type: ignore[operator]
        torch.testing.assert_close(found, expected)
    with Taps(network, network.feature_points) as features:  # type: ignore[arg-type]
        torch.testing.assert_close(network(images), (of_patches + of_token) / 2)
    for found, expected in zip(features.values(), maps, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_token_adds_its_vector_and_a_classifier_and_leaves_the_other_weights_and_the_embedding() -> None:
    network = with_token()
    torch.manual_seed(0)
    without = MODELS.parse("vit-12-3").build((1, 8, 16), 3)
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in without.state_dict().items())
    assert count_parameters(network) - count_parameters(without) == 12 + 13 * 3
    assert embedding_point(network, (1, 8, 16)) == "classifier:input"


def test_fewer_classes_are_those_of_both_classifiers() -> None:
    spec = NetworkSpec(model={"name": "vit-12-3", "distillation_token": True}, shape=(1, 8, 16), classes=3)
    network = with_token()
    _, fewer = with_outputs(spec, network, [2, 0])
    images = torch.randn(2, 1, 8, 16)
    torch.testing.assert_close(fewer(images), network(images)[:, [2, 0]])


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="patches of 4x4, which 30x32 is no multiple of"):
        MODELS.parse("vit").build((3, 30, 32), 10)
    with pytest.raises(SpecError, match="5 heads cannot share a width of 192 evenly"):
        MODELS.parse({"name": "vit", "heads": 5})
