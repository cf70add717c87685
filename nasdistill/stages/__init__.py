"""Stages: one file a stage, each binding a method to its config and to artifacts."""

from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Reference, Stage

__all__ = ["STAGES", "Context", "Inputs", "Outcome", "Reference", "Stage"]
