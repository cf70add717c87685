"""Recipes: schema, loading with positions, overrides, the stage graph, the runner."""
