"""How the GPU kernel is cut to a model's sizes, and one call of it on tensors that are on the device already.

Shapes: B pairs, V vocabulary rows, D dimensions, P programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.engines.kernels import MEAN_PAIRS
from trainer.engines.kernels.triton import cbow, skipgram
from trainer.errors import UserError

KERNELS = {"skipgram": skipgram.train_windows, "cbow": cbow.train_windows}
ARITHMETIC = ("fp32", "bf16")
TILE_PAIRS = {"fp32": 32, "bf16": 16}  # bf16 holds a whole tile of inputs in registers
MEAN_ROWS = 8  # CBOW's inputs on their way together: a window has about six
# Counted, not measured: a program takes about 2.5 µs for a window of 6 pairs, most of it waiting, so with 8 on each of
# 132 multiprocessors an H200 could take 400 M windows a second, which is about as many as its memory has bandwidth for
# (9.7 kB each, 4.3 TB/s). More windows under way would be trained from older rows.
PROGRAMS_PER_SM = 8

_COLUMNS = 64  # two rows to a warp with 16-byte loads: the fewest shuffles to add up a product
_MAX_SLICES = 5
_NUMBERS_PER_WARP = {"fp32": 1536, "bf16": 2048}  # of a tile: beyond, registers spill
_MAX_WARPS = 16
_MASK_31 = (1 << 31) - 1


@dataclass(frozen=True)
class Sizes:
    """The kernel's compile-time sizes.

    Attributes:
        longest: pairs after which a window is cut.
        tile: that, or more: a power of two. With CBOW, inputs that are loaded at once.
        outputs: 1 + K, rounded up to a power of two.
        columns: of a slice of D, a power of two.
        slices: that D takes.
        warps: of a program.
    """

    architecture: str
    dim: int
    negatives: int
    arithmetic: str
    longest: int
    tile: int
    outputs: int
    columns: int
    slices: int
    warps: int

    @property
    def register_limit(self) -> int | None:
        """Registers of a thread; by itself ptxas lets some of them spill to seat one program more."""
        if self.arithmetic != "fp32" or (self.architecture, self.warps) == ("skipgram", 1):
            return None
        return min(240, 65536 // (32 * self.warps))


def choose_shape(
    dim: int,
    negatives: int,
    *,
    architecture: str = "skipgram",
    per_pair: bool = False,
    arithmetic: str = "fp32",
    warps: int = 0,
) -> Sizes:
    """Fit the kernel's tiles to a model.

    Args:
        dim: D.
        negatives: K.
        architecture: skipgram or cbow; the latter has fp32 alone.
        per_pair: each pair is a window of its own, with its own negatives.
        arithmetic: one of ARITHMETIC.
        warps: of a program; 0 chooses.

    Raises:
        UserError: the rows of one window do not fit into one program's registers.
    """
    is_cbow = architecture == "cbow"
    tile = MEAN_ROWS if is_cbow else TILE_PAIRS[arithmetic]
    outputs = max(16 if arithmetic == "bf16" else 2, _power_of_two(1 + negatives))
    columns = min(_COLUMNS, max(16, _power_of_two(dim)))
    while dim > _MAX_SLICES * columns:
        columns *= 2
    slices = -(-dim // columns)
    rows = max(outputs, tile) if is_cbow else outputs + (tile if arithmetic == "bf16" else 0)
    numbers = rows * columns * slices
    needed = _power_of_two(-(-numbers // _NUMBERS_PER_WARP[arithmetic]))
    if needed > _MAX_WARPS:
        raise UserError(
            f"--device cuda: found --dim {dim} with --negatives {negatives}, {numbers} numbers for a window, expected "
            f"at most {_MAX_WARPS * _NUMBERS_PER_WARP[arithmetic]} (--engine reference has no limit)"
        )
    longest = MEAN_PAIRS if is_cbow else 1 if per_pair else tile
    return Sizes(architecture, dim, negatives, arithmetic, longest, tile, outputs, columns, slices, warps or needed)


def constants(shape: Sizes, exclude: str, *, mean: bool = True, interpreted: bool = False) -> dict[str, Any]:
    """The kernel's compile-time arguments by name; `interpreted` where Triton's interpreter runs it."""
    no_output, no_input = exclude in ("output", "pair"), exclude in ("input", "pair")
    shared = shape.longest > 1  # a negative that is one input of several is left out for that pair alone
    common = {
        "dim": shape.dim, "negatives": shape.negatives, "tile": shape.tile, "outputs": shape.outputs,
        "columns": shape.columns, "slices": shape.slices, "redraw_output": no_output,
    }  # fmt: skip
    if shape.architecture == "cbow":
        return {**common, "mean": mean}
    return {
        **common, "longest": shape.longest, "redraw_input": no_input and not shared, "mask_input": no_input and shared,
        "bf16": shape.arithmetic == "bf16", "interpreted": interpreted,
    }  # fmt: skip


def alias_tensor(alias: npt.NDArray[np.uint32], device: torch.device) -> torch.Tensor:
    """An interleaved alias table, uint32[2V], as the kernel reads it: int64 [V], the threshold in the low half."""
    return torch.from_numpy(alias.astype("<u4").view("<i8").astype(np.int64)).to(device)


def default_programs(device: torch.device) -> int:
    """How many programs keep the device busy; few in the interpreter, which runs one after the other."""
    if device.type != "cuda":
        return 4
    return PROGRAMS_PER_SM * int(torch.cuda.get_device_properties(device).multi_processor_count)


class Launcher:
    """The kernel with everything that stays the same from batch to batch."""

    def __init__(
        self,
        tables: tuple[torch.Tensor, torch.Tensor],
        alias_V: torch.Tensor,
        shape: Sizes,
        *,
        predict: str = "center",
        exclude: str = "output",
        mean: bool = True,
        programs: int = 0,
    ) -> None:
        """Prepare for these tables, which are updated in place.

        Args:
            tables: input and output, float32 [V, D], contiguous, on one device.
            alias_V: see alias_tensor.
            shape: see choose_shape.
            predict: center (IN[context] predicts OUT[center]) or context; the latter's windows are single pairs.
            exclude: none, output, input or pair; with CBOW none or output.
            mean: CBOW's input is the mean of rows, otherwise their sum.
            programs: P; 0 chooses.
        """
        self._tables, self._alias_V, self._shape, self._predict = tables, alias_V, shape, predict
        self.programs = programs or default_programs(tables[0].device)
        self._constants = constants(shape, exclude, mean=mean, interpreted=tables[0].device.type != "cuda")
        self._is_cbow = shape.architecture == "cbow"  # it counts windows there, where skip-gram has gradients
        numbers = self.programs * (1 if self._is_cbow else shape.tile * shape.outputs)
        self._scratch = torch.empty(numbers, dtype=torch.float32, device=tables[0].device)

    def launch(
        self,
        center_B: torch.Tensor,
        context_B: torch.Tensor,
        loss_P: torch.Tensor,
        *,
        key: int,
        rate_start: float,
        rate_end: float,
    ) -> None:
        """Train on a batch; returns before the device has done it.

        Args:
            center_B: int32, contiguous, ids below V (not checked).
            context_B: likewise.
            loss_P: float64 [P], overwritten by the losses summed over each program's pairs. With CBOW they add up to
                the mean loss of the batch's windows times its pairs.
            key: taken modulo 2⁶²; with a window's place in the batch it decides its draws.
            rate_start: learning rate at the first pair; it changes linearly.
            rate_end: after the last pair.
        """
        pairs = center_B.numel()
        ids = (center_B, context_B) if self._predict == "center" else (context_B, center_B)
        KERNELS[self._shape.architecture][(self.programs,)](
            *ids, *self._tables, self._alias_V, loss_P, self._scratch, pairs, len(self._alias_V),
            key & _MASK_31, (key >> 31) & _MASK_31, float(rate_start), (float(rate_end) - float(rate_start)) / pairs,
            **self._constants, num_warps=self._shape.warps, maxnreg=self._shape.register_limit,
        )  # fmt: skip
        if self._is_cbow:
            loss_P *= pairs / self._scratch.sum(dtype=torch.float64)


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
