"""The reference engine: autograd and an optimizer of PyTorch, on a CPU or on CUDA.

Shapes: B pairs, W windows, K negatives, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from trainer.config import TrainConfig
from trainer.data.order import Ids
from trainer.engines.init import Tables
from trainer.engines.model import CBOW, SGNS
from trainer.engines.negatives import NegativeSampler
from trainer.errors import UserError
from trainer.models.tensors import AnyArray
from trainer.subwords.ngrams import Parts

BATCHES_A_STEP = 64
# Both kinds update the same rows by the same numbers; sparse ones are as fast where the vocabulary is about as large
# as what a batch touches, and 9 times as fast at 50 times that (sgd, D=100, one core).
SPARSE_ROWS_RATIO = 2


class ReferenceEngine:
    """Mini-batches of summed losses: with sgd each pair takes word2vec's step, from the rows before the batch."""

    def __init__(
        self, config: TrainConfig, tables: Tables, counts_V: npt.NDArray[np.int64], parts: Parts | None = None
    ) -> None:
        """Move the tables to the device of a resolved config."""
        self._config = config
        self._device = torch.device(config.device)
        self._sampler = NegativeSampler(
            counts_V, power=config.power, exclude=config.exclude, distinct=config.distinct_negatives, seed=config.seed
        )
        self.step_pairs = BATCHES_A_STEP * config.batch_size
        touched = config.batch_size * (config.negatives + 1)
        sparse = config.optimizer != "adam" and not config.clip_norm and len(tables[0]) > SPARSE_ROWS_RATIO * touched
        # PyTorch warns at every start unless one says whether to check what its own optimizers make.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        if config.device == "cpu":
            torch.set_num_threads(config.threads)
        with self._memory_errors():
            model = (
                CBOW(tables, sparse=sparse, parts=parts, mean=config.cbow_mean)
                if config.architecture == "cbow"
                else SGNS(tables, sparse=sparse, parts=parts)
            )
            self._model = model.to(self._device)
            self._optimizer = _make_optimizer(config, self._model)

    def step(self, center_B: Ids, context_B: Ids, *, lr_start: float, lr_end: float, key: int) -> float:
        rows = center_B.size
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for number, (start, end) in enumerate(self._cut(center_B)):
            for group in self._optimizer.param_groups:
                group["lr"] = lr_start + (lr_end - lr_start) * (start / rows)
            loss_W = self._loss(center_B[start:end], context_B[start:end], (key, number))
            total += loss_W.detach().double().mean() * (end - start)
            with self._memory_errors():
                self._update(loss_W.sum())
        return float(total)

    def measure(self, center_B: Ids, context_B: Ids, *, key: int) -> float:
        with torch.no_grad():
            losses = [
                self._loss(center_B[start:end], context_B[start:end], (key, number)).double().mean() * (end - start)
                for number, (start, end) in enumerate(self._cut(center_B))
            ]
        return float(sum(losses))

    def _cut(self, center_B: Ids) -> Iterator[tuple[int, int]]:
        """Where batches begin and end: every batch_size pairs, with CBOW moved on to the end of a window."""
        start, size, pairs = 0, self._config.batch_size, center_B.size
        while start < pairs:
            end = min(start + size, pairs)
            while self._config.architecture == "cbow" and end < pairs and center_B[end] == center_B[end - 1]:
                end += 1
            yield start, end
            start = end

    def tables(self) -> Tables:
        input_VD, output_VD = (table.weight.detach().cpu().numpy() for table in (self._model.input, self._model.output))
        return input_VD, output_VD

    def live(self) -> dict[str, AnyArray]:
        if self._config.optimizer == "adam" and not self._optimizer.state:
            self._fill_optimizer_state()
        named = {"input": self._model.input.weight, "output": self._model.output.weight}
        live: dict[str, AnyArray] = {name: parameter.detach() for name, parameter in named.items()}
        for name, parameter in named.items():
            for part, tensor in self._optimizer.state.get(parameter, {}).items():
                live[f"{name}.{part}"] = tensor
        return live

    def _fill_optimizer_state(self) -> None:
        """Adam makes its state at the first step: take one that changes nothing but that state."""
        for parameter in self._model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        for state in self._optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def _loss(self, center_B: Ids, context_B: Ids, key: tuple[int, int]) -> torch.Tensor:
        """Losses [B] of a batch's pairs; of its windows [W] with CBOW."""
        config = self._config
        output_B, input_B = (center_B, context_B) if config.predict == "center" else (context_B, center_B)
        others: list[npt.NDArray[np.int64]] = []
        words_W = input_B
        if config.architecture == "cbow":  # a run of one center is a window
            first_B = np.diff(output_B, prepend=-1) != 0
            others, words_W, output_B = [np.cumsum(first_B) - 1], output_B[first_B], output_B[first_B]
        negatives_WK = self._sampler.draw(words_W, output_B, config.negatives, key=key)
        with self._memory_errors():
            ids = (input_B, output_B, negatives_WK, *others)
            tensors = (self._to_device(np.asarray(one, np.int64)) for one in ids)
            loss_W: torch.Tensor = self._model(*tensors)
        return loss_W

    def _to_device(self, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(ids).to(self._device)

    def _update(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_norm)
        self._optimizer.step()

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise UserError(
                f"--device {self._config.device}: found too little memory on it for --dim {self._config.dim} and "
                f"--batch-size {self._config.batch_size}; lower them, or take --device cpu"
            ) from None


def has_cuda() -> bool:
    """Tell whether PyTorch can compute on a CUDA device."""
    return torch.cuda.is_available()


def _make_optimizer(config: TrainConfig, model: SGNS) -> torch.optim.Optimizer:
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "adam": torch.optim.Adam,
    }
    return kinds[config.optimizer](model.parameters(), lr=config.learning_rate)  # type: ignore[call-arg]
