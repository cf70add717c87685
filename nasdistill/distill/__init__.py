"""Distillation with data: objectives, teachers, feature taps."""
