"""Small networks for the tests of distillation."""

from __future__ import annotations

import torch
from torch import nn


class TwoMaps(nn.Module):
    """Two convolutions, the second of stride 2, and a classifier."""

    feature_points = ("first", "second")

    def __init__(self, channels: int = 4, classes: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, stride, 1), nn.BatchNorm2d(channels), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.dropout(self.second(self.first(images)).mean(dim=(2, 3))))
        return logits


class WithAuxiliary(TwoMaps):
    """The same with an auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(4, 3)

    def forward_with_auxiliary(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        early = self.first(images)
        return self.classifier(self.second(early).mean(dim=(2, 3))), self.auxiliary(early.mean(dim=(2, 3)))
