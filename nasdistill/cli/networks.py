"""`nasdistill inspect` and `nasdistill import`: what a network costs, and networks that were trained elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasdistill.cli.names import completing
from nasdistill.cli.parameters import parse_value
from nasdistill.data.base import Normalisation
from nasdistill.errors import UserError
from nasdistill.numerals import number
from nasdistill.registry import build
from nasdistill.words import whole

if TYPE_CHECKING:
    from nasdistill.data.base import Shape
    from nasdistill.models.base import NetworkSpec
    from nasdistill.models.channels import ChannelGroup
    from nasdistill.models.inspection import Inspection

SHAPE = "3x32x32"
CLASSES = 10


Input = Annotated[
    str | None,
    typer.Option("--input", help=f"channels x height x width of an image; {SHAPE} if left out", metavar="<CxHxW>"),
]
Classes = Annotated[int | None, typer.Option(help=f"number of classes; {CLASSES} if left out")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="an option of the model, e.g. dropout=0.3; may be repeated", metavar="<key=value>"),
]


def inspect_network(
    network: Annotated[
        str,
        typer.Argument(
            help="a model by name, shorthand or mapping, or the folder of an artifact",
            metavar="MODEL_OR_ARTIFACT",
            autocompletion=completing("models"),
        ),
    ],
    input_shape: Input = None,
    classes: Classes = None,
    assignments: Assignments = None,
    channels: Annotated[
        bool, typer.Option("--channels", help="list the groups of channels that can only change together")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="with --channels, also draw them into this file, an SVG", metavar="<FILE.svg>")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Count a network's parameters and multiply-adds.

    Also its bytes, its layers, and the feature points that methods read by default; or its groups of channels.
    """
    from nasdistill.cli.tables import show
    from nasdistill.models.base import load_spec
    from nasdistill.models.inspection import inspect

    if Path(network).is_dir():
        if input_shape is not None or classes is not None or assignments:
            raise UserError(f"{network} is an artifact and fixes its own input, classes and options")
        spec = load_spec(Path(network))
    else:
        spec = _spec(network, input_shape, classes, assignments)
    if channels:
        _show_channels(spec, as_json, picture, network)
        return
    if picture is not None:
        raise UserError("--picture draws groups of channels: give --channels as well")
    found = inspect(spec.build(), spec.reads, spec.classes)
    if as_json:
        show(json.dumps(found.to_json(), indent=2))
    else:
        _show_inspection(found)


def _show_channels(spec: NetworkSpec, as_json: bool, picture: Path | None, name: str) -> None:
    from nasdistill.cli.tables import show, show_table
    from nasdistill.models.channels.graph import graph_of
    from nasdistill.models.channels.widths import tried_groups
    from nasdistill.report.channel_plots import draw_channels
    from nasdistill.storage import write_text

    groups = tried_groups(spec.build(), spec.reads)
    graph = graph_of(groups)
    if picture is not None:
        write_text(picture, draw_channels(graph, f"Groups of channels of {name}"))
    if as_json:
        nodes = [{"name": name, **graph.nodes[name], "gives": list(graph.successors(name))} for name in graph]
        show(json.dumps({"groups": nodes}, indent=2))
        return
    rows = [
        (group.name, whole(group.width), ", ".join(_paths(group, reads=False)), ", ".join(_paths(group, reads=True)))
        for group in groups
        if group.fixed is None
    ]
    show_table(("group", "channels", "in", "read by"), rows, words=4)
    for group in groups:
        if group.fixed is not None:
            show(f"{group.name}: {group.width} stay, because {group.fixed}")
        elif group.mixed:
            show(f"{group.name}: a norm takes them together, so that copies of some change what it gives")


def _paths(group: ChannelGroup, reads: bool) -> list[str]:
    """Of the modules whose tensors hold a group of channels."""
    paths = (place.tensor.rpartition(".")[0] or place.tensor for place in group.places if place.reads == reads)
    return list(dict.fromkeys(paths))


