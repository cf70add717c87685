"""Models: plain data that builds networks, and networks on disk."""
