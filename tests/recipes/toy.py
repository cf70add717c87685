"""Toy components: a recipe that runs in milliseconds, so that every way to break it can be tried."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from nasdistill.data.base import DATASETS, Data, DataSet
from nasdistill.stages import STAGES, Context, Inputs, Outcome, Reference, Stage
from nasdistill.storage import read_json, save_state, write_json
from nasdistill.training.checkpoints import random_state, set_random_state


@DATASETS.register("toy-data")
class ToyData(DataSet):
    """No images at all."""

    access = frozenset({"root", "download"})

    salt: str = Field("", description="stands for the bytes")
    root: str = Field("", description="where the bytes would lie")
    download: bool = Field(False, description="whether they would be fetched")

    def fingerprint(self) -> str:
        return f"bytes {self.salt}"

    def load(self, seed: int) -> Data:
        raise AssertionError("a toy stage reads no images")


@STAGES.register("toy-walk")
class Walk(Stage):
    """A random walk: each step depends on the ones before, as in training."""

    makes: ClassVar[str] = "architecture"
    steps: int = Field(5, gt=0, description="length of the walk")

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        torch.manual_seed(context.seed)
        position, done = torch.zeros(3), 0
        checkpoints = context.checkpoints()
        state = checkpoints.load()
        if state is not None:
            position, done = state["position"], state["done"]
            set_random_state(state["random"])

        def capture() -> dict[str, object]:
            return {"position": position, "done": done, "random": random_state()}

        while done < self.steps:
            position = position * 0.9 + torch.randn(3)
            done += 1
            checkpoints.step(done, capture)
        save_state(context.folder / "position.safetensors", {"position": position})
        return Outcome({"length": self.steps, "samples_per_second": 1.0})


@STAGES.register("toy-sum")
class Sum(Stage):
    """The sum of a walk's position."""

    makes: ClassVar[str] = "metrics"
    walk: Annotated[str, Reference("architecture")] = Field(description="a walk")
    scale: float = Field(1.0, description="what the sum is multiplied by")

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        write_json(context.folder / "sum.json", {"of": inputs["walk"].content, "scale": self.scale})
        return Outcome({"of": read_json(context.folder / "sum.json")["of"]})


RECIPE = """\
name: toy
seed: 1
data: toy-data
checkpoint_seconds: 1e-9
stages:
  - name: walk
    uses: toy-walk
    with: {steps: 4}
  - name: sum
    uses: toy-sum
    with:
      walk: walk
"""


@STAGES.register("toy-link")
class Link(Stage):
    """Makes what it reads, so that stages can be chained in a circle."""

    makes: ClassVar[str] = "architecture"
    walk: Annotated[str, Reference("architecture")] = Field(description="a walk")

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        write_json(context.folder / "link.json", inputs["walk"].content)
        return Outcome()
