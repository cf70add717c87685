"""A component that does not load."""

raise ImportError("needs a library that is not there")
