"""Lightning Fabric, imported without the seconds of libraries that nothing here uses.

The package `lightning` imports its Trainer first, hence `lightning_fabric`, the same code in a package of its own. That
imports torchmetrics, and with it torchvision and scipy, only to compare its version.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import ModuleType

_AS_FOUND = sys.modules.get("torchmetrics")
if _AS_FOUND is None:
    sys.modules["torchmetrics"] = ModuleType("torchmetrics")
    sys.modules["torchmetrics"].__version__ = version("torchmetrics")  # type: ignore[attr-defined]
try:
    from lightning_fabric import Fabric as Fabric
    from lightning_fabric import is_wrapped as is_wrapped
    from lightning_fabric.plugins import MixedPrecision as MixedPrecision
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment as LightningEnvironment
finally:
    if _AS_FOUND is None:
        del sys.modules["torchmetrics"]  # whoever imports it gets the true one
