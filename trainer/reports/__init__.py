"""The report command: one page about a model."""
