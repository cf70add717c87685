"""What there is to say about hints, for the objective and the stage of that name; needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nasdistill.component import Options

Form = Literal["code", "paper"]


class HintOptions(Options):
    """A mixin of components that train hints."""

    pair: tuple[str, str] | None = Field(
        None, description="points, [student's, teacher's]; by default the middle feature point of each network"
    )
    form: Form = Field(
        "code",
        description="code: mean over batch, channels and places of the squared error; "
        "paper: half the squared L2 norm, mean over the batch",
    )
    relu: bool = Field(
        False, description="end the regressor with a rectifier, for a teacher's layer that ends with one (as published)"
    )
