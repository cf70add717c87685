"""Stage `export`: a trained network alone, in formats of other programs."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from nasdistill.component import listed
from nasdistill.errors import SpecError, found_at
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Stage
from nasdistill.stages.networks import data_as_trained, network_for

if TYPE_CHECKING:
    import torch

    from nasdistill.data.base import Data, DataSet
    from nasdistill.models.base import NetworkSpec
    from nasdistill.models.exporters import Exporter

log = logging.getLogger(__name__)


@STAGES.register("export")
class Export(Stage):
    """Write a trained network in formats of other programs, each checked against the network, scored and timed.

    The check is on random images. Where the recipe has the network's data, each file is scored on the test images by
    the runtime that the format is for. Latency is that of one image in one thread of that runtime. A model card tells
    all that, and how a file is loaded.
    """

    source: ClassVar[str] = (
        "the formats of ONNX and of torch.export; Mitchell et al. 2019, Model Cards (arXiv:1810.03993)"
    )
    makes: ClassVar[str] = "export"
    default_data: ClassVar[str] = "none"

    network: Annotated[str, Reference("network")] = Field(
        description="what to export: a stage or an artifact's folder with a trained network"
    )
    format: Annotated[list[Annotated[Any, ComponentOf("exporters")]], BeforeValidator(listed)] = Field(
        ["onnx"],
        min_length=1,
        validate_default=True,
        description="one format, or a list of them: onnx, onnx-int8, torch, openvino, executorch, packed",
    )
    evaluate: bool = Field(True, description="score each file on the test images, where there are any")

    def check_data(self, dataset: DataSet) -> None:
        from nasdistill.models.exporters import CalibratedExporter

        times = Counter(exporter.registered_name for exporter in self.format)
        for number, exporter in enumerate(self.format):
            name = exporter.registered_name
            if times[name] > 1:
                raise SpecError(f"{name!r} stands here twice, and both would write the same file", ("format", number))
            if isinstance(exporter, CalibratedExporter) and not dataset.has_images:
                raise SpecError(
                    f"{name!r} takes the ranges of activations from training images, and here are none; name the data "
                    "set that the network was trained on",
                    ("format", number),
                )

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.exported import Examination
        from nasdistill.models.inspection import described, runtime_latency_ms
        from nasdistill.models.model_card import CARD, Facts, model_card
        from nasdistill.readings import reading
        from nasdistill.storage import write_text

        spec, network = network_for("network", self.network, inputs, context, "trained")
        data = self._data(spec, context)
        sizes = described(network, spec.reads)
        examination = Examination(data, network, context.engine) if data and self.evaluate else None
        spec = spec.as_read()
        exports: dict[str, dict[str, Any]] = {}
        latencies: dict[str, float | None] = {}
        of_first: dict[str, Any] = {}
        for number, exporter in enumerate(self.format):
            with found_at("format", number):
                told = exporter.export(
                    spec, network, context.folder, **self._calibration(exporter, spec, data, context)
                )
                path = context.folder / told["file"]
                runtime, alone = exporter.load(path), exporter.load(path, threads=1)
            if runtime and alone:
                measured = functools.partial(runtime_latency_ms, alone, spec.shape)
                latencies[exporter.registered_name] = reading("latency", measured)
            if runtime and examination:
                found = examination.of(runtime, spec.shape[1:])
                told |= {"accuracy": found.score.accuracy, "agreement": found.agreement}
                if number == 0:
                    of_first = found.score.without_epochs()
            exports[exporter.registered_name] = told
        facts = Facts(
            spec,
            sizes["parameters"],
            sizes["multiply_adds"],
            exports,
            latencies,
            _in_words(data, context) if data else "",
            examination.score.confusion if examination else None,
        )
        write_text(context.folder / CARD, model_card(facts))
        name = self.format[0].registered_name
        return Outcome(
            {
                **of_first,
                **sizes,
                "bytes": exports[name]["bytes"],
                "latency_ms": latencies.get(name),
                "exports": exports,
                "export_latency_ms": latencies,
            }
        )

    def _calibration(
        self, exporter: Exporter, spec: NetworkSpec, data: Data | None, context: Context
    ) -> dict[str, torch.Tensor]:
        """What an exporter is given beside the network."""
        from nasdistill.models.exported import calibration_images
        from nasdistill.models.exporters import CalibratedExporter

        if data is None or not isinstance(exporter, CalibratedExporter):
            return {}
        wanted = exporter.calibration_images, context.seed, context.engine
        return {"images": calibration_images(data, spec.shape[1:], *wanted)}

    def _data(self, spec: NetworkSpec, context: Context) -> Data | None:
        """The data that the network was made for, if the recipe has them."""
        if not context.dataset.has_images:
            return None
        try:
            return data_as_trained("network", self.network, spec, context.data)
        except SpecError as error:
            log.warning("files are not scored: %s", error)
            return None


def _in_words(data: Data, context: Context) -> str:
    """The data set, for the card: how large it is, and which, where that has a name."""
    known = context.data_identity
    name = f"{known['name']} (SHA-256 {known['fingerprint'][:12]}): " if "fingerprint" in known else ""
    return f"{name}{data!r}"
