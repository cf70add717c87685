"""Each of nni's spaces as small as it gets."""

from __future__ import annotations

from typing import Any

# Fewer than eight channels in strided 1x1 convolutions abort in torch 2.14.1 on some processors.
CELLS = {"search_channels": 8, "search_cells": 3, "channels": 8, "cells": 3}

TINY: dict[str, dict[str, Any]] = {
    "nni:darts": CELLS,
    "nni:enas": CELLS,
    "nni:nasnet": CELLS,
    "nni:amoeba": CELLS,
    "nni:pnas": CELLS,
    "nni:mobilenet-v3": {
        "widths": [8, 8, 8, 16, 16],
        "multipliers": [0.5, 1.0],
        "expansions": [1, 2],
        "depth": [1, 2],
        "strides": [1, 1, 2, 1, 1],
        "activations": ["hswish", "relu", "relu", "hswish", "hswish"],
        "squeeze_excite": ["none", "optional"],
    },
    "nni:shufflenet": {},
    "nni:proxylessnas": {"multiplier": 0.1},
    "nni:nasbench201": {"search_channels": 8, "search_cells": 1, "channels": 8, "cells": 1},
}

SLOW = ("nni:nasnet", "nni:amoeba", "nni:pnas", "nni:shufflenet")
"""Those whose supernets are large however small they are asked for; the first three differ from ENAS in names alone."""
