"""No images: for what is done without any."""

from __future__ import annotations

from nasdistill.data.base import DATASETS, DataSet, RawData
from nasdistill.errors import UserError


@DATASETS.register("none")
class NoImages(DataSet):
    """No images at all, as for zero-shot transfer of a network whose data are gone."""

    has_images = False

    def fingerprint(self) -> str:
        return "none"

    def read(self) -> RawData:
        raise UserError("this stage works on images, but the data set is 'none'; name one with `data`")
