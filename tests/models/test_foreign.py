"""Networks from elsewhere become artifacts that compute what they computed before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from nasdistill.artifacts import open_artifact
from nasdistill.data.base import Normalisation
from nasdistill.data.preparation import load
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, load_network
from nasdistill.models.foreign import import_network, load_foreign

CIFAR = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261))


class Theirs(nn.Module):
    """Somebody else's WRN-10-1, written another way: other names, and the shortcut made before the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(TheirBlock(16, 16, 1), TheirBlock(16, 32, 2), TheirBlock(32, 64, 2))
        self.head = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.out = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.head(self.blocks(self.conv_in(x))))


class TheirBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None
        self.convA = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.convB = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bnA = nn.BatchNorm2d(before)
        self.bnB = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.bnA(x))
        branch = self.convB(functional.relu(self.bnB(self.convA(active))))
        return branch + (x if self.skip is None else self.skip(active))


@pytest.fixture
def theirs() -> nn.Module:
    """With statistics and weights of norms that a swap would show."""
    torch.manual_seed(0)
    network = Theirs()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def _import(file: Path, out: Path, model: str = "wrn-10-1") -> nn.Module:
    import_network(MODELS.parse(model), file, out, (3, 16, 16), 4, CIFAR, ("a", "b", "c", "d"))
    return load_network(out)[1]


def test_a_network_of_other_names_computes_the_same(tmp_path: Path, theirs: nn.Module) -> None:
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "w.pth"
    )
    ours = _import(tmp_path / "w.pth", tmp_path / "out")
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_the_artifact_says_what_it_is(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = MODELS.parse("wrn-10-1")
    network = model.build((3, 16, 16), 4)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    imported = import_network(
        model, tmp_path / "w.safetensors", tmp_path / "out", (3, 16, 16), 4, CIFAR, ("a", "b", "c", "d")
    )
    assert imported.choice.match.how == "name"
    manifest = open_artifact(tmp_path / "out").manifest
    assert (manifest.kind, manifest.stage, manifest.uses) == ("network", "import", "import")
    spec, again = load_network(tmp_path / "out")
    assert (spec.model, spec.shape, spec.classes, spec.labels) == (model, (3, 16, 16), 4, ("a", "b", "c", "d"))
    assert spec.normalisation == CIFAR
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    network = MODELS.parse("mlp-5").build((1, 2, 2), 3)
    save_file({name: value.half() for name, value in network.state_dict().items()}, tmp_path / "w")
    other = MODELS.parse("mlp-5").build((1, 2, 2), 3)
    load_foreign(other, tmp_path / "w")
    for name, value in other.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, network.state_dict()[name].half().float())


def _linear(value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"classifier.weight": value, "classifier.bias": torch.zeros(2)}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_single(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file(_linear(torch.tensor([[0.5], [-1.75]]).to(dtype)), tmp_path / "w")
    network = MODELS.parse({"name": "mlp", "hidden": []}).build((1, 1, 1), 2)
    load_foreign(network, tmp_path / "w")
    assert network.state_dict()["classifier.weight"].tolist() == [[0.5], [-1.75]]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.tensor([[1.0], [torch.nan]]), "has values that are no numbers"),
        (torch.tensor([[1.0], [torch.inf]]).half(), "has values that are no numbers"),
        (torch.tensor([[1.0], [torch.nan]]).to(torch.float8_e4m3fn), "has values that are no numbers"),
        (torch.tensor([[1.0], [1e300]], dtype=torch.float64), r"has values beyond torch.float32, up to 1.0e\+300"),
        (torch.tensor([[1], [2]]), "is torch.int64, where trained weights are floating-point"),
        (torch.tensor([[True], [False]]), "is torch.bool, where trained weights are floating-point"),
        (torch.tensor([[1.0], [2.0]]) + 0j, "is complex"),
    ],
)
def test_what_are_no_weights_are_refused_by_name(tmp_path: Path, value: torch.Tensor, problem: str) -> None:
    save_file(_linear(value), tmp_path / "w")
    network = MODELS.parse({"name": "mlp", "hidden": []}).build((1, 1, 1), 2)
    before = network.state_dict()["classifier.weight"].clone()
    with pytest.raises(UserError, match=f"w holds 'classifier.weight', which {problem}"):
        load_foreign(network, tmp_path / "w")
    assert torch.equal(network.state_dict()["classifier.weight"], before)


