"""What the generators share: their description, the checks of their arguments, where anomalies go, and a few draws.

Each generator draws from several random streams that follow from the seed: one for what is normal, one for where
anomalies go, and one for each pattern. So the normal rows depend on neither `rate` nor `severity`, and the anomalies of
two severities are in the same rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deepad.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]
Random = np.random.Generator
Span = tuple[str, int, int]
"""A pattern, the first row it changes and the row after its last."""

ROWS = (10, 10_000_000)
"""Fewest and most rows of a table."""
START = np.datetime64("2024-01-01T00:00:00.000")
"""First timestamp of every series: a Monday, midnight."""


@dataclass(frozen=True)
class Generator:
    """A kind of synthetic data.

    Attributes:
        name: what it is called.
        make: makes the table; takes keyword arguments only.
        kind: rows of a `"table"` are samples; those of a `"series"` are steps in order, at regular times.
        purpose: one line that says what the rows are.
        time: the timestamp column of a series.
        patterns: names of its anomalies.
    """

    name: str
    make: Callable[..., pa.Table]
    kind: Literal["table", "series"]
    purpose: str
    time: str | None
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """What was asked of a generator, checked: `counts` says how many rows each pattern gets."""

    name: str
    seed: int
    rows: int
    severity: float
    counts: dict[str, int]

    def random(self, stream: str) -> Random:
        """The random stream of this name, which no other stream has a part in."""
        return np.random.default_rng([self.seed, crc32(f"{self.name}/{stream}".encode())])


def order(
    generator: Generator, *, seed: int, rows: int, rate: float, severity: float, patterns: Sequence[str] | None
) -> Order:
    """Check what all generators are asked.

    Raises:
        InputError: a value out of range or a pattern the generator does not have.
    """
    seed, rows = whole("seed", seed, 0), whole("rows", rows, *ROWS)
    rate = number("rate", rate, 0, 0.5, "0 <= rate < 0.5")
    severity = number("severity", severity, 1e-3, 10, "0.001 <= severity <= 10", closed=True)
    if isinstance(patterns, str):
        patterns = (patterns,)
    chosen = generator.patterns if patterns is None else tuple(dict.fromkeys(patterns))
    unknown = [str(pattern) for pattern in chosen if pattern not in generator.patterns]
    if unknown or not chosen:
        got = f"{generator.name} has no pattern {' or '.join(unknown)}" if unknown else "patterns is empty"
        raise InputError(f"{got}: give some of {', '.join(generator.patterns)}, or rate=0 for none")
    share, rest = divmod(round(rate * rows), len(chosen))
    counts = {pattern: share + (place < rest) for place, pattern in enumerate(chosen)}
    return Order(generator.name, seed, rows, severity, counts)


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number between `least` and `most`; raises InputError."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or int(value) < least or (most is not None and int(value) > most):
        accepted = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be a whole number {accepted}, got {value!r}")
    return int(value)


def number(name: str, value: Any, low: float, high: float, accepted: str, *, closed: bool = False) -> float:
    """A number with low <= value < high, or <= high if closed; raises InputError that says what is `accepted`."""
    real = not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)
    if not real or not (low <= value < high or (closed and value == high)):
        raise InputError(f"{name} must be a number with {accepted}, got {value!r}")
    return float(value)


# ---- where anomalies go ----------------------------------------------------------------------------------------------


def lengths(random: Random, total: int, mean: float) -> list[int]:
    """Whole numbers >= 1 that add up to `total` and are about `mean` on average."""
    if total == 0:
        return []
    n = min(total, max(1, round(total / mean)))
    return [int(part) for part in 1 + random.multinomial(total - n, random.dirichlet(np.full(n, 4.0)))]


def place(random: Random, wanted: dict[str, list[int]], start: int, stop: int) -> list[Span]:
    """Spans of these lengths at random places of [start, stop), in random order, at least one untouched row apart.

    Raises:
        InputError: there is no room.
    """
    spans = [(pattern, length) for pattern, parts in wanted.items() for length in parts]
    random.shuffle(spans)
    need = sum(length for _, length in spans) + max(0, len(spans) - 1)
    if need > stop - start:
        raise InputError(
            f"{len(spans)} episodes with a normal row between them need {need} rows, and {stop - start} are open to "
            "anomalies: lower rate or anomaly_free, or raise duration"
        )
    at = start + np.sort(random.integers(0, stop - start - need + 1, len(spans)))
    before = np.cumsum([0, *(length + 1 for _, length in spans)])
    return [
        (pattern, int(first), int(first) + length)
        for (pattern, length), first in zip(spans, at + before[:-1], strict=True)
    ]


def series_spans(asked: Order, duration: float, anomaly_free: float, points: Sequence[str] = ()) -> list[Span]:
    """The episodes of a series, behind its anomaly-free beginning; those of `points` last a single step."""
    duration = number("duration", duration, 1, 1e6, "1 <= duration < 1e6")
    anomaly_free = number("anomaly_free", anomaly_free, 0, 1, "0 <= anomaly_free < 1")
    random = asked.random("place")
    wanted = {name: lengths(random, n, 1 if name in points else duration) for name, n in asked.counts.items()}
    return place(random, wanted, max(1, round(anomaly_free * asked.rows)), asked.rows)


def steps(spans: Sequence[Span]) -> Columns:
    """The rows that each pattern changes."""
    names = dict.fromkeys(name for name, _, _ in spans)
    return {name: np.concatenate([np.arange(a, b) for pattern, a, b in spans if pattern == name]) for name in names}


def choose(random: Random, counts: dict[str, int], free: NDArray[np.bool_], **first: NDArray[np.bool_]) -> Columns:
    """Rows (counts[p],) for every pattern p, from the free ones; for those in `first`, from these while they last."""
    shuffled, chosen = random.permutation(np.flatnonzero(free)), {}
    for name in sorted(counts, key=lambda name: name not in first):
        queue = shuffled[np.argsort(~first[name][shuffled], kind="stable")] if name in first else shuffled
        chosen[name] = np.sort(queue[: counts[name]])
        shuffled = shuffled[~np.isin(shuffled, chosen[name])]
    return chosen


# ---- draws -----------------------------------------------------------------------------------------------------------


def counted(random: Random, mean: Any, shape: float) -> Integers:
    """Counts of a negative binomial law: Poisson with a mean that varies by a gamma factor of this shape."""
    mean = np.asarray(mean, np.float64)
    drawn: Integers = random.poisson(mean * random.gamma(shape, 1 / shape, mean.shape))
    return drawn


def lognormal(random: Random, median: Any, sigma: Any, size: int) -> Floats:
    """Positive numbers with this median whose logarithm has the standard deviation `sigma`."""
    drawn: Floats = median * np.exp(sigma * random.standard_normal(size))
    return drawn


def of_day(hours: Any) -> Floats:
    """Hours folded into [0, 24)."""
    folded = np.asarray(hours, np.float64) % 24
    return np.where(folded < 24, folded, 0.0)  # the remainder of a tiny negative number rounds to 24


def autoregressive(random: Random, n: int, memory: float, sd: float) -> Floats:
    """n steps of a stationary process x[t] = memory * x[t-1] + noise with standard deviation `sd`."""
    noise = (sd * random.standard_normal(n)).tolist()
    x, keep = noise[0], (1 - memory**2) ** 0.5
    path = [x]
    for step in noise[1:]:
        x = memory * x + keep * step
        path.append(x)
    return np.array(path)


def toward(x: Any, target: Any, severity: float) -> Floats:
    """Positive numbers on the way to `target` on the log scale: x at severity 0, target at 1, beyond it above 1."""
    x = np.asarray(x, np.float64)
    there: Floats = x * (np.asarray(target) / x) ** severity
    return there


def moved(new: NDArray[Any], old: NDArray[Any], step: float) -> NDArray[Any]:
    """`new`, but one `step` up where rounding left the old value: what is labelled must differ."""
    return np.where(new == old, new + step, new).astype(old.dtype)


def quantile_bin(x: NDArray[Any], n: int) -> Integers:
    """The number of the quantile bin, of at most n, in which each value lies."""
    return np.searchsorted(np.unique(np.quantile(x, np.arange(1, n) / n)), x, side="right")


def exchange(
    random: Random, context: Integers, value: Integers, at: Integers, severity: float, usual: NDArray[np.bool_]
) -> Integers:
    """For each row in `at` another, `usual` row whose values it shall take: usual by themselves, not in its context.

    A row of context c takes a value v with probability proportional to P(v) * lift(c, v)^(1 - 2 * severity), where
    lift = P(v | c) / P(v): the normal law of that context at severity 0, no relation to it at 1/2, the opposite at 1.

    Args:
        context: (N,) codes of what stays.
        value: (N,) codes of what is taken.
        at: rows to be changed.
        usual: (N,) rows that may be taken from.
    """
    joint = np.full((context.max() + 1, value.max() + 1), 0.5)
    np.add.at(joint, (context, value), 1)
    lift = np.log(joint * joint.sum() / np.outer(joint.sum(1), joint.sum(0)))
    donors = np.flatnonzero(usual)
    donors = donors[np.argsort(value[donors], kind="stable")]
    held = np.bincount(value[donors], minlength=joint.shape[1])
    logits = (1 - 2 * severity) * lift + np.where(held > 0, np.log(np.maximum(held, 1)), -np.inf)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    upto = np.cumsum(weights / weights.sum(1, keepdims=True), axis=1)
    last = np.flatnonzero(held)[-1]
    chosen = np.minimum((random.random((len(at), 1)) > upto[context[at]]).sum(1), last)
    first = np.cumsum(held) - held
    among = first[chosen] + (random.random(len(at)) * held[chosen]).astype(np.int64)
    taken: Integers = np.where(donors[among] == at, donors[(among + 1) % len(donors)], donors[among])
    return taken


def labelled(columns: Columns, changed: Columns, **leading: pa.Array) -> pa.Table:
    """The table of these columns, with `label` and `pattern` from the rows that each pattern changed."""
    n = len(next(iter(columns.values())))
    names, code = ["", *changed], np.zeros(n, np.int64)
    for pattern, rows in changed.items():
        code[rows] = names.index(pattern)
    named = pa.array(np.array(names, object)[code], pa.string())
    return pa.table({**leading, **columns, "label": (code > 0).astype(np.int64), "pattern": named})


def timestamps(n: int, step_ms: int) -> pa.Array:
    """n regular timestamps, without a time zone, from Monday 2024-01-01 on."""
    return pa.array(START + np.arange(n) * np.timedelta64(step_ms, "ms"), pa.timestamp("ms"))
