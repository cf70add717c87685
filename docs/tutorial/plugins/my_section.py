"""A stage that measures how bright the images of each class are, and the section that shows it in the report."""

from __future__ import annotations

from pydantic import Field

from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.records import Row
from nasdistill.report.sections import SECTIONS, Section
from nasdistill.stages import STAGES, Context, Inputs, Outcome, Stage
from nasdistill.storage import write_json


class Brightness(Payload):
    """`brightness.json`: the mean pixel of each class of the test images."""

    file = "brightness.json"

    classes: dict[str, float] = Field(min_length=1, description="From 0, black, to 1, by class.")


@STAGES.register("brightness")
class MeasureBrightness(Stage):
    """Measure how bright the test images of each class are."""

    makes = "metrics"

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        data = context.data
        means = [data.test.images[data.test.labels == label].float().mean() / 255 for label in range(len(data.classes))]
        found = dict(zip(data.classes, map(float, means), strict=True))
        write_json(context.folder / Brightness.file, {"classes": found})
        return Outcome({"brightest": max(found, key=found.__getitem__)})


@SECTIONS.register("brightness")
class BrightnessOfClasses(Section):
    """The mean pixel of each class, as bars."""

    title = "How bright the classes are"
    lead = "The mean pixel of the test images of each class: 0 is black, 1 is white."
    payload = Brightness

    def of_seed(self, heading: str, payload: Brightness, row: Row) -> list[Group]:
        from nasdistill.report.plots import bars  # matplotlib is needed for pictures alone

        means = {"mean": list(payload.classes.values())}
        return [Group(heading, (bars(means, list(payload.classes), heading, "class", ""),))]
