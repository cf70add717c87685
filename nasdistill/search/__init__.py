"""Architecture search: spaces, supernet, strategies, discretisation."""
