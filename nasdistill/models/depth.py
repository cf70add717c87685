"""How deep in a network its parameters lie, by the order in which an image meets the modules that hold them."""

from __future__ import annotations

from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError, nearest
from nasdistill.models.inspection import run_order


def depths(network: nn.Module, shape: Shape) -> dict[str, float]:
    """Of each parameter, by name, the place of its layer between the first one, 0, and the last one, 1.

    A layer is a module that holds parameters itself. One that is not called as a module counts as the one around it.
    """
    met = _met(network, shape)
    places = {name: met[_called(name, met)] for name, _ in network.named_parameters()}
    layers = {place: number for number, place in enumerate(sorted({*places.values()}))}
    return {name: layers[place] / max(1, len(layers) - 1) for name, place in places.items()}


def up_to(path: str, network: nn.Module, shape: Shape) -> set[str]:
    """The names of the parameters that an image has met when it leaves the module at `path`.

    Raises:
        UserError: there is no such module, or no image meets it.
    """
    met = _met(network, shape)
    inside = [place for called, place in met.items() if called == path or called.startswith(f"{path}.")]
    if not path or not inside:
        guess = nearest(path, met)
        hint = f"did you mean {guess!r}?" if guess else "`nasdistill inspect` lists them"
        raise UserError(f"an image meets no module {path!r}; {hint}")
    return {name for name, _ in network.named_parameters() if met[_called(name, met)] <= max(inside)}


def _met(network: nn.Module, shape: Shape) -> dict[str, int]:
    """When each module is first called, by path."""
    met: dict[str, int] = {}
    for path in run_order(network, shape):
        met.setdefault(path, len(met))
    return met


def _called(name: str, met: dict[str, int]) -> str:
    """The path of the innermost module around a parameter that is called."""
    path = name.rpartition(".")[0]
    while path not in met:
        path = path.rpartition(".")[0]
    return path