def import_network(
    model: Annotated[
        str, typer.Option(help="the model that was trained, by name or shorthand", autocompletion=completing("models"))
    ],
    weights: Annotated[Path, typer.Option(help="safetensors, or a state dict of torch.save; never unpickled")],
    out: Annotated[Path, typer.Option(help="folder of the new artifact")],
    input_shape: Input = None,
    classes: Classes = None,
    mean: Annotated[
        str | None,
        typer.Option(help="mean of the normalisation that it was trained with, per channel", metavar="<float,...>"),
    ] = None,
    std: Annotated[str | None, typer.Option(help="its standard deviation, per channel", metavar="<float,...>")] = None,
    labels: Annotated[str | None, typer.Option(help="names of the classes, in order", metavar="<name,...>")] = None,
    under: Annotated[
        str | None,
        typer.Option(help="where in the file the weights are, of several networks: its key, or keys joined by dots"),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="what the names of the network's tensors begin with, e.g. student_; not others'")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="leave out tensors of these names, e.g. 'accuracy.*'; may be repeated", metavar="<pattern>"),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Make an artifact of weights trained elsewhere.

    Tensors are matched by name, else by order and shape; what was matched to what, and what was left out, is printed.
    """
    from nasdistill.cli.tables import show
    from nasdistill.models import foreign
    from nasdistill.models.choosing import Wanted

    if (mean is None) != (std is None):
        raise UserError("--mean and --std come together")
    spec = _spec(model, input_shape, classes, assignments)
    normalisation = None
    if mean is not None and std is not None:
        normalisation = build(Normalisation, {"mean": numbers_in("--mean", mean), "std": numbers_in("--std", std)})
    imported = foreign.import_network(
        *(spec.model, weights, out, spec.shape, spec.classes),
        normalisation=normalisation,
        labels=None if labels is None else tuple(label.strip() for label in labels.split(",")),
        wanted=Wanted(under, prefix, tuple(ignore or ())),
    )
    for line in imported.choice.lines():
        show(line)
    show(f"artifact: {imported.artifact.folder}")


def _spec(model: str, input_shape: str | None, classes: int | None, assignments: Sequence[str] | None) -> NetworkSpec:
    from nasdistill.models.base import MODELS, NetworkSpec
    from nasdistill.recipes.overrides import override
    from nasdistill.recipes.source import Source

    typed = Source("the command line", {"model": parse_value(model, "the model")})
    for assignment in assignments or ():
        override(typed, f"model.{assignment}", f"--set {assignment!r}")
    settings = {
        "model": MODELS.parse(typed.data["model"]),
        "shape": shape_in(input_shape or SHAPE),
        "classes": CLASSES if classes is None else classes,
    }
    return build(NetworkSpec, settings)


def numbers_in(flag: str, text: str) -> list[float]:
    """Numbers from `0.49,0.48,0.45`.

    Raises:
        UserError: something else.
    """
    found = [number(part.strip()) for part in text.split(",")]
    numbers = [each for each in found if each is not None]
    if len(numbers) < len(found):
        raise UserError(f"{flag} takes numbers separated by commas; got {text!r}")
    return numbers


def shape_in(text: str) -> Shape:
    """Channels, height and width from `3x32x32`.

    Raises:
        UserError: something else.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    if found is None:
        raise UserError(f"--input takes channels x height x width, as {SHAPE}; got {text!r}")
    channels, height, width = (int(number) for number in found.groups())
    return channels, height, width


def _show_inspection(found: Inspection) -> None:
    from nasdistill.cli.tables import show, show_table

    rows = [
        (layer.path, layer.kind, _times(layer.output or ()), whole(layer.parameters), whole(layer.multiply_adds))
        for layer in found.layers
    ]
    show_table(("layer", "kind", "output", "parameters", "multiply-adds"), rows, words=3)
    totals = [
        ("parameters", whole(found.parameters)),
        ("multiply-adds", whole(found.multiply_adds)),
        ("bytes of weights", whole(found.bytes)),
        ("input", _times(found.input)),
        ("classes", whole(found.classes)),
        ("feature points", ", ".join(found.feature_points) or "none"),
    ]
    for name, value in totals:
        show(f"{name:<18}{value}")


def _times(numbers: Sequence[int]) -> str:
    return "x".join(str(number) for number in numbers)