def test_what_is_not_taken_may_be_anything(tmp_path: Path) -> None:
    state = {f"net.{name}": value for name, value in _linear(torch.ones(2, 1)).items()}
    save_file({**state, "best": torch.tensor(torch.nan), "seen": torch.tensor(3)}, tmp_path / "w")
    network = MODELS.parse({"name": "mlp", "hidden": []}).build((1, 1, 1), 2)
    assert load_foreign(network, tmp_path / "w").left_out == {"best": (), "seen": ()}


def test_a_variance_below_zero_is_refused(tmp_path: Path) -> None:
    network = MODELS.parse("wrn-10-1").build((3, 16, 16), 4)
    save_file({**network.state_dict(), "norm.running_var": torch.full((64,), -1e-3)}, tmp_path / "w")
    with pytest.raises(UserError, match=r"w holds 'norm.running_var', which has variances below zero"):
        load_foreign(network, tmp_path / "w")


def test_a_mismatch_names_the_file_and_the_tensors_and_leaves_everything_alone(tmp_path: Path) -> None:
    save_file(MODELS.parse("wrn-10-1").build((3, 16, 16), 100).state_dict(), tmp_path / "w")
    with pytest.raises(UserError, match=r"w does not fit: classifier.weight is 100x64 in the file and 4x64"):
        _import(tmp_path / "w", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    network = MODELS.parse("wrn-10-1").build((3, 16, 16), 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError):
        load_foreign(network, tmp_path / "w")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_only_an_earlier_import_is_replaced(tmp_path: Path) -> None:
    save_file(MODELS.parse("wrn-10-1").build((3, 16, 16), 4).state_dict(), tmp_path / "w")
    _import(tmp_path / "w", tmp_path / "out")
    _import(tmp_path / "w", tmp_path / "out")
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="home holds something else"):
        _import(tmp_path / "w", precious)
    assert (precious / "thesis.tex").read_text() == "..."
    with pytest.raises(UserError, match="w is a file"):
        _import(tmp_path / "w", tmp_path / "w")
    with pytest.raises(UserError, match="lies in a finished artifact"):
        _import(tmp_path / "w", tmp_path / "out" / "more")


@pytest.mark.parametrize("labels", [("a", "b", "b", "c"), ("a", "b", "c", "")])
def test_each_class_has_a_name_of_its_own(tmp_path: Path, labels: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="each class has a name of its own"):
        import_network(MODELS.parse("mlp-5"), tmp_path / "w", tmp_path / "out", (3, 8, 8), 4, CIFAR, labels)


def test_labels_and_normalisation_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 labels were given for 4 classes"):
        import_network(MODELS.parse("mlp-5"), tmp_path / "w", tmp_path / "out", (3, 8, 8), 4, CIFAR, ("a", "b"))
    with pytest.raises(UserError, match="3 means and 3 deviations, and an input of 1x8x8 has 1 channels"):
        import_network(MODELS.parse("mlp-5"), tmp_path / "w", tmp_path / "out", (1, 8, 8), 4, CIFAR)


@pytest.mark.shared
@pytest.mark.parametrize(("model", "accuracy"), [("wrn-16-2", 94.00), ("wrn-40-1", 93.15)])
def test_trained_teachers_score_what_was_measured_elsewhere(tmp_path: Path, model: str, accuracy: float) -> None:
    from nasdistill.data.base import DATASETS

    weights = Path(os.environ["NASDISTILL_CHECKPOINTS"]) / f"cifar10-{model}.pth"
    imported = import_network(MODELS.parse(model), weights, tmp_path / "out", (3, 32, 32), 10, CIFAR)
    assert imported.choice.match.how == "order"
    network = load_network(tmp_path / "out")[1].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = load(DATASETS.parse({"name": "cifar10", "root": os.environ["NASDISTILL_DATA"]}), 0)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (CIFAR.mean, CIFAR.std))
    right = 0
    with torch.no_grad():
        for images, labels in zip(data.test.images.split(250), data.test.labels.split(250), strict=True):
            batch = ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            right += int((network(batch).argmax(1) == labels).sum())
    assert right / len(data.test) * 100 == pytest.approx(accuracy, abs=0.05)
