"""pairstream: word vectors from corpora too large for one machine's memory.

    import pairstream

    pairstream.prepare("corpus/*.txt.gz", "data", passes=5)      # text → pair shards, in this process
    vectors = pairstream.train("data", "model", epochs=5)        # pair shards → vectors
    vectors.most_similar("king")

    pairstream.load("model")            # vectors that were trained before
    pairstream.open_dataset("data")     # a dataset's vocabulary, totals and pairs
    pairstream.PairStream("data")       # its pairs as a PyTorch dataset

On the command line the same is `pairstream pipeline`, `pairstream train`, and so on. Nothing heavy is imported before
it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.common.lazy import lazy
from pipeline.dataset import __version__

if TYPE_CHECKING:
    from pipeline.dataset.reader import Dataset, open_dataset
    from trainer import PairStream, Vectors, load

__all__ = ["PairStream", "__version__", "load", "open_dataset", "prepare", "train"]

DEBUG = "--debug"
_PLACES = {"PairStream": "trainer", "load": "trainer", "open_dataset": "pipeline.dataset.reader"}


def prepare(
    input: str | Sequence[str],
    output: str,
    *,
    beam_flags: Sequence[str] = (),
    **settings: Any,
) -> Dataset:
    """Make a dataset of pairs from text, and wait for it.

    Args:
        input: glob or URI of the text, or several.
        output: the dataset's folder or URI.
        beam_flags: Beam's own, such as ``--runner=FlinkRunner``; without them the work is done in this process.
        settings: fields of `pipeline.config.Config`: the flags of ``pairstream pipeline``, with underscores.

    Returns:
        The dataset as it was published.

    Raises:
        ConfigError: a setting cannot be used.
        PipelineError, FormatError: the input or the output cannot be used; nothing is published then.
    """
    from pipeline.config import Config
    from pipeline.dataset.reader import open_dataset
    from pipeline.inputs.discover import refuse_targets
    from pipeline.job import run_job

    patterns = (input,) if isinstance(input, str) else tuple(input)
    config = Config(**{"input": patterns, "output": output, **settings})
    refuse_targets(config)
    return open_dataset(output, run_job(config, beam_flags).run_id)


def train(data: str, model: str, **settings: Any) -> Vectors:
    """Train word vectors on a dataset of pairs, in this process.

    A training that was interrupted goes on where it stopped.

    Args:
        data: the dataset's folder or URI.
        model: the model's folder or URI.
        settings: fields of `trainer.config.TrainConfig`: the flags of ``pairstream train``, with underscores.

    Returns:
        The vectors of the version that was published; ``info["version"]`` is its name.

    Raises:
        UserError: a setting cannot be used, or the model's folder holds another training.
        FormatError: a damaged dataset or model.
    """
    from trainer import load
    from trainer.config import TrainConfig
    from trainer.training.command import train as run

    result = run(TrainConfig(**{"data": data, "model": model, "quiet": True, **settings}))
    return load(model, version=result["version"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; return its exit status. --debug in front shows the traceback of what goes wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [DEBUG]:
        from pipeline.common.exit import debugging

        debugging.set()
        words = words[1:]
    if words[:1] == ["pipeline"]:
        from pipeline.cli import main as pipeline

        return pipeline(words[1:])
    from trainer.cli import main as trainer

    return trainer(words)


def run() -> int:
    """What the installed command does; what to exit with."""
    if [word for word in sys.argv[1:3] if word != DEBUG][:1] == ["pipeline"]:
        from pipeline.__main__ import leave_at_once

        leave_at_once()
    from pipeline.common.exit import run_command

    return run_command(main)


__getattr__ = lazy(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if __name__ == "__main__":
    sys.exit(run())
