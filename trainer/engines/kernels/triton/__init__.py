"""The GPU kernels, in Triton, and how they are launched."""
