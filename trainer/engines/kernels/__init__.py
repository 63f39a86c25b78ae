"""Fused update steps: fast twins of the readable reference model, tested against it."""

MEAN_PAIRS = 1024  # CBOW's windows are cut after so many, on a CPU as on a GPU
