"""Compiled code: Numba's settings, and what a processor can do that Numba has no name for."""
