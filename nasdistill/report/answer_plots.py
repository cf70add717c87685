"""Pictures of what networks answer: which classes they take for which, how often they agree, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nasdistill.report.plots import INK, SERIES, name_places, picture, rgb, shortened
from nasdistill.words import share_interval


def shares(counts: Sequence[tuple[float, float]], names: Sequence[str], title: str) -> str:
    """Shares in percent, the smallest first, each with its 95 % interval (`share_interval`); a bar for each.

    Args:
        counts: how many of how many, of each name; those of none are left out.
    """
    known = [(part, whole, name) for (part, whole), name in zip(counts, names, strict=True) if whole]
    found = sorted((100 * part / whole, whole, name) for part, whole, name in known)

    def draw(axes: Axes) -> None:
        places = np.arange(len(found))
        values = np.array([value for value, _, _ in found])
        ends = 100 * np.array([share_interval(value / 100, round(count)) for value, count, _ in found]).T
        axes.barh(places, values, color=SERIES[0], alpha=0.75)
        axes.errorbar(values, places, xerr=abs(ends - values), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.set_yticks(places, [f"{shortened(name, 16)} ({count:.0f})" for _, count, name in found])
        axes.set_xlim(0, 100)
        axes.set_xlabel("recognised, %, with 95 % interval")
        axes.grid(False, axis="y")

    return picture(title, draw, size=(4.4, max(2.4, 0.9 + 0.24 * len(found))))


def confusion(matrix: Sequence[Sequence[float]], labels: Sequence[str], title: str) -> str:
    """A confusion matrix: rows are the true classes, columns the predicted ones.

    The diagonal is one hue, mistakes another; the strength is the square root of the share of the row, so that a few
    mistakes in a thousand still show. Counts are written where they can be read.
    """
    counts = np.asarray(matrix, dtype=float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pixels = np.empty((*counts.shape, 4))
    pixels[..., :3] = rgb(SERIES[1])
    pixels[np.arange(len(counts)), np.arange(len(counts)), :3] = rgb(SERIES[0])
    pixels[..., 3] = 0.72 * np.sqrt(share)
    np.einsum("iic->ic", pixels)[:, 3] *= 0.75

    labels = [shortened(label, 12) for label in labels]
    texts = [[f"{count:.0f}" if count else "" for count in row] for row in counts]
    return _matrix(pixels, labels, texts, title, "predicted", "true")


def agreement(percent: Sequence[Sequence[float | None]], names: Sequence[str], title: str) -> str:
    """How often each two networks predict the same class: a cell is the stronger the more they agree.

    The palest cell is the least agreement of all, so that differences show where all agree on most images; those of
    a few tenths of a percent stay pale.

    Args:
        percent: square, None where it is not known; the diagonal is not shown.
    """
    values = np.array(percent, dtype=float)
    np.fill_diagonal(values, np.nan)
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 0.0)
    pixels = np.empty((*values.shape, 4))
    pixels[..., :3] = rgb(SERIES[0])
    pixels[..., 3] = np.nan_to_num(0.06 + 0.44 * (values - low) / max(high - low, 5))
    digits = 1 if len(names) <= 8 else 0  # what fits
    texts = [["" if np.isnan(value) else f"{value:.{digits}f}" for value in row] for row in values]
    return _matrix(pixels, names, texts, title)


def _matrix(
    pixels: np.ndarray, labels: Sequence[str], texts: Sequence[Sequence[str]], title: str, x: str = "", y: str = ""
) -> str:
    """Coloured cells, [N, N, 4], with labels and with texts in them where these can be read."""

    def draw(axes: Axes) -> None:
        axes.imshow(pixels, interpolation="none")
        axes.grid(False)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if len(labels) <= 25:
            name_places(axes, labels)
            axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
        if len(labels) <= 15:
            for row, line in enumerate(texts):
                for column, text in enumerate(line):
                    axes.text(column, row, text, ha="center", va="center", fontsize=8)

    return picture(title, draw, size=(4.4, 4.3))


def reliability(of_seeds: Sequence[Sequence[Sequence[float]]], title: str, note: str) -> str:
    """How often a network is right over how sure it is, by bin of confidence, beside the diagonal of one that knows.

    The area of a dot is the share of the images in its bin; a line leads from it to the diagonal. Bins of several seeds
    are joined, and each seed's own are faint.
    Source: Guo et al. 2017, On calibration of modern neural networks (arXiv:1706.04599), figure 1.

    Args:
        of_seeds: per seed and bin the images, how many of them are correct, and the sum of their confidences.
        note: written into the free corner.
    """

    def dots(axes: Axes, bins: np.ndarray, **style: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, correct, confidence = bins[bins[:, 0] > 0].T
        sure, right, sizes = confidence / images, correct / images, 3 + 240 * images / images.sum()
        axes.scatter(sure, right, sizes, color=SERIES[0], linewidth=0, **style)
        return sure, right, sizes

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.9)
        every = np.asarray(of_seeds, dtype=float)
        if len(every) > 1:
            for bins in every:
                dots(axes, bins, alpha=0.25)
        sure, right, sizes = dots(axes, every.sum(axis=0), zorder=3)
        axes.vlines(sure, sure, right, color=SERIES[0], linewidth=0.25 * np.sqrt(sizes))
        axes.set_xlim(-0.02, 1.04)
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel("mean confidence")
        axes.set_ylabel("accuracy")
        axes.text(1.0, 0.02, note, ha="right")

    return picture(title, draw, size=(3.6, 3.2))
