"""Export of a binary network with one bit for each binary weight."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from nasdistill.errors import DamagedFile, UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.binary import BinaryLayer
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.portable import alone, check, metadata
from nasdistill.registry import build
from nasdistill.storage import write_bytes

if TYPE_CHECKING:
    from nasdistill.models.exporters import Runtime

FILE = "network-packed.safetensors"


@EXPORTERS.register("packed")
class Packed(Exporter):
    """`network-packed.safetensors`, a binary network in one bit for each binary weight; `load_packed` runs it.

    A binary layer at PATH has `PATH.bits`, the signs of its weights in row-major order, eight to a byte with the first
    in the highest bit (uint8, `numpy.unpackbits` reads them; 1 is +1), and `PATH.scale`, a float per filter. All other
    tensors are as trained. The file's metadata are JSON texts: `labels`, `normalisation`, `input_shape`, `classes`,
    `spec`.
    """

    source: ClassVar[str] = "Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279), section 3.1: sign and scale per filter"

    tolerance: float = Field(
        1e-6, gt=0, description="how far logits of the file may lie from the network's, as a fraction of the largest"
    )

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        if not any(isinstance(layer, BinaryLayer) for layer in network.modules()):
            raise UserError("the format 'packed' is for binary networks, and this one is real; take torch or onnx")
        network = alone(network)
        tensors = {name: value.contiguous() for name, value in packed(network).state_dict().items()}
        write_bytes(folder / FILE, save(tensors, metadata(spec)))
        difference = check(self.load(folder / FILE), network, spec.shape, self.tolerance, spec.tokens)
        return {"file": FILE, "bytes": (folder / FILE).stat().st_size, "difference": difference}

    def load(self, path: Path, threads: int = 0) -> Runtime:
        """The network as torch computes it, from its bits."""
        return load_packed(path)[1]


def packed(network: nn.Module) -> nn.Module:
    """A copy of a network whose binary layers hold one bit for each weight; it computes the same, and cannot learn."""
    copied = copy.deepcopy(network).requires_grad_(False)
    for layer in copied.modules():
        if isinstance(layer, BinaryLayer):
            layer.pack()
    return copied


def load_packed(path: Path) -> tuple[NetworkSpec, nn.Module]:
    """The network in a file of the exporter `packed`, in evaluation mode; its binary weights stay bits in memory.

    Raises:
        DamagedFile: the file is not such an export.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("spec")
        tensors = load_file(path)
    except SafetensorError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from None
    if told is None or not any(name.endswith(".bits") for name in tensors):
        raise DamagedFile(f"{path} is no export of the format 'packed': it holds no spec, or no bits")
    spec = build(NetworkSpec, json.loads(told))
    network = packed(alone(spec.build()))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DamagedFile(f"{path} is damaged: {str(error).splitlines()[-1].strip()}") from None
    return spec, network
