"""What a training shows besides its result: a report at the end, TensorBoard's files meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.common.outputs import write_output
from pipeline.storage import storage
from trainer.config import TrainConfig
from trainer.evaluation.eval_sets import EvalSets, read_evalsets
from trainer.evaluation.scores import Score, score_model
from trainer.reports.command import reads_of, refuse_place, require_page, summary
from trainer.training.loop import Loop
from trainer.training.tensorboard import FILES, Board, require_tensorboard


class Results:
    """Holds what --report and --tensorboard need; does nothing where neither is asked for."""

    def __init__(self, config: TrainConfig, rank: int) -> None:
        """Look for everything that could be wrong before hours are spent; of several processes 0 alone writes.

        Raises:
            UserError: a place or a file that cannot be, no TensorBoard.
            FormatError: an evaluation file that cannot be read.
        """
        self._config = config = dataclasses.replace(config, report="", tensorboard="") if rank else config
        reads = reads_of(config.similarity, config.analogies)
        if config.report:
            require_page(config.report, "--report", model=config.model, data=config.data, reads=reads)
        if config.tensorboard:
            require_tensorboard()
            for place in (config.tensorboard, *(storage.join(config.tensorboard, name) for name in FILES)):
                refuse_place(place, "--tensorboard", model=config.model, data=config.data, reads=reads)
        asked = config.report or config.tensorboard
        self._sets = read_evalsets(config.similarity, config.analogies) if asked else EvalSets()
        self._board: Board | None = None

    @contextlib.contextmanager
    def watching(self, loop: Loop) -> Iterator[None]:
        """Let TensorBoard see the loop's points, if asked for."""
        if not self._config.tensorboard:
            yield
            return
        with contextlib.closing(Board(self._config.tensorboard, loop.progress.pairs)) as self._board:
            loop.watch = self._board.watcher(lambda: loop.words_per_pair)
            yield

    def of_trained(self, loop: Loop, version: str) -> dict[str, Any]:
        """Write what is due of a model that was just published; return what the command's result says of it."""
        scores = self._write_report(version)
        if self._board is not None:
            model = loop.model({})
            scores = scores or score_model(model, self._sets)
            self._board.finish(model, summary(scores), loop.progress.pairs)
        return self._said(scores)

    def of_finished(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Write the report of a model that was finished before."""
        return self._said(self._write_report(str(info["version"])))

    def _write_report(self, version: str) -> list[Score]:
        config = self._config
        if not config.report:
            return []
        from trainer.reports.page import make_report

        report = make_report(config.model, version, data=config.data, sets=self._sets)
        write_output(config.report, report.page)
        return report.scores

    def _said(self, scores: Sequence[Score]) -> dict[str, Any]:
        return {
            **({"report": storage.redact(self._config.report)} if self._config.report else {}),
            **({"scores": summary(scores)} if scores else {}),
        }
