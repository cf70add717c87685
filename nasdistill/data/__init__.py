"""Data sets, splits, batched augmentation, loaders."""
