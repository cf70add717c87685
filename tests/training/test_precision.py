"""Mixed precision casts what is multiplied, and leaves what a step is given as it is."""

from __future__ import annotations

import torch
from torch import nn

from nasdistill.training.engine import Engine, EngineSettings


class Listens(nn.Module):
    """Notes the types of what it is given, and of what it multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.types: list[torch.dtype] = []

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.layer(batch["images"])
        self.types = [batch["images"].dtype, batch["logits"].dtype, logits.dtype]
        return logits


def test_a_step_is_given_its_inputs_in_full_precision() -> None:
    engine = Engine(EngineSettings(accelerator="cpu", precision="bf16"))
    network = Listens()
    wrapped, _ = engine.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
    returned = wrapped({"images": torch.ones(4, 2), "logits": torch.ones(4, 3)})
    assert network.types == [torch.float32, torch.float32, torch.bfloat16]
    assert returned.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
