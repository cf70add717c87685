"""Data sets of a user's own, which may come without a test set: a part of the training images is taken for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data.base import DataSet, Images, RawData
from nasdistill.data.folders import TEST, TRAIN, VALIDATION
from nasdistill.data.preparation import split_off


class SplitsTest(DataSet):
    """Base of data sets whose test images are split off where the files come with none."""

    test: float = Field(0.2, gt=0, lt=1, description="fraction of each class that is the test set, where none is there")
    split_seed: int = Field(
        0, description="seed of the choice of the test set; apart from the run's, so that all runs share one test set"
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if facts.comes_with_test:
            for name in self.differs("test", "split_seed"):
                yield name, "the files come with test images of their own"

    def assembled(self, sets: Mapping[str, Images], classes: tuple[str, ...]) -> RawData:
        """What `read` returns.

        Args:
            sets: of each part, `train` and, if the files come with them, `val` and `test`.

        Raises:
            UserError: a class has too few images for a split.
        """
        train, test, validation = sets[TRAIN], sets.get(TEST), sets.get(VALIDATION)
        if test is not None:
            return RawData(train, test, classes, validation)
        train, test = split_off(train, self.test, self.split_seed, classes)
        return RawData(train, test, classes, validation, split_test=True)
