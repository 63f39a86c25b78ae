"""The GPU kernel, in Triton, and how it is launched."""
