"""What to train and how: one frozen TrainConfig, from flags, a TOML file, or both."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pipeline.common.flags import add_flags, expand_paths, flag_of, parse_size
from pipeline.common.outputs import refuse_inputs
from trainer.distributed.merge_plan import MERGE_RULES
from trainer.errors import UserError
from trainer.subwords.ngrams import Subwords
from trainer.toml import read_toml

# sgd: on 19.9 M words of Wikipedia 0.04 scored above word2vec's 0.025 on every set, after 1 epoch and after 5.
LEARNING_RATES = {"sgd": 0.04, "adagrad": 0.05, "adam": 0.001}
# With sgd; the rates that scored highest there. A sum of six rows is six times their mean, and so is what moves it.
CBOW_RATES = {"mean": 0.2, "sum": 0.03}
BATCH_PAIRS = {"cpu": 256, "cuda": 4096}

EXCLUDE = ("none", "output", "input", "pair")
SCHEDULES = ("linear", "cosine", "constant")

T = TypeVar("T")
Setting: TypeAlias = str | int | float | bool | None
Settings: TypeAlias = dict[str, Setting]


def _setting(default: T, **about: object) -> T:
    """A field; what `shapes` the trained bytes enters model.json, and must be the same when the command is repeated."""
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class TrainConfig:
    data: str = dataclasses.field(metadata={"metavar": "URI"})
    """The dataset's folder or URI: the pipeline's --output."""
    model: str = dataclasses.field(metadata={"metavar": "URI"})
    """The model's folder or URI."""
    run: str = ""
    """Run of the dataset to read; by default the one that was published last."""
    dim: int = _setting(100, shapes=True)
    """Numbers in a word's vector."""
    architecture: str = _setting("skipgram", choices=("skipgram", "cbow"), shapes=True)
    """skipgram: each context word predicts its center by itself; cbow: all context words of a window do it together,
    which takes a fraction of the time."""
    cbow_mean: bool = _setting(True, shapes=True)
    """With cbow, a window's input is the mean of its words' vectors; --no-cbow-mean takes their sum."""
    subwords: str = _setting("", metavar="MIN-MAX", shapes=True)
    """Lengths of the character n-grams that words are made of, as fastText has them, such as 3-6; by default words have
    none. A word's vector is the mean of its own row and its n-grams' rows, and words that the corpus lacks have one
    too."""
    buckets: int = _setting(2 << 20, parse=parse_size, shapes=True)
    """With --subwords, rows of the table that all n-grams share by their hash."""
    negatives: int = _setting(5, shapes=True)
    """Negative words for each pair; for each window with cbow."""
    negative_sharing: str = _setting("auto", choices=("auto", "pair", "window", "pool"), shapes=True)
    """What has the same negatives. pair: nothing, as in word2vec; window: the pairs of a window; pool: these too, and
    windows near each other have many of theirs in common, which is fastest. auto: pool where it can be; the reference
    engine and --predict context have pair."""
    power: float = _setting(0.75, shapes=True)
    """Negatives are drawn by count^power; 0 is uniform, 1 plain frequency."""
    learning_rate: float = _setting(0.0, shapes=True)
    """Learning rate at the start; 0 takes 0.04 with sgd (0.2 with cbow, 0.03 with --no-cbow-mean), 0.05 with
    adagrad, 0.001 with adam. With sgd and several processes that default grows by a quarter, for four or more."""
    epochs: int = _setting(1, shapes=True)
    """Times to walk over the corpus; a dataset with as many passes has fresh draws for each."""
    device: str = _setting("auto", choices=("auto", "cpu", "cuda"), shapes=True)
    """Where to train; auto takes CUDA where there is one, and Triton for the fused engine. Results of CUDA are not
    equal to the bit from run to run."""
    threads: int = 0
    """Threads to train with; 0 for one per core. One thread gives the same bytes each time."""
    seed: int = _setting(1, shapes=True)
    """Seed of every random draw."""
    engine: str = _setting("auto", choices=("auto", "fused", "reference"), shapes=True)
    """fused: compiled and fast, by Numba on a CPU and by Triton on CUDA; reference: plain PyTorch, any optimizer;
    auto: fused, unless another setting asks for what only the reference has."""
    arithmetic: str = _setting("fp32", choices=("fp32", "bf16"), shapes=True)
    """How the fused engine multiplies on CUDA: in float32, or bfloat16 summed in float32; tables are float32 always."""
    optimizer: str = _setting("sgd", choices=tuple(LEARNING_RATES), shapes=True)
    """adagrad and adam are the reference engine's; adam moves every row at each step: for small vocabularies."""
    batch_size: int = _setting(0, shapes=True)
    """Pairs of one step of the reference engine; 0 takes 256 on a CPU, 4096 on CUDA. A step adds up its pairs'
    gradients, so that each pair counts as in word2vec; with sgd, very large batches diverge."""
    predict: str = _setting("center", choices=("center", "context"), shapes=True)
    """Which word of a pair is the output: center as in word2vec's code, context as in its papers."""
    exclude: str = _setting("output", choices=EXCLUDE, shapes=True)
    """Words of the pair that are never among its negatives; pair is both."""
    distinct_negatives: bool = _setting(False, shapes=True)
    """Draw a pair's negatives without replacement; needs --engine reference."""
    init: str = _setting("word2vec", choices=("word2vec", "uniform", "normal"), shapes=True)
    """Initial tables. word2vec: input uniform(±0.5/dim), output zero; uniform: both uniform(±0.5/dim); normal: both
    from N(0, 1)."""
    schedule: str = _setting("linear", choices=SCHEDULES, shapes=True)
    """How the learning rate falls over the run."""
    min_learning_rate_fraction: float = _setting(1e-4, shapes=True)
    """Lowest learning rate, as a share of the first."""
    clip_norm: float = _setting(0.0, shapes=True)
    """Scale a step's gradient down to this norm; 0 is off; needs --engine reference."""
    shuffle: bool = _setting(True, shapes=True)
    """Read the row groups in another random order each epoch; --no-shuffle reads them as written."""
    init_from: str = _setting("", metavar="MODEL")
    """A model to start from: its words keep their vectors, other words start from scratch. Or a file, maybe in gzip:
    word2vec's, text or binary, or fastText's .bin, whose n-grams are kept if --subwords and --buckets are the same."""
    init_version: str = ""
    """Version of --init-from; by default its live one."""
    merge_pairs: int = _setting(0, parse=parse_size)
    """Several processes (torchrun): pairs that each of them trains, at most, before they join their tables; 0 takes as
    many as make 120 joins an epoch. A join also comes after each row group that is longer."""
    merge: str = _setting("adasum", choices=MERGE_RULES)
    """Several processes: how they join the changes of a row. adasum adds what is at right angles and averages what is
    parallel; average and sum are for comparison."""
    follow_latest: bool = False
    """Begin each epoch with the run that is published by then, if it knows all words of the one before."""
    resume: str = _setting("auto", choices=("auto", "never", "must"))
    """auto: go on where an interrupted run stopped; never: begin again; must: fail where there is nothing to go on."""
    overwrite: bool = False
    """Begin again whatever is in --model; a finished model there stays until the new one is complete."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints; 0 writes one only when the run is stopped by SIGTERM or Ctrl-C."""
    checkpoint_pairs: int = _setting(0, parse=parse_size)
    """Pairs between checkpoints, whichever comes first; 0 goes by the minutes alone."""
    keep: int = 2
    """Checkpoints to keep."""
    keep_versions: int = 5
    """Published versions to keep, the live one and those that a rollback can go to; at least two, so that a reader who
    has just opened the one before can go on reading."""
    audit: bool = False
    """Count the pairs that are trained and compare them with the dataset after each epoch: each must come once."""
    report: str = _setting("", metavar="PATH")
    """Write a page about the model here at the end, one HTML file with plots: a path or a URI."""
    similarity: tuple[str, ...] = _setting((), metavar="FILE", many=True)
    """Word-similarity file that --report and --tensorboard score the model on; may be given several times."""
    analogies: tuple[str, ...] = _setting((), metavar="FILE", many=True)
    """Analogy file for them; may be given several times."""
    tensorboard: str = _setting("", metavar="DIR")
    """Write TensorBoard's event files into this folder while it trains: loss, learning rate, speed; at the end the
    scores, and the vectors for its projector."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one JSON object on the last line of standard output."""

    def __post_init__(self) -> None:
        """Check each value and what they are together."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                limit = f"{low} or more" if high == math.inf else f"{low} to {high}"
                raise UserError(f"{flag_of(name)}: found {value}, expected {limit}")
        for field in dataclasses.fields(self):
            choices, value = field.metadata.get("choices"), getattr(self, field.name)
            if choices and value not in choices:
                raise UserError(f"{flag_of(field.name)}: found {value!r}, expected one of {', '.join(choices)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{flag_of(field.name)}: found {value}, expected a finite number")
        if self.overwrite and self.resume == "must":
            raise UserError("--overwrite: cannot be combined with --resume must")
        self._check_inputs()
        for name in self.reference_only() if self.engine == "fused" else ():
            value = str(getattr(self, name)).lower()
            raise UserError(f"{flag_of(name)}: found {value} with the fused engine, expected --engine reference")

    def _check_inputs(self) -> None:
        """Refuse what inputs of several rows cannot have."""
        if self.architecture == "cbow" and self.predict != "center":
            raise UserError(f"--predict: found {self.predict} with --architecture cbow, expected center")
        if self.architecture == "cbow" and self.arithmetic != "fp32":
            raise UserError(f"--arithmetic: found {self.arithmetic} with --architecture cbow, expected fp32")
        if self._several_rows and self.exclude not in ("none", "output"):
            raise UserError(f"--exclude: found {self.exclude} with {self._several_rows}, expected none or output")
        if self.subwords and self.follow_latest:
            raise UserError("--follow-latest: cannot be combined with --subwords: n-grams' rows begin where words' end")
        self.subword_rule()

    @property
    def _several_rows(self) -> str:
        """What makes an input of several rows, "" for nothing."""
        return "--architecture cbow" if self.architecture == "cbow" else "--subwords" if self.subwords else ""

    def subword_rule(self) -> Subwords | None:
        """Return what words are made of, None where each has but its own row."""
        try:
            return Subwords.parse(self.subwords, self.buckets) if self.subwords else None
        except ValueError as error:
            raise UserError(f"{'--buckets' if 'buckets' in str(error) else '--subwords'}: {error}") from None

    def reference_only(self) -> list[str]:
        """Fields that ask for what only the reference engine has."""
        return [name for name, off in _REFERENCE_ONLY.items() if getattr(self, name) != off]

    def resolve(self, has_cuda: Callable[[], bool], cores: int) -> TrainConfig:
        """Replace each "choose for me" by what this machine gives.

        Args:
            has_cuda: tells whether CUDA can be used; asked only where it matters.
            cores: for threads = 0.

        Raises:
            UserError: CUDA was asked for where there is none; a flag that the chosen engine does not have.
        """
        engine = self.engine
        if engine == "auto":
            engine = "reference" if self.reference_only() else "fused"
        device = self.device
        if device == "auto":
            able = engine == "reference" or (not self.subwords and importlib.util.find_spec("triton") is not None)
            device = "cuda" if able and has_cuda() else "cpu"
        elif device == "cuda" and not has_cuda():
            raise UserError("--device cuda: no usable CUDA device (--device cpu needs none)")
        if self.subwords and (engine, device) == ("fused", "cuda"):
            raise UserError("--subwords: found the fused engine on cuda, expected --device cpu or --engine reference")
        if self.arithmetic != "fp32" and (engine, device) != ("fused", "cuda"):
            raise UserError(
                f"--arithmetic {self.arithmetic}: found --engine {engine} on {device}, expected --engine fused on cuda"
            )
        return dataclasses.replace(
            self, device=device, engine=engine, negative_sharing=self._sharing(engine, device),
            threads=self.threads or cores, learning_rate=self.learning_rate or self._default_rate(),
            batch_size=self.batch_size or (BATCH_PAIRS[device] if engine == "reference" else 0),
        )  # fmt: skip

    def _default_rate(self) -> float:
        if (self.architecture, self.optimizer) == ("cbow", "sgd"):
            return CBOW_RATES["mean" if self.cbow_mean else "sum"]
        return LEARNING_RATES[self.optimizer]

    def _sharing(self, engine: str, device: str) -> str:
        is_cbow, by_one = self.architecture == "cbow", self.predict == "context"
        alone = by_one or (engine == "reference" and not is_cbow)
        shared = "pool" if (engine, device) == ("fused", "cpu") else "window"
        sharing = self.negative_sharing if self.negative_sharing != "auto" else "pair" if alone else shared
        for given, has, able in (
            ("with --architecture cbow", is_cbow, ("window", "pool")),
            ("with the reference engine", engine == "reference", ("window",) if is_cbow else ("pair",)),
            ("on cuda", device == "cuda", ("window",) if is_cbow else ("pair", "window")),
            ("with --predict context", by_one, ("pair", "pool")),
        ):
            if has and sharing not in able:
                raise UserError(f"--negative-sharing: found {sharing} {given}, expected {' or '.join(able)}")
        return sharing

    def shaping(self) -> Settings:
        """The settings that decide the trained bytes, by field name."""
        return {name: getattr(self, name) for name in SHAPING}


#: Smallest and largest value of each number.
_RANGES: dict[str, tuple[float, float]] = {
    "dim": (1, 1 << 16), "negatives": (1, 1 << 12), "power": (0, math.inf), "learning_rate": (0, math.inf),
    "epochs": (1, 1_000_000), "threads": (0, 4096), "seed": (0, 2**63 - 1), "batch_size": (0, 1 << 30),
    "min_learning_rate_fraction": (0, 1), "clip_norm": (0, math.inf), "checkpoint_minutes": (0, math.inf),
    "keep": (1, 1000), "keep_versions": (2, 100), "checkpoint_pairs": (0, math.inf), "merge_pairs": (0, math.inf),
}  # fmt: skip

#: What the fused engine has no code for, and the value that asks for nothing.
_REFERENCE_ONLY: Settings = {"optimizer": "sgd", "batch_size": 0, "distinct_negatives": False, "clip_norm": 0.0}

SHAPING = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.metadata.get("shapes"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field; flags that are not given leave nothing in the namespace."""
    add_flags(parser, TrainConfig)
    for action in parser._actions:
        if action.default is not argparse.SUPPRESS:
            action.help = (action.help or "").replace("%(default)s", str(action.default))
            action.default, action.required = argparse.SUPPRESS, False
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these settings; flags win over it.")
    parser.set_defaults(usage_error=parser.error)


def read_config(args: argparse.Namespace) -> TrainConfig:
    """Join the flags with the file of --config; exits with status 2 where together they cannot be.

    Raises:
        UserError: the file is no TOML, or holds an unknown or mistyped setting.
    """
    given = dict(vars(args))
    path, usage_error = given.pop("config"), given.pop("usage_error")
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    values = {**(read_toml(path, TrainConfig) if path else {}), **given}
    missing = [flag_of(name) for name in ("data", "model") if not values.get(name)]
    if missing:
        usage_error(f"the following arguments are required: {', '.join(missing)}")
    try:
        config = TrainConfig(**expand_paths(values, TrainConfig))
        if config.report:
            refuse_inputs("--report", config.report, [("--config", path or "")])
        return config
    except (UserError, ValueError) as error:
        usage_error(str(error))
        raise


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
