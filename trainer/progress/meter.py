"""What a person sees while it trains: one line, renewed on a terminal, now and then added to a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from pipeline.common.terminal import StatusLine

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0


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
        clock: Callable[[], float] = time.monotonic,
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
            clock: seconds.
        """
        self._total, self._epochs, self._words_per_pair = total_pairs, epochs, words_per_pair
        self._pairs, self._loss, self._quiet, self._clock = seen_pairs, seen_loss, quiet, clock
        self._line = StatusLine(out)
        self._start = self._shown = clock()
        self._start_pairs = self._shown_pairs = seen_pairs
        self._shown_loss = seen_loss

    def add(self, epoch: int, pairs: int, loss: float, rate: float) -> None:
        """Count a step.

        Args:
            epoch: from 0.
            pairs: of the step.
            loss: summed over them.
            rate: learning rate after it.
        """
        self._pairs += pairs
        self._loss += loss
        now = self._clock()
        if not self._quiet and now - self._shown >= (TERMINAL_SECONDS if self._line.terminal else LOG_SECONDS):
            self._line.show(self._parts(epoch, rate, now))
            self._shown, self._shown_pairs, self._shown_loss = now, self._pairs, self._loss

    def retarget(self, total_pairs: int) -> None:
        """Expect another number of pairs from now on."""
        self._total = total_pairs

    def close(self) -> None:
        """Clear the line on a terminal: what follows begins at the margin."""
        self._line.clear()

    def _parts(self, epoch: int, rate: float, now: float) -> list[tuple[int, str]]:
        recent = self._pairs - self._shown_pairs
        speed = recent / (now - self._shown)
        mean = f" (mean {self._loss / self._pairs:.4f})"
        left_s = (self._total - self._pairs) * (now - self._start) / (self._pairs - self._start_pairs)
        return [
            (0, f"epoch {epoch + 1}/{self._epochs}"),
            (1, f"{self._pairs / self._total:.1%}"),
            (3, f"loss {(self._loss - self._shown_loss) / recent:.4f}{mean}"),
            (6, f"rate {rate:.3g}"),
            (5, f"{speed / 1e6:.3g} M pairs/s"),
            (4, f"{speed * self._words_per_pair / 1e6:.3g} M words/s"),
            (2, f"{format_seconds(left_s)} left"),
        ]
