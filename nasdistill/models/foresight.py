"""Whether a network can be built and returns what it must, found before anything is done with it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from nasdistill.errors import UserError, written_at
from nasdistill.models.base import NetworkSpec
from nasdistill.models.inspection import blank_image
from nasdistill.training.modes import in_evaluation_mode
from nasdistill.training.resizing import train_at

_checked: set[tuple[str, str | None]] = set()
"""Specs, as JSON, and their pretrained weights: seeds and points of a sweep have the same networks."""


@contextmanager
def tentatively() -> Iterator[None]:
    """What is built in this block shows neither in the log nor in the random numbers that are sampled after it."""
    before = logging.root.manager.disable  # a program that calls us may have disabled more
    logging.disable(max(before, logging.WARNING))
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.disable(before)


def check_logits(spec: NetworkSpec, network: nn.Module) -> None:
    """Run two black images through a network, in evaluation mode.

    Raises:
        UserError: that fails, or what comes out are not the logits of two images.
    """
    images = blank_image(network, spec.shape).repeat(2, 1, 1, 1)
    with in_evaluation_mode(network), _naming(spec, f"images {list(images.shape)}") as who:
        logits = network(images)
    got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if got != [2, spec.classes]:
        raise UserError(f"{who} must return logits [N, {spec.classes}], got {got} for images {list(images.shape)}")


@contextmanager
def _naming(spec: NetworkSpec, what: str) -> Iterator[str]:
    """A model that fails in this block is named, and what on; what it is called."""
    who = f"the model {spec.model.registered_name!r} ({written_at(type(spec.model))})"
    try:
        with torch.no_grad():
            yield who
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{who} fails on {what}: {why}") from error


@functools.lru_cache(maxsize=1024)
def check_scale(spec: str, scale: float) -> None:
    """Run two black images through the network of a spec, as JSON, which reads them at a scale in training mode.

    Raises:
        UserError: that fails.
    """
    with tentatively():
        parsed = NetworkSpec.model_validate_json(spec)
        network = parsed.build().train()
        train_at(network, scale)
        with _naming(parsed, f"images at the scale {scale:g}"):
            network(blank_image(network, parsed.shape).repeat(2, 1, 1, 1))


@functools.lru_cache(maxsize=1024)
def has_auxiliary_head(spec: str) -> bool:
    """Whether the network of a spec, as JSON, trains with an auxiliary head."""
    with tentatively():
        return hasattr(NetworkSpec.model_validate_json(spec).build(), "forward_with_auxiliary")


def check_build(spec: NetworkSpec) -> None:
    """Build the network of a spec, with weights: for most, torch's meta device takes as long, and some break there.

    Raises:
        UserError: as `NetworkSpec.build` and `check_logits`.
    """
    network = spec.model_dump_json(), spec.model.pretrained_content()
    if network not in _checked:
        with tentatively():
            check_logits(spec, spec.build())
        _checked.add(network)
