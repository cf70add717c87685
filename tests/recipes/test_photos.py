"""The recipes for a folder of photographs, on a few coloured noise pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasdistill.cli.main import main
from nasdistill.models.base import MODELS
from nasdistill.recipes.loading import load_recipe
from nasdistill.storage import read_json
from tests.data.fakes import write_picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(36):
        name = ("cat", "dog", "emu")[number % 3]
        write_picture(tmp_path / "photos" / name / f"{number}.png", seed=number, size=(20, 24))
    return tmp_path / "photos"


@pytest.fixture
def pretrained(tmp_path: Path) -> str:
    """Gives the recipes a pretrained network: a small one of torchvision, with weights that were only drawn."""
    weights = tmp_path / "shufflenet_v2_x0_5.pth"
    torch.save(MODELS.parse("torchvision:shufflenet_v2_x0_5").build((3, 32, 32), 7).state_dict(), weights)
    return f"stages.tuned.model={{name: torchvision, architecture: shufflenet_v2_x0_5, pretrained: {weights}}}"


@pytest.mark.parametrize("name", ["photos", "photos-quick", "photos-compared"])
def test_they_need_nothing_that_an_extra_brings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdistill.extras.find_spec", lambda _name: None)
    assert "tuned" in load_recipe(name).stages


@pytest.mark.slow
def test_the_plan_goes_with_and_without_pretrained_weights(
    photos: Path, pretrained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = ["run", "photos-quick", f"data.root={photos}", "data.size=32", "--out", str(tmp_path / "run"), "--dry-run"]
    assert main(begin) == 0
    assert "3 of 3 stages to do" in capsys.readouterr().out
    assert main([*begin, pretrained]) == 0
    assert "7 of 7 stages to do" in capsys.readouterr().out


@pytest.mark.slow
def test_the_student_is_cut_out_of_the_fine_tuned_network(photos: Path, pretrained: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = [pretrained, "data.size=32", "stages.arch.network=wrn-10-1@16", "budget.parameters=60k"]
    small += ["stages.tuned,student,plain.epochs=1", "stages.product.format=onnx"]  # 8 bits are too few for noise
    assert main(["run", "photos", f"data.root={photos}", "--out", str(out), *small]) == 0
    kept = read_json(out / "stages" / "student" / "artifact.json")["metrics"]["parameters"]
    assert 50_000 < kept <= 60_000
    assert (out / "stages" / "product" / "network.onnx").is_file()


@pytest.mark.slow
def test_photos_from_scratch_from_the_folder_to_the_file(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ["data.size=24", "stages.arch.network=wrn-10-1@16", "budget.parameters=15k"]
    short = ["stages.grown,plain,alone,student.epochs=1"]
    assert main(["run", "photos-from-scratch", f"data.root={photos}", "--out", str(out), *small, *short]) == 0
    assert {path.name for path in (out / "stages" / "product").iterdir()} >= {"network.onnx", "network-int8.onnx"}
    page = (out / "report.html").read_text()
    assert "Worst mistakes" in page
    assert main(["predict", str(out / "stages" / "product" / "network-int8.onnx"), str(photos), "--json"]) == 0
