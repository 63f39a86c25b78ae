"""What may be given to the CPU kernel.

Shapes: B pairs, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.engines.negatives import check_exclude
from trainer.errors import UserError

ARCHITECTURES = ("skipgram", "cbow")
PREDICT = ("center", "context")
SHARING = ("pair", "window", "pool")

Array = npt.NDArray[Any]


def check_arrays(
    center_B: Array, context_B: Array, input_VD: Array, output_VD: Array, alias: Array, has_parts: bool
) -> None:
    """Refuse arrays that compiled code would misread; where words have parts, the input table has their rows too."""
    for name, array, dtype, dimensions in (
        ("center_B", center_B, np.int32, 1),
        ("context_B", context_B, np.int32, 1),
        ("input_VD", input_VD, np.float32, 2),
        ("output_VD", output_VD, np.float32, 2),
        ("alias", alias, np.uint32, 1),
    ):
        if array.dtype != dtype or array.ndim != dimensions:
            raise ValueError(
                f"{name}: found {array.ndim} dimensions of {array.dtype},"
                f" expected {dimensions} of {np.dtype(dtype).name}"
            )
        if (array.shape[-1] > 1 and array.strides[-1] != array.itemsize) or not array.flags.aligned:
            raise ValueError(f"{name}: found a strided or unaligned array, expected numbers side by side")
    if center_B.shape != context_B.shape:
        raise ValueError(f"context_B: found {context_B.size} ids, expected {center_B.size}, as many as centers")
    if input_VD.shape != output_VD.shape and not (has_parts and input_VD.shape[1:] == output_VD.shape[1:]):
        raise ValueError(f"output_VD: found shape {output_VD.shape}, expected that of input_VD, {input_VD.shape}")
    if input_VD.strides != output_VD.strides:
        raise ValueError(
            f"output_VD: found strides of {output_VD.strides} bytes, expected input_VD's, {input_VD.strides}"
        )
    if not (input_VD.flags.writeable and output_VD.flags.writeable):
        raise ValueError("input_VD, output_VD: found a read-only table, expected two that can be updated in place")
    if alias.size != 2 * len(output_VD):
        raise ValueError(f"alias: found {alias.size} numbers, expected 2 for each of {len(output_VD)} words")


def check_choices(negatives: int, predict: str, exclude: str, sharing: str, threads: int, rows: int) -> None:
    if negatives < 1:
        raise UserError(f"--negatives: found {negatives}, expected at least 1")
    if threads < 1:
        raise UserError(f"--threads: found {threads}, expected at least 1")
    if predict not in PREDICT:
        raise UserError(f"--predict: found {predict!r}, expected one of {', '.join(PREDICT)}")
    if sharing not in SHARING:
        raise UserError(f"--negative-sharing: found {sharing!r}, expected one of {', '.join(SHARING)}")
    check_exclude(exclude, rows)
