"""What `auto` chooses."""

from __future__ import annotations

import pytest

from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES


@pytest.mark.parametrize(
    ("space", "epochs", "images", "chosen"),
    [
        # The published search: 50 epochs of 390 steps that move an alpha by 3e-4 each.
        ("darts-tiny", 50, 50_000, {"name": "drnas", "epochs": 50}),
        ("darts-tiny", 20, 50_000, "proxy"),
        ("darts-tiny", 3, 1_442, "proxy"),
        ("mobilenet-tiny", 50, 50_000, "proxy"),
    ],
)
def test_gradients_search_where_they_can_decide(
    space: str, epochs: int, images: int, chosen: str | dict[str, object]
) -> None:
    strategy = STRATEGIES.parse({"name": "auto", "epochs": epochs}).chosen(SPACES.parse(space), images)
    assert strategy == STRATEGIES.parse(chosen)
