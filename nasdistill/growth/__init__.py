"""Growing a teacher from its student."""
