"""What a network costs as an ONNX file: its bytes, and the time of one image in onnxruntime on one thread."""

from __future__ import annotations

import functools
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nasdistill.component import classes_in
from nasdistill.depthwise.processor import processor
from nasdistill.models.base import NetworkSpec
from nasdistill.models.inspection import median_ms
from nasdistill.models.onnx_files import FILE, IMAGES, open_session
from nasdistill.models.portable import alone
from nasdistill.paths import user_cache
from nasdistill.registry import registry
from nasdistill.storage import read_json, sha256_of_json, write_json
from nasdistill.training.processes import all_reduce_max
from nasdistill.versions import version

SECONDS = 0.2
"""How long an exported network is timed."""


def exported_costs(spec: NetworkSpec) -> tuple[int, float]:
    """Bytes of the file that the exporter `onnx` writes, and milliseconds of one image in it.

    Raises:
        UserError: the network cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = spec.as_read()
        registry("exporters").parse("onnx").export(written, written.build().eval(), Path(folder))
        return _agreed(Path(folder, FILE).stat().st_size, _milliseconds(Path(folder, FILE), spec))


def estimated_costs(spec: NetworkSpec) -> tuple[int, float]:
    """The same in a tenth of the time, from torch's older exporter, which writes the same operations.

    Each is measured once on this machine and kept in the user's cache, by processor and version of onnxruntime.
    """
    import onnxruntime

    identity = [processor("model name"), onnxruntime.__version__, spec.model.spec(), spec.reads, spec.classes]
    kept = _table() / f"{sha256_of_json([*identity, version(classes_in(spec.model))])[:32]}.json"
    if kept.is_file():
        found = read_json(kept)
    else:
        with _quickly_exported(spec) as path:
            found = {"of": identity, "bytes": path.stat().st_size, "latency_ms": _milliseconds(path, spec)}
        write_json(kept, found)
    return _agreed(found["bytes"], found["latency_ms"])


def bytes_like(spec: NetworkSpec, like: NetworkSpec) -> int:
    """Bytes of the file that the exporter `onnx` writes, told from that of `like`, which has the same layers.

    It is longer than the estimate by as much for all widths, to a few bytes.
    """
    return estimated_costs(spec)[0] + _added(like.model_dump_json())


@functools.lru_cache(maxsize=64)
def _added(spec: str) -> int:
    parsed = NetworkSpec.model_validate_json(spec)
    return exported_costs(parsed)[0] - estimated_costs(parsed)[0]


def _agreed(size: int, milliseconds: float) -> tuple[int, float]:
    """The most that any process found, so that all decide alike."""
    size, nanoseconds = all_reduce_max(size, round(1e6 * milliseconds))
    return size, nanoseconds / 1e6


@functools.cache
def _table() -> Path:
    return user_cache() / "onnx-costs"


@contextmanager
def _quickly_exported(spec: NetworkSpec) -> Iterator[Path]:
    network = alone(spec.model_copy(update={"shape": spec.reads}).build())
    quiet = logging.getLogger("torch.onnx")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = quiet.level
        quiet.setLevel(logging.ERROR)
        path = Path(folder, FILE)
        image = torch.zeros(1, *spec.reads)
        torch.onnx.export(network, (image,), str(path), dynamo=False, input_names=[IMAGES], opset_version=18)
        quiet.setLevel(before)
        yield path


def _milliseconds(path: Path, spec: NetworkSpec) -> float:
    """The median of one image after another, on one thread."""
    session = open_session(path, threads=1)
    image = {IMAGES: torch.zeros(1, *spec.reads).numpy()}
    return median_ms(lambda: session.run(None, image), SECONDS)
