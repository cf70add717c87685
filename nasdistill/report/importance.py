"""How much of what a score varies each setting explains: functional analysis of variance of a random forest.

Source: Hutter, Hoos and Leyton-Brown 2014, An efficient approach for assessing hyperparameter importance (ICML); the
shares are Sobol's indices (Sobol 2001, Global sensitivity indices for nonlinear mathematical models), which a tree
allows to compute exactly, as it is constant on boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TREES = 100

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """Shares of the variance of the forest's score over the whole space, from 0 to 1, one per setting.

    Attributes:
        alone: explained by the setting whatever the others are.
        total: explained by it alone or in its interplay with others; where all act alone, both are the same.
        out_of_bag: R² of the forest on trials that its trees have not seen: 1 where it predicts their scores, 0 where
            it is no better than their mean.
    """

    alone: tuple[float, ...]
    total: tuple[float, ...]
    out_of_bag: float


def importance(places: Sequence[Sequence[float]], scores: Sequence[float]) -> Importance | None:
    """How important each setting is for a score.

    Args:
        places: of each trial the place of every setting within its range, from 0 to 1, [trials, settings].
        scores: [trials].

    Returns:
        None where the score is the same everywhere.
    """
    from sklearn.ensemble import RandomForestRegressor  # a second to import

    if min(scores) == max(scores):
        return None
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(places, scores)
    found = [shares(*boxes(tree.tree_)) for tree in forest.estimators_]
    alone, total = np.mean([each for each in found if each is not None], axis=0)
    return Importance(tuple(alone.tolist()), tuple(total.tolist()), float(forest.oob_score_))


def boxes(tree: Any) -> tuple[Array, Array, Array]:
    """The leaves of one of scikit-learn's trees over the unit cube: lower and upper corners, [leaves, settings], and
    values, [leaves]."""
    found = []
    open_nodes = [(0, np.zeros(tree.n_features), np.ones(tree.n_features))]
    while open_nodes:
        node, lower, upper = open_nodes.pop()
        if tree.children_left[node] < 0:
            found.append((lower, upper, tree.value[node].item()))
            continue
        setting, threshold = tree.feature[node], tree.threshold[node]
        left, right = upper.copy(), lower.copy()
        left[setting] = right[setting] = threshold
        open_nodes += [(tree.children_left[node], lower, left), (tree.children_right[node], right, upper)]
    lowers, uppers, values = zip(*found, strict=True)
    return np.array(lowers), np.array(uppers), np.array(values)


def shares(lower: Array, upper: Array, values: Array) -> Array | None:
    """Sobol's first-order and total indices of a function that is constant on boxes which fill the unit cube.

    With p the volume of box l in some of the settings and o the volume that boxes l and m share in them, the function's
    mean over the other settings u has the variance sum_lm v_l v_m p_l(u) p_m(u) o_lm(not u) - f². The first-order index
    takes all but one setting for u, the total index one setting and the rest to the whole variance.

    Args:
        lower, upper: corners, [boxes, settings].
        values: [boxes].

    Returns:
        [2, settings]; None for a constant function.
    """
    sides = upper - lower
    volumes = sides.prod(axis=1)
    mean = volumes @ values
    variance = volumes @ (values - mean) ** 2
    if variance == 0:
        return None
    centred = values - mean
    settings = range(sides.shape[1])
    shared = [
        np.clip(np.minimum.outer(upper[:, at], upper[:, at]) - np.maximum.outer(lower[:, at], lower[:, at]), 0, None)
        for at in settings
    ]
    indices = np.empty((2, len(settings)))
    for at in settings:
        others = np.delete(sides, at, axis=1).prod(axis=1) * centred
        own = sides[:, at] * centred
        rest = np.prod([shared[other] for other in settings if other != at], axis=0)
        indices[0, at] = others @ shared[at] @ others / variance
        indices[1, at] = 1 - own @ (rest * np.ones_like(shared[at])) @ own / variance
    return indices
