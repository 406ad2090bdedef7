"""Windows of a series, and the scores of its steps from the windows that cover them.

A series is an array (N, C), time by channel, held once. Its windows (M, T, C) are a view of it: memory does not grow
with their overlap. A step is covered by up to T windows, and a *rule* says what its score is made of:

| rule     | score of step t                                                      | looks ahead of t |
|----------|----------------------------------------------------------------------|------------------|
| `last`   | what step t adds to the score of the window that ends with it        | no (causal)      |
| `window` | the whole score of the window that ends with it                      | no (causal)      |
| `mean`   | mean of what step t adds to the scores of all windows that cover it  | T - 1 steps      |
| `median` | median of the same                                                   | T - 1 steps      |
| `max`    | largest of the same                                                  | T - 1 steps      |
| `cover`  | mean of the whole scores of all windows that cover it                | T - 1 steps      |

Which is better depends on what is labelled: a moment, or the hours around it. A step that no window scores (the first
T - 1 under a causal rule, and those that a stride skips) has the score NaN, never 0.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Rule = Literal["last", "window", "mean", "median", "max", "cover"]
RULES = ("last", "window", "mean", "median", "max", "cover")
CAUSAL = ("last", "window")
RISE = 0.1
"""Autocorrelation below which a cycle is not worth a window."""
_REDUCE: dict[str, Any] = {"mean": np.nanmean, "median": np.nanmedian, "max": np.nanmax, "cover": np.nanmean}

PAIRS = 1000
"""Most pairs of windows that are asked for their stride."""

Series = TypeVar("Series", NDArray[Any], torch.Tensor)


def windows_of(series: Series, window_size: int) -> Series:
    """All windows (N - T + 1, T, C) of a series (N, C), as a view that must not be written to.

    Raises:
        ValueError: fewer steps than a window has.
    """
    if window_size < 1 or len(series) < window_size:
        raise ValueError(f"a window of {window_size} steps does not fit into a series of {len(series)}")
    if isinstance(series, torch.Tensor):
        return series.unfold(0, window_size, 1).transpose(1, 2)
    return np.lib.stride_tricks.sliding_window_view(series, window_size, axis=0).swapaxes(1, 2)


def joined(windows: NDArray[Any]) -> list[NDArray[Any]]:
    """The unbroken stretches (n, C) that windows (N, T, C) in order of time were cut from, found by their overlap.

    The stride is the one at which most windows continue the one before; where a window does not, a stretch begins.
    Windows in no order are stretches of their own.
    """
    steps, stride = windows.shape[1], _stride(windows)
    follows = (windows[1:, : steps - stride] == windows[:-1, stride:]).all((1, 2)) & (stride < steps)
    begins = np.flatnonzero(np.concatenate([[True], ~follows]))
    stretches = []
    for begin, end in zip(begins, [*begins[1:], len(windows)], strict=True):
        rest = windows[begin + 1 : end, steps - stride :].reshape(-1, windows.shape[2])
        stretches.append(np.concatenate([windows[begin], rest]))
    return stretches


def _stride(windows: NDArray[Any]) -> int:
    """The stride at which more than half of the windows (N, T, C) continue the one before; T where there is none.

    Asked are pairs all over the series; two windows in which nothing varies continue each other at any stride.
    """
    steps: int = windows.shape[1]
    flat = (windows.max(1) == windows.min(1)).all(1)
    telling = np.flatnonzero(~(flat[1:] & flat[:-1])) if not flat.all() else np.arange(len(windows) - 1)
    if not len(telling):
        return steps
    asked = telling[np.linspace(0, len(telling) - 1, min(len(telling), PAIRS)).astype(int)]
    before, after = windows[asked], windows[asked + 1]
    last = (before[:, -1:] == after).all(2)  # (P, T): which steps after equal the last one before
    best, most = steps, len(asked) // 2
    for stride in range(1, steps):
        pairs = np.flatnonzero(last[:, steps - 1 - stride])
        if len(pairs) > most:
            count = int((before[pairs, stride:] == after[pairs, : steps - stride]).all((1, 2)).sum())
            best, most = (stride, count) if count > most else (best, most)
    return best


@dataclass(frozen=True)
class StepRule:
    """How windows of `window_size` steps, `stride` apart, score the steps of a series; see the module docstring.

    Raises:
        ValueError: an unknown rule, or a size or stride that is no positive whole number, or a stride that leaves
            steps between two windows out.
    """

    window_size: int
    rule: Rule = "last"
    stride: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        for name, value in (("window_size", self.window_size), ("stride", self.stride)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, got {value!r}")
        if self.stride > self.window_size:
            raise ValueError(f"stride {self.stride} skips steps between windows of {self.window_size}")

    @property
    def causal(self) -> bool:
        """Whether a step is scored without its own future."""
        return self.rule in CAUSAL

    @property
    def whole(self) -> bool:
        """Whether a window counts by its whole score instead of by what its steps add."""
        return self.rule in ("window", "cover")

    def scored(self, n: int) -> int:
        """How many steps of an unbroken series of n are scored."""
        windows = max(0, (n - self.window_size) // self.stride + 1)
        if self.causal or not windows:
            return windows
        return (windows - 1) * self.stride + self.window_size

    def reached(self, n: int) -> NDArray[np.bool_]:
        """Which steps (n,) of an unbroken series of n are scored."""
        t = np.arange(n)
        window, left = np.divmod(t - self.window_size + 1, self.stride)
        reached: NDArray[np.bool_] = (window >= 0) & (left == 0) if self.causal else t < self.scored(n)
        return reached

    def gather(self, errors: NDArray[np.float64], first: int, steps: range) -> NDArray[np.float64]:
        """Scores (n,) of a range of steps from the windows that are at hand.

        Args:
            errors: what steps add to the scores of consecutive windows (M, T), or the scores of windows for each of
                their steps if they count as a whole, without NaN; of a causal rule the last column is enough.
            first: number of the first of these windows; window i starts at step i * stride.
            steps: the steps to score, counted from the beginning of the series.
        """
        t, size = np.arange(steps.start, steps.stop), self.window_size
        if self.causal:
            window, left = np.divmod(t - size + 1, self.stride)
            known = (left == 0) & (window >= first) & (window < first + len(errors))
            scores = np.full(len(t), np.nan)
            scores[known] = errors[window[known] - first, -1]
            return scores
        covering = -(-size // self.stride)
        window = t[:, None] // self.stride - np.arange(covering)  # the latest that may cover t, and those before
        place = t[:, None] - window * self.stride
        known = (window >= first) & (window < first + len(errors)) & (place < size)
        values = np.full(window.shape, np.nan)
        values[known] = errors[window[known] - first, place[known]]
        scored = np.flatnonzero(known.any(1))
        scores = np.full(len(t), np.nan)
        if len(scored):
            scores[scored] = _REDUCE[self.rule](values[scored], axis=1)
        return scores


class StepWindows:
    """Cuts the steps of one stretch of a series into windows as they come, with the context each needs.

    Args:
        rule: size and stride of the windows.
    """

    def __init__(self, rule: StepRule) -> None:
        self.rule = rule
        self.seen = 0
        """Steps taken so far."""
        self.made = 0
        """Windows made so far; window i starts at step i * stride."""
        self.context: NDArray[Any] | None = None
        """The steps (m, C) that windows to come begin with."""

    def resume(self, context: NDArray[Any] | None, seen: int, made: int) -> None:
        """Go on where others left these."""
        self.context, self.seen, self.made = context, seen, made

    def take(self, steps: NDArray[Any]) -> NDArray[Any] | None:
        """Windows (m, T, C) that the next steps (n, C) complete, as a view; None if they complete none."""
        size, stride = self.rule.window_size, self.rule.stride
        rows = steps if self.context is None else np.concatenate([self.context, steps])
        self.seen += len(steps)
        begin = self.made * stride - (self.seen - len(rows))  # of the next window, in rows
        count = max(0, (len(rows) - begin - size) // stride + 1)
        self.made += count
        # a copy, so that a caller who fills one buffer again and again does not change what was seen
        self.context = rows[max(begin + count * stride, 0) :].copy()
        return windows_of(rows[begin:], size)[: count * stride : stride] if count else None


def dominant_period(series: NDArray[Any], *, shortest: int = 4, longest: int | None = None) -> int | None:
    """Length in steps of the strongest cycle of a series (N, C), None where there is none.

    The autocorrelations of the channels, each after a straight line was taken out, are averaged. The cycle is at the
    first of the highest local maxima that rise out of the valley before them by more than `RISE`, and by more than
    white noise does at any of so many lags in 99 of 100 series.

    Args:
        series: finite numbers; channels that never vary are left out.
        shortest: least period looked for.
        longest: largest period looked for; a third of the series if not given.
    """
    x = np.asarray(series, np.float64)
    n = len(x)
    longest = n // 3 if longest is None else min(longest, n // 3)
    if longest <= shortest:
        return None
    line = np.stack([np.ones(n), np.linspace(-1, 1, n)], 1)
    spread = np.ptp(x, axis=0)
    x = x - line @ np.linalg.lstsq(line, x, rcond=None)[0]
    x = x[:, (spread > 0) & (np.abs(x).max(0) > 1e-6 * spread)]  # neither constant nor a straight line
    if not x.shape[1]:
        return None
    power = np.abs(np.fft.rfft(x, 2 * n, axis=0)) ** 2
    correlation = np.fft.irfft(power, axis=0)[: longest + 2]
    mean = (correlation / correlation[0]).mean(1)
    lags = np.arange(shortest, longest + 1)
    rise = mean - np.minimum.accumulate(mean)
    least = max(RISE, float(np.sqrt(2 * np.log(100 * len(lags)) / n)))
    peaks = lags[(mean[lags] > mean[lags - 1]) & (mean[lags] >= mean[lags + 1])]
    peaks = peaks[np.minimum(mean[peaks], rise[peaks]) > least]
    if not len(peaks):
        return None
    strong = peaks[mean[peaks] > 0.9 * mean[peaks].max()]
    once = strong[strong < 1.5 * strong[0]]  # a multiple of a cycle may stand as high by chance
    return int(once[np.argmax(mean[once])])
