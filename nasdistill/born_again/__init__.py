"""Born-again networks: how generations of students do alone and together."""
