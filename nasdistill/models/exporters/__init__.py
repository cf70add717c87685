"""Exporters: formats in which a trained network leaves nasdistill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.models.base import NetworkSpec


class Exporter(Component):
    """Base of all export formats."""

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        """Write the network alone into `folder` and check the file against `network` on random input.

        Returns:
            what was written and how far the outputs lie apart, as plain data.
        """
        raise NotImplementedError(type(self).__name__)


EXPORTERS: Registry[Exporter] = Registry("exporters", Exporter, "nasdistill.models.exporters")
