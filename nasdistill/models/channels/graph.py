"""The groups of channels of a network as a graph: which are computed from which."""

from __future__ import annotations

from collections.abc import Iterable

import networkx

from nasdistill.models.channels import ChannelGroup


def graph_of(groups: Iterable[ChannelGroup]) -> networkx.DiGraph:
    """Which groups are computed from which.

    Returns:
        a node for each group, with its `width` and, where it cannot change, the reason as `fixed`; an edge from one
        group to another where weights read the one and give the other, with their names as `weights`.
    """
    found = networkx.DiGraph()
    readers: dict[str, list[str]] = {}
    writers: dict[str, list[str]] = {}
    for group in groups:
        found.add_node(group.name, width=group.width, fixed=group.fixed)
        for place in group.places:
            (readers if place.reads else writers).setdefault(place.tensor, []).append(group.name)
    for weight, read in readers.items():
        for source in read:
            for target in writers.get(weight, ()):
                weights = found.edges[source, target]["weights"] if found.has_edge(source, target) else []
                found.add_edge(source, target, weights=[*weights, weight])
    return found
