"""Fused update steps: fast twins of the readable reference model, tested against it."""
