"""What architectures score that somebody has trained, all of a space: searches are judged by it, and cannot read it."""
