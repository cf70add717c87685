"""Zero-shot transfer in several processes: each makes pseudo-images of its own, and all end with the same networks."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from nasdistill.storage import read_json
from tests.stages.parts import few_digits, network_artifact
from tests.together import torchrun


def test_two_processes_end_with_the_same_networks(tmp_path: Path) -> None:
    """Also where the generator starts over at a window's edge, which all must decide alike."""
    network_artifact(tmp_path / "teacher", few_digits(), "wrn-10-1")
    torchrun("tests.zero_shot.shared_out", tmp_path)
    first, second = (load_file(tmp_path / f"rank-{rank}") for rank in range(2))
    ours, theirs = (each.pop("latents") for each in (first, second))
    assert ours.shape == theirs.shape == (7, 8, 8), "seven generator steps on half of the 16 images, each of 8 numbers"
    assert not any(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    for name, value in first.items():
        # Each process counts the statistics of the pseudo-images that it makes; nobody reads them.
        if not (name.startswith("generator.norm") and "running" in name):
            assert torch.equal(value, second[name]), name
    folder = tmp_path / "out" / "stages" / "zero-shot"
    written = load_file(folder / "weights.safetensors")
    assert all(torch.equal(value, first[name]) for name, value in written.items())
    (picture,) = read_json(folder / "pseudo.json")["pictures"]
    assert sum(picture["student"]) == sum(picture["teacher"]) == 7 * 16, "answers of both processes"
    assert read_json(folder / "artifact.json")["metrics"]["collapses"] == [2]
