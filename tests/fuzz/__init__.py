"""Near-valid input and damaged files, generated: python -m tests.fuzz --help."""
