"""What makes the docs: the reference from the code, tables of results from their rows."""
