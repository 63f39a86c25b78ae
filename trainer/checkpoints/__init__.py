"""The state of an unfinished training: written, found again, resumed exactly."""
