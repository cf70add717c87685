"""Experiments: a recipe run as the trials of an nni experiment, and what came out of them."""
