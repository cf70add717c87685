"""A transfer that is killed or stopped ends with the same bits as one that is not."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasdistill import interrupts
from nasdistill.data.base import Normalisation
from nasdistill.errors import Interrupted
from nasdistill.interrupts import polite_stops
from nasdistill.storage import load_state, save_state
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.records import Records
from nasdistill.zero_shot.pictures import described
from nasdistill.zero_shot.transfer import transfer
from tests.children import InAChild
from tests.training.parts import FixedBatches, blobs, engine
from tests.training.test_resume import differences
from tests.zero_shot.parts import CLASSES, GENERATOR, SEED, SHAPE, loop, network

ITERATIONS, WINDOW, EVALUATION = 10, 4, 5
END = "end.safetensors"


class MortalCheckpoints(Checkpoints):
    """Saves every so many iterations; sends this process a signal after one, before that is saved."""

    def __init__(self, folder: Path, every: int, dies_after: int, number: int = signal.SIGKILL) -> None:
        super().__init__(folder)
        self.every, self.dies_after, self.signal_number = every, dies_after, number

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        if number == self.dies_after:
            os.kill(os.getpid(), self.signal_number)
        self.every_seconds = 0 if number % self.every == 0 else math.inf
        super().step(number, capture)


WAYS: dict[str, dict[str, Any]] = {
    "2019": {"generator": {**GENERATOR, "spectral_norm": True}},
    # The ring of three pseudo-batches goes round; files of ten images and of fewer are partly out of date.
    "bank": {
        "generator": GENERATOR,
        "bank": 24,
        "bank_every": 1,
        "bank_share": 0.5,
        "augmentations": [{"name": "crop", "padding": 1}, "flip"],
    },
    # Common weights with moments, latents, running statistics, and a generator that starts over on its own as well.
    "common weights": {
        "generator": {**GENERATOR, "name": "conditional", "embedding": 2, "sigmoid": True},
        "losses": ["adversarial", "class-prior", {"name": "batch-norm", "momentum": 0.9}],
        "adapt": "fomaml",
        "latent_speed": 2,
        "start_over_every": 7,
    },
    "noisy layers": {
        "generator": {"name": "noisy-layer", "width": 6, "channels": 4},
        "losses": ["class-prior", {"name": "contrastive", "memory": 20, "embedding": 3}],
        "start_over_every": 3,
        "images": "best",
        "bank": 16,
    },
}


def go(folder: Path, way: str, every: int = 1, dies_after: int = -1, number: int = signal.SIGKILL) -> None:
    """A transfer with all that must survive, from the start or from where it was; writes how it ended.

    Dropout, spectral normalisation, two batch norms, moments of Adam, unfinished windows, evaluations, pictures, steps
    by a schedule, and a generator that starts over with the first window, as every window counts as a collapse.
    """
    given = WAYS[way]
    if given["generator"]["name"] == "noisy-layer":
        np.save(folder / "names.npy", np.linspace(-1, 1, CLASSES * 4).reshape(CLASSES, 4) ** 3)
        given = {**given, "generator": {**given["generator"], "embeddings": str(folder / "names.npy")}}
    made = loop(
        *(network(1, dropout=0.5), network(2, channels=6)),
        normalisation=Normalisation(mean=(0.4,), std=(0.3,)),
        **given,
        pseudo_batches=ITERATIONS,
        generator_steps={0: 1, 0.5: 2},
        watch_every=WINDOW,
        evaluate_every=EVALUATION,
        pictures=3,
        collapse_below=0.999,
        on_collapse="restart",
    )
    images, labels = blobs(6 * 16, CLASSES)
    test = FixedBatches(images.view(6, *SHAPE), labels[:6], 6)
    checkpoints = MortalCheckpoints(folder / "checkpoints", every, dies_after, number)
    records = Records(folder / "tensorboard", "mortal", quiet=True)
    with polite_stops():
        course = transfer(made.task, made.generation, made.settings, engine(), SEED, test, checkpoints, records)
    assert course.collapses == [WINDOW]
    weights = {"task": made.task.state_dict(), "generation": made.generation.state_dict()}
    timeless = {"seconds": 0, "over_time": [accuracy for _seconds, accuracy in course.over_time]}
    told = {"course": {**vars(course), **timeless}, "pseudo.json": described(course.pictures, ["a", "b", "c"])}
    save_state(folder / END, {**weights, **told})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The same for parents and for children, which have no more: the order of sums decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def unbroken(way: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("unbroken")
    go(folder, way)
    return load_state(folder / END)


@pytest.mark.parametrize(
    ("every", "kills"),
    [
        # Nothing saved yet; inside a window; after its edge and the generator's new start; after an evaluation; late.
        (3, (2, 4, 5, 8)),
        # From the very state after the new start, after an evaluation, of the last iteration.
        (1, (WINDOW + 1, EVALUATION + 1, ITERATIONS)),
    ],
)
def test_kills_change_no_bit(
    unbroken: dict[str, Any], way: str, every: int, kills: tuple[int, ...], in_a_child: InAChild, tmp_path: Path
) -> None:
    for kill in kills:
        status = in_a_child(lambda kill=kill: go(tmp_path, way, every, kill))
        assert os.WTERMSIG(status) == signal.SIGKILL
        newest = max((tmp_path / "checkpoints").glob("*.safetensors"), default=None)
        assert (0 if newest is None else int(newest.name.split("-")[0])) == (kill - 1) // every * every
    assert in_a_child(lambda: go(tmp_path, way, every)) == 0
    assert differences(unbroken, load_state(tmp_path / END)) == []


def test_short_pieces_are_one_run(unbroken: dict[str, Any], way: str, tmp_path: Path) -> None:
    """A stop is asked for politely after every third iteration: no iteration is lost or done twice."""
    for stop in (3, 6, 9):
        with pytest.raises(Interrupted):
            go(tmp_path, way, ITERATIONS + 1, stop, signal.SIGTERM)
        newest = max((tmp_path / "checkpoints").glob("*.safetensors"))
        assert int(newest.name.split("-")[0]) == stop
    go(tmp_path, way, ITERATIONS + 1)
    assert interrupts.requested_stop() is None
    assert differences(unbroken, load_state(tmp_path / END)) == []
