"""How alike the images of a batch are to an untrained network, by which of its ReLUs they turn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nasdistill.errors import UserError
from nasdistill.search.proxies import PROXIES, Proxy

RELUS = (
    *(functional.relu, functional.relu_, functional.relu6),
    *(torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_),
)
"""However they are written; the module ReLU6 calls `hardtanh`."""


@PROXIES.register("naswot")
class Naswot(Proxy):
    """log |det K|, K_ij the number of ReLUs that are alike, on or off, for images i and j; ReLU6 is one too."""

    source: ClassVar[str] = "Mellor et al. 2021, Neural Architecture Search without Training (arXiv:2006.04647)"

    @torch.no_grad()
    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        with _Alike() as alike:
            network(images)
        if alike.kernel is None:
            raise UserError("the proxy 'naswot' compares which ReLUs are on, and this network has none")
        return float(torch.linalg.slogdet(alike.kernel).logabsdet)


class _Alike(TorchFunctionMode):
    """Adds up K of all ReLUs that run meanwhile, be they modules or functions: float64, [N, N]."""

    kernel: torch.Tensor | None = None

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*arguments, **(named or {}))
        if function in RELUS or (function is functional.hardtanh and (named or {}).get("min_val") == 0):
            on = (found.flatten(1) > 0).float()
            alike = (on @ on.T + (1 - on) @ (1 - on).T).double()  # float counts exactly up to 2^24
            self.kernel = alike if self.kernel is None else self.kernel + alike
        return found
