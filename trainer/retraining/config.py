"""The settings of `retrain`: its own, those of training, and the pipeline's, which it passes on."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.flags import add_flags, expand_paths, flag_of
from pipeline.common.outputs import refuse_inputs
from pipeline.dataset.schema import canonical_json, sha256_hex
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.toml import check_settings, kinds_of, load_toml

#: Settings of training that retraining decides itself.
MANAGED = frozenset(
    {"data", "model", "run", "init_from", "init_version", "follow_latest", "resume", "overwrite", "quiet", "json"}
    | {"keep", "keep_versions", "similarity", "analogies", "report", "tensorboard"}
)
LIVE, COLD = "live", "none"


@dataclass(frozen=True)
class RetrainConfig:
    """The settings of one retraining."""

    input: tuple[str, ...] = dataclasses.field(metadata={"metavar": "GLOB", "many": True})
    """Globs of the corpus, as for the pipeline."""
    data: str = dataclasses.field(metadata={"metavar": "URI"})
    """The dataset's folder or URI: the pipeline writes a run into it."""
    model: str = dataclasses.field(metadata={"metavar": "URI"})
    """The model's folder or URI, whose live version is replaced if the new one passes the gate."""
    only_new: bool = False
    """Read only text that the live model was not trained on, whatever its files are called, and extend its vocabulary;
    otherwise all of the corpus is read again, with a vocabulary of its own."""
    changed: str = dataclasses.field(default="fail", metadata={"choices": ("fail", "new")})
    """What --only-new does about a file that was changed since the live model read it. fail: end with status 1;
    new: read it again, as new text."""
    force: bool = False
    """Train even if nothing is new since the last run."""
    init_from: str = dataclasses.field(default=LIVE, metadata={"metavar": "MODEL"})
    """Where words have their vectors from at the start: live, the live version; none, nowhere; or another model."""
    align: bool = True
    """Turn the new vectors into the live version's space, by the rotation that brings common words nearest (orthogonal
    Procrustes); products of input and output vectors stay as they are."""
    align_words: int = 50_000
    """Common words, the most frequent ones, that the rotation is fitted to."""
    similarity: tuple[str, ...] = dataclasses.field(default=(), metadata={"metavar": "FILE", "many": True})
    """Gate: word-similarity files, as for evaluate."""
    analogies: tuple[str, ...] = dataclasses.field(default=(), metadata={"metavar": "FILE", "many": True})
    """Gate: analogy files, as for evaluate."""
    min_similarity: float = 0.0
    """Gate: least Spearman correlation on each --similarity file."""
    min_analogies: float = 0.0
    """Gate: least accuracy on each --analogies file."""
    max_score_drop: float = 0.05
    """Gate: how much lower than the live version's each of these scores may be."""
    gate_words: int = 1000
    """Gate: words that the next three look at, the live version's most frequent ones."""
    min_known_words: float = 0.9
    """Gate: least share of them that the new vocabulary has."""
    min_overlap: float = 0.25
    """Gate: least share of their ten nearest neighbours that both versions have in common, on average."""
    min_cosine: float = 0.6
    """Gate: least mean cosine between their vectors in the live and the new version, once aligned."""
    min_token_ratio: float = 0.5
    """Gate: least number of tokens, as a share of those that the live version was trained on; not with --only-new."""
    max_dead_letters: float = 0.001
    """Gate: largest share of the text, in bytes, that was set aside."""
    keep: int = 5
    """Published versions to keep, the live one and those that a rollback can go to; and as many refused ones."""
    lease_minutes: float = 2.0
    """In an object store: how long the next one waits after a retraining was killed, 1440 at most; on a local disk not
    at all."""
    report: str = dataclasses.field(default="", metadata={"metavar": "PATH"})
    """Write a page about the new version here, published or refused, compared with the live one: a path or a URI."""
    quiet: bool = False
    """Show no progress, of the pipeline and the training."""
    json: bool = False
    """Print the result as one JSON object on the last line of standard output."""
    pipeline_args: str = dataclasses.field(default="", metadata={"parse": str})
    """More flags for the pipeline, as one text: "--passes 5 --runner=FlinkRunner"; those after -- are added."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            UserError: the first flag that cannot be.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):  # NaN is nowhere
                limit = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
                raise UserError(f"{flag_of(name)}: found {value:g}, expected {limit}")
        if self.changed not in ("fail", "new"):
            raise UserError(f"--changed: found {self.changed!r}, expected fail or new")

    @property
    def pipeline_flags(self) -> list[str]:
        """The flags that the pipeline gets besides those that retraining gives it.

        Raises:
            UserError: one of them is retraining's own business, or a quotation mark has no twin.
        """
        try:
            words = shlex.split(self.pipeline_args)
        except ValueError as error:
            raise UserError(f"--pipeline-args: found {self.pipeline_args!r} ({error}), expected flags") from None
        for word in words:
            name = word.partition("=")[0].replace("_", "-")
            if name in _OWN_PIPELINE_FLAGS:
                raise UserError(f"--pipeline-args: found {name}, expected none of those that retraining gives itself")
        return words


_OWN_PIPELINE_FLAGS = frozenset(
    f"--{name}" for name in ("input", "input-list", "output", "vocab", "run-id", "json", "wait", "no-wait")
)

#: Smallest and largest value of each number.
_RANGES: dict[str, tuple[float, float]] = {
    "align_words": (1, math.inf), "min_similarity": (-1, 1), "min_analogies": (0, 1), "max_score_drop": (0, 2),
    "gate_words": (1, math.inf), "min_known_words": (0, 1), "min_overlap": (0, 1), "min_cosine": (-1, 1),
    "min_token_ratio": (0, math.inf), "max_dead_letters": (0, 1), "keep": (1, 1000), "lease_minutes": (0.05, 1440),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All settings of one retraining: its own, and those of training by field name."""

    own: RetrainConfig
    training: dict[str, Any]

    def train_config(self, **managed: str | bool) -> TrainConfig:
        """The training's settings, with those that retraining decides."""
        return TrainConfig(**{**self.training, **managed})

    @property
    def digest(self) -> str:
        """What shapes a model besides the text: settings of training and pipeline, and what is done with them."""
        own = self.own
        shaping = {
            "training": self.train_config(data="-", model="-").shaping(), "pipeline": own.pipeline_flags,
            "init_from": own.init_from, "align": own.align_words if own.align else 0, "only_new": own.only_new,
        }  # fmt: skip
        return sha256_hex(canonical_json(shaping))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; those that are not given leave nothing in the namespace."""
    add_flags(parser, RetrainConfig)
    add_flags(parser.add_argument_group("training, as for train"), TrainConfig, but=MANAGED)
    for action in parser._actions:
        if action.default is not argparse.SUPPRESS:
            action.help = (action.help or "").replace("%(default)s", str(action.default))
            action.default, action.required = argparse.SUPPRESS, False
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these settings; flags win over it.")
    parser.add_argument("rest", nargs="*", metavar="-- PIPELINE_FLAG", help="flags for the pipeline: -- --passes 5")
    parser.set_defaults(config=None, usage_error=parser.error)


def read_settings(args: argparse.Namespace) -> Settings:
    """Join the flags with the file of --config; exits with status 2 where together they cannot be.

    Raises:
        UserError: the file is no TOML, or holds an unknown or mistyped setting.
    """
    given = dict(vars(args))
    path, usage_error, rest = given.pop("config"), given.pop("usage_error"), given.pop("rest", [])
    values = {**(_read_file(path) if path else {}), **given}
    missing = [flag_of(name) for name in ("input", "data", "model") if not values.get(name)]
    if missing:
        usage_error(f"the following arguments are required: {', '.join(missing)}")
    values["pipeline_args"] = " ".join([values.get("pipeline_args", ""), shlex.join(rest)]).strip()
    try:
        settings = _split(expand_paths(values, RetrainConfig))
        settings.train_config(data="-", model="-")
        _ = settings.own.pipeline_flags
        if settings.own.report:
            refuse_inputs("--report", settings.own.report, [("--config", path or "")])
    except (UserError, ValueError) as error:
        usage_error(str(error))
        raise
    return settings


def _split(values: Mapping[str, Any]) -> Settings:
    names = {field.name for field in dataclasses.fields(RetrainConfig)}
    own: dict[str, Any] = {name: values[name] for name in values if name in names}
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    return Settings(RetrainConfig(**own), {name: value for name, value in values.items() if name not in names})


def _read_file(path: str) -> dict[str, Any]:
    kinds = {name: kind for name, kind in kinds_of(TrainConfig).items() if name not in MANAGED}
    return check_settings(load_toml(path), kinds | kinds_of(RetrainConfig), path)
