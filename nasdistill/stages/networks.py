"""The networks that a stage reads: built or loaded, checked against the images and the classes of each other."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Literal

from nasdistill.errors import SpecError, UserError, found_at
from nasdistill.stages.base import Context, Inputs, Like, Place, Specs, in_words, path_of
from nasdistill.stages.class_names import Labels, Matching, match_classes, places_of

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.base import Data, Normalisation, Shape
    from nasdistill.models.base import NetworkSpec

log = logging.getLogger(__name__)

Weights = Literal["any", "fresh", "trained"]
"""Which weights a network has: trained ones if there are any, new ones in any case, or trained ones in any case."""
ALIKE = 0.1
"""By how much black or white may differ between two normalisations, so that splits of one data set are alike."""
SPLIT = ("limit", "validation")
"""Options of a data set that decide, with the seed, which images validate."""


def network_for(
    field: Place,
    value: str | dict[str, Any],
    inputs: Inputs,
    context: Context,
    weights: Weights = "any",
    like: NetworkSpec | None = None,
) -> tuple[NetworkSpec, nn.Module]:
    """The network that a field of a stage's config means: in memory, from an artifact, or freshly drawn from a model.

    One in memory is copied, so that the caller's stays as it is.

    Args:
        value: of the field; read where there is no artifact, as a model's name, shorthand, or mapping.
        like: a network whose images and classes such a model is built for, in place of the data set's.

    Raises:
        SpecError: at the field: it is not trained, cannot be built, returns no logits for its classes, or has weights
            that are not finite.
    """
    from nasdistill.models.foresight import check_logits

    spec, network = _network_for(field, value, inputs, context, weights, like)
    with found_at(*path_of(field)):
        check_logits(spec, network)
        for name, parameter in network.named_parameters():
            if not parameter.isfinite().all():
                raise UserError(f"its weights {name!r} have values that are no numbers (NaN or infinity)")
    return spec, network


def _network_for(
    field: Place,
    value: str | dict[str, Any],
    inputs: Inputs,
    context: Context,
    weights: Weights,
    like: NetworkSpec | None,
) -> tuple[NetworkSpec, nn.Module]:
    import torch

    from nasdistill.models.base import load_network, load_spec

    given, artifact = context.networks.get(field), inputs.get(field)
    trained = _is_trained(field, inputs, context)
    with found_at(*path_of(field)):
        if given is not None and trained and weights != "fresh":
            return given.spec, copy.deepcopy(given.module).eval()
        if artifact is not None and trained and weights != "fresh":
            return load_network(artifact.folder)
        spec = given.spec if given else load_spec(artifact.folder) if artifact else _spec_of(value, context, like)
        drawn = spec.drawn()
        if weights == "trained" and spec is drawn:
            raise UserError(f"{value!r} has no trained weights")
        torch.manual_seed(context.replicate_seed)
        return untrained(drawn), (drawn if weights == "fresh" else spec).build()


def _is_trained(field: Place, inputs: Inputs, context: Context) -> bool:
    """Whether what a field means comes with weights."""
    from nasdistill.models.base import WEIGHTS

    given, artifact = context.networks.get(field), inputs.get(field)
    return given.trained if given else artifact is not None and (artifact.folder / WEIGHTS).is_file()


def _spec_of(value: str | dict[str, Any], context: Context, like: NetworkSpec | None) -> NetworkSpec:
    from nasdistill.models.base import MODELS, NetworkSpec, for_texts

    if like is None:
        return NetworkSpec.for_data(value, context.data)
    model = for_texts(MODELS.parse(value), like.vocabulary)
    if like.normalisation is not None:
        model = model.for_normalisation(like.normalisation)
    return untrained(like).model_copy(update={"model": model})


def untrained(spec: NetworkSpec) -> NetworkSpec:
    """The spec of a network with new weights, which know no class by its name."""
    return spec.model_copy(update={"labels": None})


def spec_for(
    field: Place, value: str | dict[str, Any], specs: Specs, context: Context, like: NetworkSpec | None = None
) -> NetworkSpec | None:
    """The spec of what `network_for` will return; None where only the run will know.

    Raises:
        SpecError: at the field: it cannot be built, or returns no logits for its classes.
    """
    if field in specs:
        found = specs[field]
        return None if isinstance(found, Like) else found
    from nasdistill.models.foresight import check_build

    with found_at(*path_of(field)):
        spec = _spec_of(value, context, like)
        check_build(spec)
        return spec.drawn()


def spec_for_data(
    field: Place,
    value: str | dict[str, Any],
    specs: Specs,
    context: Context,
    weights: Weights = "any",
    classes: Matching | None = None,
    own_words: bool = False,
) -> NetworkSpec | None:
    """The spec of what `network_for_data` will return, checked as there; None where only the run will know."""
    data = context.data
    spec = spec_for(field, value, specs, context)
    if spec is None:
        return None
    _check_fit(field, value, spec, data, own_words)
    return matched_spec(field, value, untrained(spec) if weights == "fresh" else spec, data.classes, context, classes)


def matched_spec(
    field: Place,
    value: object,
    spec: NetworkSpec,
    names: Labels | None,
    context: Context,
    classes: Matching | None,
) -> NetworkSpec:
    """The spec of what `matched_network` will return, checked as there."""
    from nasdistill.models.adapted import with_outputs
    from nasdistill.models.foresight import tentatively

    found = match_classes(field, value, spec, names, classes)
    if found.told:
        context.caveats.append(found.told)
    if found.outputs:
        with found_at(*path_of(field)), tentatively():
            with_outputs(spec, spec.build(), found.outputs)
    return _named(spec, names)


def matched_network(
    field: Place, value: object, spec: NetworkSpec, network: nn.Module, names: Labels | None, classes: Matching | None
) -> tuple[NetworkSpec, nn.Module]:
    """A network with its outputs in the order of the classes `names`; its spec then has these names, if it had any.

    Raises:
        SpecError: at the field: it was trained on other classes, or its head can have no other order.
    """
    from nasdistill.models.adapted import with_outputs

    found = match_classes(field, value, spec, names, classes)
    if found.told:
        log.info("%s", found.told)
    if found.outputs:
        with found_at(*path_of(field)):
            spec, network = with_outputs(spec, network, found.outputs)
    return _named(spec, names), network


def _named(spec: NetworkSpec, names: Labels | None) -> NetworkSpec:
    return spec if spec.labels is None else spec.model_copy(update={"labels": names})


def trained_on(spec: NetworkSpec, data: Data) -> NetworkSpec:
    """The spec of a network after it was trained on a data set."""
    told = {"labels": data.classes, "normalisation": data.normalisation, "resize": data.resize}
    return spec.model_copy(update=told)


def network_for_data(
    field: Place,
    value: str | dict[str, Any],
    inputs: Inputs,
    context: Context,
    weights: Weights = "any",
    classes: Matching | None = None,
    own_words: bool = False,
    learns: bool = False,
) -> tuple[NetworkSpec, nn.Module]:
    """What `network_for` returns, checked to read the images of the stage's data, and with the classes in its order.

    Args:
        classes: see `nasdistill.stages.class_names.MatchesClasses`; None for a stage without that option.
        own_words: the stage reads texts with the network's vocabulary, whatever the data's is.
        learns: the stage trains it on, in the data's normalisation and on their split, and warns where it knows others.

    Raises:
        SpecError: at `field`: the network was made for images or classes of another shape or number, or other words,
            or trained on other classes.
    """
    data = context.data  # first, so that what is wrong with it is not said of this field
    spec, network = network_for(field, value, inputs, context, weights)
    _check_fit(field, value, spec, data, own_words)
    if learns and weights != "fresh" and _is_trained(field, inputs, context):
        _warn_of_other_normalisation(field, value, spec.normalisation, data.normalisation)
        warn_of_other_split(field, value, inputs, context)
    return matched_network(field, value, spec, network, data.classes, classes)


def _warn_of_other_normalisation(field: Place, value: object, own: Normalisation | None, data: Normalisation) -> None:
    if own is None:
        return
    apart = max(
        abs((level - mean) / std - (level - their_mean) / their_std)
        for level in (0, 1)
        for mean, std, their_mean, their_std in zip(data.mean, data.std, own.mean, own.std, strict=True)
    )
    if apart > ALIKE:
        log.warning(
            "the %s %r was trained on other numbers for the same images: it knows them with mean %s and deviation %s, "
            "the data set has %s and %s; the stage `adapt` lets it go on as it was",
            *(in_words(field), value),
            *(", ".join(f"{number:.3g}" for number in each) for each in (own.mean, own.std, data.mean, data.std)),
        )


def warn_of_other_split(field: Place, value: object, inputs: Inputs, context: Context) -> None:
    """Say where a network was trained on a part of the validation images, as another seed or size splits off others."""
    manifest, here = inputs[field].manifest if field in inputs else None, context.data_identity
    there = manifest.provenance.get("data") if manifest and "validation" in manifest.metrics else None
    if manifest is None or not there or there.get("fingerprint") != here.get("fingerprint"):
        return
    ours, theirs = ((seed, *map(of.get, SPLIT)) for seed, of in ((context.seed, here), (manifest.seed, there)))
    if ours != theirs and context.source.validation is None:
        log.warning(
            "the %s %r was trained on another split of the data (seed %s, limit %s, validation %s; here %s, %s and "
            "%s), so that it knows validation images of this one, and scores on them are too good",
            *(in_words(field), value, *theirs, *ours),
        )


def data_as_trained(field: Place, value: object, spec: NetworkSpec, data: Data) -> Data:
    """Data in the words and the normalisation that a network was trained with.

    Raises:
        SpecError: at the field: it was made for other images or classes, or for these in another order.
    """
    from dataclasses import replace

    from nasdistill.data.words import data_read_with

    _check_fit(field, value, spec, data, own_words=True)
    if spec.labels not in (None, data.classes):
        raise SpecError(f"the {in_words(field)} {value!r} has other classes than the data set", path_of(field))
    data = data_read_with(data, spec.vocabulary)
    return data if spec.normalisation is None else replace(data, normalisation=spec.normalisation)


def _check_fit(field: Place, value: object, spec: NetworkSpec, data: Data, own_words: bool) -> None:
    if (spec.shape, spec.classes) != (data.shape, len(data.classes)):
        part = spec.labels and spec.shape == data.shape and places_of(data.classes, spec.labels)
        resizable = spec.classes == len(data.classes) and spec.shape[0] == data.shape[0] and data.shape[1] > 1
        raise SpecError(
            f"the {in_words(field)} {value!r} is made for {images_in_words(spec.shape, spec.classes)}; "
            f"the data set has {images_in_words(data.shape, len(data.classes), '')}"
            + ("; all of these are among its own, and the stage `adapt` picks them" if part else "")
            + ("; the stage `adapt` fits it to them, or with `size: own` resizes them" if resizable else ""),
            path_of(field),
        )
    known = data.words.vocabulary if data.words else None
    if (spec.vocabulary is None) != (known is None):
        what, other = ("texts", "images") if known is None else ("images", "texts")
        raise SpecError(f"the {in_words(field)} {value!r} reads {what}, and the data set holds {other}", path_of(field))
    if not own_words and spec.vocabulary != known:
        raise SpecError(
            f"the {in_words(field)} {value!r} has another vocabulary than the data set, whose tokens it would take for "
            "others; with the folder of its artifact as data.words_of the texts are read with its vocabulary",
            path_of(field),
        )


def images_in_words(shape: Shape, classes: int, what: str = "images of ") -> str:
    return f"{what}{'x'.join(map(str, shape))} in {classes} classes"
