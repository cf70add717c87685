"""Mixed precision in which a step's inputs stay as they are."""

from __future__ import annotations

from typing import Any

from nasdistill.training.fabric import MixedPrecision


class Autocast(MixedPrecision):
    """bfloat16 where autocast computes in it, and nowhere else.

    Fabric's own casts every float tensor that a module is given beforehand. A batch also holds a teacher's outputs,
    and losses of its logits in 8 bits are off by percents.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    def convert_input(self, data: Any) -> Any:
        return data
