"""Import this before anything that imports Triton: where there is no GPU, its kernels run in Triton's interpreter."""

from __future__ import annotations

import os

import torch

HAS_CUDA = torch.cuda.is_available()
if not HAS_CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it where a kernel is defined

DEVICE = torch.device("cuda" if HAS_CUDA else "cpu")
