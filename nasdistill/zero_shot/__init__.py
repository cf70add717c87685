"""Zero-shot transfer: distillation without data, and how close two networks are."""
