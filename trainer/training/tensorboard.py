"""A training in TensorBoard: event files with loss, learning rate and speed, scores, and vectors for its projector."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping

from pipeline.common.outputs import open_output, write_output
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.exporting.formats import PROJECTOR, Export, write_projector
from trainer.models.store import Model
from trainer.progress.curve import Point, mean_loss, words_per_second
from trainer.vectors.search import frequency_order

#: What `finish` writes next to the event files.
FILES = (*PROJECTOR, "projector_config.pbtxt")

_PROJECTED = 10_000  # words that the projector gets, the most frequent ones: it holds them in a browser
_FLUSH_S = 10

_PROJECTOR = """embeddings {
  tensor_name: "input vectors"
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
}
"""


def require_tensorboard() -> None:
    """Find out early that TensorBoard is missing.

    Raises:
        UserError: it is.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard: no module 'tensorboard'; `pip install 'pairstream[tensorboard]'` brings it")


class Board:
    """One event file."""

    def __init__(self, folder: str, pairs: int) -> None:
        """Begin a file in ``folder``.

        Args:
            folder: TensorBoard's --logdir, or a folder in it.
            pairs: that were seen before; what an interrupted training wrote of later ones no longer counts.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer = SummaryWriter(folder, purge_step=pairs + 1 if pairs else None, flush_secs=_FLUSH_S)

    def watcher(self, words_per_pair: Callable[[], float]) -> Callable[[Point, Point], None]:
        """Return what a loop tells its points to; steps are pairs seen."""

        def watch(before: Point, now: Point) -> None:
            words = words_per_second(before, now, words_per_pair())
            pairs = words_per_second(before, now, 1.0)
            values = {"loss": mean_loss(before, now), "learning_rate": now[3], "speed/words_per_second": words}
            self.scalars(values | {"speed/pairs_per_second": pairs}, int(now[0]))

        return watch

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by their names."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, model: Model, scores: Mapping[str, float], step: int) -> None:
        """Write the scores of the trained model, and its most frequent words for the projector."""
        if scores:
            self.scalars({f"scores/{name}": value for name, value in scores.items()}, step)
        counts = model.vocabulary.counts
        export = Export(model.input_VD, model.vocabulary.column, counts, frequency_order(counts)[:_PROJECTED])
        names = [storage.join(self._folder, name) for name in PROJECTOR]
        with open_output(names[0]) as vectors, open_output(names[1]) as metadata:
            write_projector(export, vectors, metadata)
        write_output(storage.join(self._folder, FILES[-1]), _PROJECTOR.encode())

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
