"""`nasdistill inspect` and `nasdistill import`: what a network costs, and networks that were trained elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasdistill.cli.names import completing
from nasdistill.cli.parameters import parse_value
from nasdistill.errors import UserError
from nasdistill.registry import build

if TYPE_CHECKING:
    from nasdistill.data.base import Shape
    from nasdistill.models.base import NetworkSpec
    from nasdistill.models.inspection import Inspection

SHAPE = "3x32x32"
CLASSES = 10


def inspect_network(
    network: Annotated[
        str,
        typer.Argument(
            help="a model by name or shorthand, or the folder of an artifact",
            metavar="MODEL_OR_ARTIFACT",
            autocompletion=completing("models"),
        ),
    ],
    input_shape: Annotated[
        str | None,
        typer.Option("--input", help=f"channels x height x width of an image; {SHAPE} if left out", metavar="<CxHxW>"),
    ] = None,
    classes: Annotated[int | None, typer.Option(help=f"number of classes; {CLASSES} if left out")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="an option of the model, e.g. dropout=0.3; may be repeated", metavar="<key=value>"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Count a network's parameters and multiply-adds.

    Also its bytes, its layers, and the feature points that methods read by default.
    """
    from nasdistill.cli.tables import show
    from nasdistill.models.inspection import inspect

    spec = _spec(network, input_shape, classes, assignments or [])
    found = inspect(spec, spec.build())
    if as_json:
        show(json.dumps(found.to_json(), indent=2))
    else:
        _show_inspection(found)


def _spec(network: str, input_shape: str | None, classes: int | None, assignments: Sequence[str]) -> NetworkSpec:
    from nasdistill.models.base import MODELS, NetworkSpec, load_spec

    if Path(network).is_dir():
        if input_shape is not None or classes is not None or assignments:
            raise UserError(f"{network} is an artifact and fixes its own input, classes and options")
        return load_spec(Path(network))
    options = assigned(assignments)
    model = MODELS.parse({"name": network, **options} if options else network)
    shape = shape_in(input_shape or SHAPE)
    return build(NetworkSpec, {"model": model, "shape": shape, "classes": CLASSES if classes is None else classes})


def shape_in(text: str) -> Shape:
    """Channels, height and width from `3x32x32`.

    Raises:
        UserError: something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if found is None:
        raise UserError(f"--input takes channels x height x width, as {SHAPE}; got {text!r}")
    channels, height, width = (int(number) for number in found.groups())
    return channels, height, width


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """Options from `key=value` texts; a dot leads into a mapping.

    Raises:
        UserError: a text is none of these.
    """
    options: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise UserError(f"--set takes key=value; got {assignment!r}")
        *outer, last = path.split(".")
        inner = options
        for key in outer:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set {assignment}: {key} was given as a plain value before")
        inner[last] = parse_value(value, f"--set {path}")
    return options


def _show_inspection(found: Inspection) -> None:
    from nasdistill.cli.tables import show, show_table
    from nasdistill.report.words import whole

    rows = [
        (layer.path, layer.kind, _times(layer.output or ()), whole(layer.parameters), whole(layer.multiply_adds))
        for layer in found.layers
    ]
    show_table(("layer", "kind", "output", "parameters", "multiply-adds"), rows, words=3)
    totals = [
        ("parameters", whole(found.parameters)),
        ("multiply-adds", whole(found.multiply_adds)),
        ("bytes", whole(found.bytes)),
        ("input", _times(found.input)),
        ("classes", whole(found.classes)),
        ("feature points", ", ".join(found.feature_points)),
    ]
    for name, value in totals:
        show(f"{name:<16}{value}")


def _times(numbers: Sequence[int]) -> str:
    return "x".join(str(number) for number in numbers)
