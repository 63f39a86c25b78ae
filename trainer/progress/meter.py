"""What a person sees while it trains: one line, renewed on a terminal, now and then added to a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pipeline.common.progress_bar import ProgressBar


def warn(text: str) -> None:
    """Tell something on stderr that does not stop the run."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Meter:
    """Shows speed, loss, learning rate and the time that is left."""

    def __init__(
        self,
        total_pairs: int,
        epochs: int,
        words_per_pair: float,
        *,
        seen_pairs: int = 0,
        seen_loss: float = 0.0,
        quiet: bool = False,
        out: TextIO | None = None,
    ) -> None:
        """Begin where an earlier process stopped.

        Args:
            total_pairs: of all epochs.
            epochs: how many.
            words_per_pair: raw words of the corpus for each pair.
            seen_pairs: pairs that an earlier process saw.
            seen_loss: their summed loss.
            quiet: show nothing.
            out: stderr by default.
        """
        self._epochs, self._words_per_pair = epochs, words_per_pair
        self._loss = self._shown_loss = seen_loss
        self._bar: ProgressBar | None = None
        if quiet:
            return
        from pipeline.common.progress_bar import ProgressBar

        self._bar = ProgressBar(
            "{desc}  {percentage:.1f}%  {remaining} left{postfix}", out, total=total_pairs, initial=seen_pairs
        )

    def add(self, epoch: int, pairs: int, loss: float, rate: float) -> None:
        """Count a step.

        Args:
            epoch: from 0.
            pairs: of the step.
            loss: summed over them.
            rate: learning rate after it.
        """
        bar = self._bar
        if bar is None or bar.disable:
            return
        self._loss += loss
        seen = bar.n + pairs
        recent = max(1, seen - bar.last_print_n)
        speed = recent / max(1e-9, time.time() - bar.last_print_t)
        bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}", refresh=False)
        bar.set_postfix_str(
            f"loss {(self._loss - self._shown_loss) / recent:.4f} (mean {self._loss / max(1, seen):.4f}), "
            f"{speed / 1e6:.3g} M pairs/s, {speed * self._words_per_pair / 1e6:.3g} M words/s, rate {rate:.3g}",
            refresh=False,
        )
        if bar.update(pairs):
            self._shown_loss = self._loss

    def retarget(self, total_pairs: int) -> None:
        """Expect another number of pairs from now on."""
        if self._bar is not None:
            self._bar.total = total_pairs

    def close(self) -> None:
        """Clear the line on a terminal: what follows begins at the margin."""
        if self._bar is not None:
            self._bar.close()
