"""nasdistill finds a small network, grows the teacher that suits it, and distils that teacher back into it."""

__version__ = "0.1.0"
