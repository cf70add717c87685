"""Networks that were trained elsewhere: their weights become an artifact that every stage can read."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

import nasdistill
from nasdistill.artifacts import MANIFEST, Artifact, open_artifact, publish, refuse_inside
from nasdistill.component import classes_in
from nasdistill.data.base import Normalisation, Shape
from nasdistill.errors import UserError
from nasdistill.models.base import Model, NetworkSpec, save_network
from nasdistill.models.choosing import EVERYTHING, Choice, Wanted, choose
from nasdistill.models.inspection import count_parameters, multiply_adds, size_bytes
from nasdistill.models.reading import ForeignTensors, read_tensors
from nasdistill.storage import sha256_of, sha256_of_json
from nasdistill.versions import origins

USES = "import"

# A checkpoint may hold the weights in double precision, averaged weights, an optimiser's two moments, and a teacher.
_TIMES_THE_WEIGHTS = 8
_SPARE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Imported:
    """The artifact that an import wrote, and which tensors of the file it took."""

    artifact: Artifact
    choice: Choice


def tensors_for(network: nn.Module, path: Path) -> ForeignTensors:
    """The tensors of a file that may hold the weights of `network`, see `read_tensors`."""
    return read_tensors(path, _TIMES_THE_WEIGHTS * size_bytes(network) + _SPARE_BYTES)


def load_foreign(
    network: nn.Module, path: Path, wanted: Wanted = EVERYTHING, found: ForeignTensors | None = None
) -> Choice:
    """Put the weights of a safetensors file or a file of `torch.save` into `network`.

    Args:
        wanted: which of the file's tensors, where it holds more than one network.
        found: what the file holds, where that was read already.

    Raises:
        UserError: the file is unreadable, or its tensors do not fit or are no weights; `network` is as it was.
    """
    found = found or tensors_for(network, path)
    own = network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    try:
        choice = choose(found.shapes, found.dicts, shapes, found.in_order, wanted)
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    for pair in choice.match.pairs:
        problem = found.unusable.get(pair.theirs) or _problem(
            found.values[pair.theirs], own[pair.ours].dtype, pair.ours
        )
        if problem is not None:
            raise UserError(f"{path} holds {pair.theirs!r}, which {problem}")
    with torch.no_grad():
        for pair in choice.match.pairs:
            own[pair.ours].copy_(found.values[pair.theirs])
    return choice


def _problem(tensor: torch.Tensor, dtype: torch.dtype, ours: str) -> str | None:
    """What keeps a tensor from being the network's `ours` of type `dtype`, as the end of a sentence."""
    if dtype.is_floating_point and not tensor.is_floating_point():
        return f"is {tensor.dtype}, where trained weights are floating-point numbers"
    exact = tensor.double()  # not every type of a file knows what is finite
    if not exact.isfinite().all():
        return "has values that are no numbers (NaN or infinity)"
    if bool((exact.abs() > _largest(dtype)).any()):
        return f"has values beyond {dtype}, up to {float(exact.abs().max()):.1e}"
    if ours.rpartition(".")[2] == "running_var" and bool((exact < 0).any()):
        return "has variances below zero"
    return None


def _largest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max


def import_network(
    model: Model,
    weights: Path,
    out: Path,
    shape: Shape,
    classes: int,
    normalisation: Normalisation | None = None,
    labels: tuple[str, ...] | None = None,
    wanted: Wanted = EVERYTHING,
) -> Imported:
    """Write the artifact `out`, a network of `model` with the weights of a file.

    Args:
        shape: of the images that it was trained on.
        normalisation: what these images were normalised with; with none, a stage uses its data set's.
        labels: names of the classes, in order.
        wanted: which of the file's tensors, where it holds more than one network.

    Raises:
        UserError: the model does not exist for `shape`, the weights do not fit it, or `out` holds something else.
    """
    started = time.monotonic()
    _refuse_to_replace(out)
    if normalisation is not None and not len(normalisation.mean) == len(normalisation.std) == shape[0]:
        raise UserError(
            f"the normalisation has {len(normalisation.mean)} means and {len(normalisation.std)} deviations, "
            f"and an input of {'x'.join(map(str, shape))} has {shape[0]} channels"
        )
    if labels is not None and len(labels) != classes:
        raise UserError(f"{len(labels)} labels were given for {classes} classes")
    names = labels or ()
    for name in names:
        if not name or names.count(name) > 1:
            raise UserError(f"each class has a name of its own, got {name!r} {'more than once' if name else 'for one'}")
    spec = NetworkSpec(model=model, shape=shape, classes=classes, labels=labels, normalisation=normalisation)
    network = spec.build()
    choice = load_foreign(network, weights, wanted)
    found = choice.match
    taken = {"file": weights.name, "sha256": sha256_of(weights), **asdict(wanted)}
    config = {**spec.model_dump(mode="json"), "weights": taken}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        payload = Path(folder) / "payload"
        save_network(payload, spec, network)
        artifact = publish(
            payload,
            out,
            kind="network",
            stage=USES,
            uses=USES,
            key=sha256_of_json(config),
            config=config,
            inputs={},
            seed=0,
            metrics={"parameters": count_parameters(network), "multiply_adds": multiply_adds(network, shape)},
            cost={"seconds": time.monotonic() - started},
            provenance={
                "versions": {"nasdistill": nasdistill.__version__, "torch": torch.__version__},
                "matched": {"by": found.how, "names": {pair.ours: pair.theirs for pair in found.pairs}},
                "left_out": list(choice.left_out),
                "plugins": origins(classes_in(spec)),
            },
        )
    return Imported(artifact, choice)


def _refuse_to_replace(out: Path) -> None:
    """Refuse a place that holds anything but an earlier import.

    Raises:
        UserError: publishing there would delete it.
    """
    refuse_inside(out.parent)
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; name a folder that does not exist yet")
    if not any(out.iterdir()):
        return
    found = open_artifact(out, verify=False) if (out / MANIFEST).is_file() else None
    if found is None or found.manifest.uses != USES or not found.untouched():
        raise UserError(f"{out} holds something else than an imported network; name a folder that does not exist yet")
