"""Vector code written in LLVM's language: what the windows of the kernels are made of."""
