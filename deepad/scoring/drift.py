"""Is the calibration stale? A test that new scores are still exchangeable with the calibration scores.

Each new score is ranked among the n calibration scores *and all earlier new ones*, and ties are split at random:

    p_t = (#{i : S_i > s} + U (1 + #{i : S_i = s})) / (n + t),      U uniform, from a keyed hash of t.

While all scores are exchangeable, the p_t are independent and uniform, exactly, whatever the scores are. A gambler bets
that they are not: capital 1 is split evenly on e in {-1, 0, 1}, each p_t multiplies a share by 1 + e (p_t - 1/2), and
before each step one percent of the capital is spread evenly again ("simple jumper"). With M_t the capital, and its
growth f_t = M_t / M_{t-1},

- `level`: stale at the first M_t >= 1 / level. P(ever stale | no drift) <= level (Ville). While nothing happens M_t
  falls, and has to rise again: after 10 000 good scores a drift takes four times as long to be seen.
- `run_length`: stale at the first R_t >= run_length, with R_t = f_t (1 + R_{t-1}), R_0 = 0. Without drift, the mean
  number of scores until a false alarm is at least `run_length`. R_t never falls far: for long streams.

Both directions are seen: scores that grow, and scores that become too small (a stuck sensor reconstructs well).
Ranks among a *fixed* calibration set would not do: they share its luck, and the capital grows without any drift.
Scores are first put into buckets 2 % wide: sign, and floor(log |s| / log 1.02) for |s| within 1e-30..1e30. The grid
depends on no data, so that the law stays exact, and the memory is fixed: one counter a bucket, 110 kB.

It fails, by alarms that mean no drift, where normal scores depend on their neighbours (any series, overlapping
windows): run it on block maxima or on thinned scores. It sees no change of scores within a bucket. A stale calibration
is an alarm of its own: not that the plant fails, but that thresholds no longer keep what they promise. Whether the
plant drifted or an anomaly persists, no unlabelled score can tell.

Source: Vovk, Gammerman, Shafer, *Algorithmic learning in a random world*, 2005 (smoothed ranks, martingales); Vovk,
Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, *Retrain or not retrain: conformal test martingales for change-point
detection*, 2021 (simple jumper); Shin, Ramdas, Rinaldo, *E-detectors*, 2024 (run length).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError, NonFiniteScoreError
from deepad.scoring.conformal import TIE_RTOL, Scores, as_scores
from deepad.scoring.guarantee import check_level

Counts = NDArray[np.int64]

LEVEL = 0.01  # probability of ever calling a good calibration stale, where nothing else is asked for
JUMP = 0.01  # share of the capital that is spread evenly again before each step
LAGS = 20  # lags at which calibration scores must look independent
SIGMAS = 4.5  # their autocorrelation may lie so many deviations from 0; one good set in seven thousand goes beyond

_UPWARD = np.cumprod(np.full(3488, 1.02))  # products, not powers or logarithms: the same bits on every machine
_POSITIVE = np.concatenate([1 / _UPWARD[::-1], [1.0], _UPWARD])
_EDGES = np.concatenate([-_POSITIVE[::-1], _POSITIVE])
_CHUNK = 128  # scores ranked together, each pair of them compared


@dataclass(frozen=True)
class DriftState:
    """What a monitor has found.

    Attributes:
        stale: whether new scores were found not to be exchangeable with the calibration scores.
        evidence: log10 of the capital M, or of R for a run length (-inf before the first score).
        limit: the evidence from which the calibration is stale.
        since: position in the stream, from 0, of the score that raised it, or None. The drift began earlier.
        seen: scores taken.
        skipped: NaN scores, which have no rank.
    """

    stale: bool
    evidence: float
    limit: float
    since: int | None
    seen: int
    skipped: int

    def __str__(self) -> str:
        after = f"{self.seen} scores" + (f" and {self.skipped} NaN skipped" if self.skipped else "")
        if self.stale:
            return (
                f"calibration is stale since score {self.since} (of {after}): new scores do not follow the law of the "
                "calibration scores, so alarm rates are no longer those promised; calibrate on recent normal data"
            )
        strength = f"evidence 10^{self.evidence:.2f}, limit 10^{self.limit:.2f}"
        return f"no sign that the calibration is stale: {strength} (after {after})"


class DriftMonitor:
    """Watches a stream of scores for a calibration that no longer fits; once stale, it stays so.

    The randomness comes from `key` and the number of the score: the same stream gives the same result, in any process
    and however it is cut into calls. Whoever can choose scores should not know the key.

    Attributes:
        level: probability of ever calling it stale without drift, None with a run length.
        run_length: mean number of scores until it is called stale without drift, None with a level.
    """

    def __init__(
        self,
        calibration_scores: ArrayLike,
        *,
        level: float | None = None,
        run_length: float | None = None,
        key: bytes = b"",
        exchangeable: bool = False,
    ) -> None:
        """Start from the scores (n,) of held-out normal samples, in the order they were recorded.

        Args:
            calibration_scores: the more, the sooner a drift is seen.
            level: in (0, 1); 0.01 if neither is given.
            run_length: in scores, above 1; instead of a level.
            key: up to 64 bytes.
            exchangeable: asserts that calibration and new scores are, and skips the check for autocorrelation. Needed
                for scores that are no longer in their order: sorted ones look dependent.

        Raises:
            InputError: scores that depend on their neighbours, or most of which differ by less than a bucket.
            NonFiniteScoreError: a calibration score is NaN or infinite.
            ValueError: no scores, arguments out of range, or both a level and a run length.
        """
        if level is not None and run_length is not None:
            raise ValueError("a monitor keeps either a level or a run_length, got both: leave one out")
        if run_length is not None and not 1 < run_length < math.inf:
            raise ValueError(f"run_length must be a number of scores above 1, got {run_length!r}")
        self.run_length = None if run_length is None else float(run_length)
        self.level = check_level("level", LEVEL if level is None else level) if run_length is None else None
        self._limit = math.log(self.run_length or 1 / (self.level or 1))
        hashlib.blake2b(key=key)  # refuses what is no key
        self._key = key
        scores = _as_calibration(calibration_scores)
        if not exchangeable and len(scores) > 1:
            _refuse_dependence(scores)
        _refuse_coarse(scores)
        self._counts = np.bincount(_buckets(scores), minlength=len(_EDGES) + 1)
        self._shares = (1 / 3, 1 / 3, 1 / 3)
        self._log_evidence = 0.0 if self.run_length is None else -math.inf
        self._seen, self._skipped = 0, 0
        self._since: int | None = None

    @property
    def state(self) -> DriftState:
        """What has been found so far."""
        evidence, limit = self._log_evidence / math.log(10), self._limit / math.log(10)
        return DriftState(self._since is not None, evidence, limit, self._since, self._seen, self._skipped)

    def update(self, scores: ArrayLike) -> DriftState:
        """Take the next scores (M,), in order. NaN is skipped and counted; infinities are the most extreme scores.

        Costs about 2 microseconds a score in long calls, and 80 in calls of one score.

        Raises:
            TypeError, ValueError: scores that are not one real number each.
        """
        values = as_scores(scores)
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            valid = np.flatnonzero(~np.isnan(chunk))
            crossed = self._bet(self._p_values(_buckets(chunk[valid])).tolist())
            if crossed is not None and self._since is None:
                self._since = self._seen + self._skipped + int(valid[crossed])
            self._seen += len(valid)
            self._skipped += len(chunk) - len(valid)
        return self.state

    def _p_values(self, buckets: Counts) -> Scores:
        """Smoothed p-values (m,) of the next scores, each among all before it; their buckets are counted."""
        m, reached = len(buckets), np.cumsum(self._counts)
        above, ties = reached[-1] - reached[buckets], self._counts[buckets]
        earlier = np.tri(m, k=-1, dtype=np.bool_)  # row t: the scores of this chunk before t
        above += (earlier & (buckets > buckets[:, None])).sum(axis=1)
        ties += (earlier & (buckets == buckets[:, None])).sum(axis=1)
        np.add.at(self._counts, buckets, 1)
        eights = range(self._seen // 8, (self._seen + m + 7) // 8)  # one hash makes eight of them
        uniforms = _uniforms(self._key, eights, "drift", each=8)[self._seen % 8 :][:m]
        return _smoothed(above, ties, reached[-1] + np.arange(m), uniforms)

    def _bet(self, p_values: Sequence[float]) -> int | None:
        """Take one p-value after the other; position of the first at which the limit is reached."""
        keep, spread, limit, crossed = 1 - JUMP, JUMP / 3, self._limit, None
        (small, neither, large), log = self._shares, self._log_evidence
        for t, p in enumerate(p_values):
            small = (keep * small + spread) * (1.5 - p)  # bets on small p-values, high scores
            neither = keep * neither + spread
            large = (keep * large + spread) * (0.5 + p)
            growth = small + neither + large
            small, neither, large = small / growth, neither / growth, large / growth
            if self.run_length is not None and log < 40:  # above, log(1 + R) = log R to the last bit
                log = math.log1p(math.exp(log))
            log += math.log(growth)
            if crossed is None and log >= limit:
                crossed = t
        self._shares, self._log_evidence = (small, neither, large), log
        return crossed

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Plain values for JSON, and arrays, from which `from_state` continues bit for bit. They hold the key."""
        document = {"level": self.level, "run_length": self.run_length, "key": self._key.hex()}
        document |= {"seen": self._seen, "skipped": self._skipped, "since": self._since}
        return document, {"counts": self._counts.copy(), "capital": np.array([*self._shares, self._log_evidence])}

    @classmethod
    def from_state(cls, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "DriftMonitor":
        """The monitor that `to_state` described.

        Raises:
            ValueError: a state that no monitor has.
        """
        plain = {"level", "run_length", "key", "seen", "skipped", "since"}
        if set(document) != plain or set(arrays) != {"counts", "capital"}:
            raise ValueError("the state of a drift monitor is what to_state() gave, got other names")
        key = bytes.fromhex(document["key"])
        monitor = cls([0.0], level=document["level"], run_length=document["run_length"], key=key)
        seen, skipped, since = document["seen"], document["skipped"], document["since"]
        counts, capital = np.array(arrays["counts"]), np.array(arrays["capital"])
        lawful = (
            (counts.dtype.name, *counts.shape) == ("int64", len(monitor._counts))
            and (capital.dtype.name, *capital.shape) == ("float64", 4)
            and all(type(count) is int and count >= 0 for count in (seen, skipped))
            and (since is None or (type(since) is int and 0 <= since < seen + skipped))
            and counts.min() >= 0
            and counts.sum() > seen
            and capital[:3].min() > 0
            and abs(capital[:3].sum() - 1) < 1e-9
            and (math.isfinite(capital[3]) if seen else capital[3] == monitor._log_evidence)
        )
        if not lawful:
            raise ValueError("the state of a drift monitor contradicts itself: calibrate, and start a new one")
        small, neither, large, monitor._log_evidence = capital.tolist()
        monitor._counts, monitor._shares = counts, (small, neither, large)
        monitor._seen, monitor._skipped, monitor._since = seen, skipped, since
        return monitor


def smoothed_p_values(
    calibration_scores: ArrayLike,
    scores: ArrayLike,
    *,
    key: bytes,
    ids: Sequence[object] | None = None,
    scorer_id: str = "",
) -> Scores:
    """P-values (M,) in (0, 1) that are exactly uniform for new normal samples, ties or not; NaN for a NaN score.

        p = (#{i : S_i > s} + U (1 + #{i : S_i = s})) / (n + 1),    U from a keyed hash of the id and the scorer

    For tests of uniformity. Never for decisions: below 1/(n+1) such a p-value holds a drawn number and no evidence, and
    two samples with equal scores would be decided differently. All M depend on one calibration set, and so on each
    other: each is uniform, averaged over calibration draws.

    Args:
        calibration_scores: (n,) of held-out normal samples.
        scores: (M,) of new samples.
        key: up to 64 bytes; with the same key and ids the p-values are the same in every process.
        ids: a name for each sample, told apart by `str`; their positions if not given, which is for one call only.
        scorer_id: digest of the model: two models draw different numbers.

    Raises:
        NonFiniteScoreError: a calibration score is NaN or infinite.
        ValueError: no calibration scores, or ids that are not a different one for each score.
    """
    held_out, values = np.sort(_as_calibration(calibration_scores)), as_scores(scores)
    names: Sequence[object] = range(len(values)) if ids is None else ids
    if not len(names) == len({str(name) for name in names}) == len(values):
        raise ValueError(f"ids must be {len(values)} different names, one for each score: some are missing or repeated")
    right = np.searchsorted(held_out, values, side="right")
    ties = right - np.searchsorted(held_out, values, side="left")
    n = len(held_out)
    return np.where(np.isnan(values), np.nan, _smoothed(n - right, ties, n, _uniforms(key, names, scorer_id)))


def autocorrelation(scores: ArrayLike, lags: int = LAGS) -> Scores:
    """Autocorrelations (lags,) in [-1, 1] of the ranks of scores (n,), lag 1 first.

    Of ranks, so that heavy tails do not matter; ties are put into a random but fixed order, so that independent scores
    of any law give about N(0, 1/n).

    Raises:
        ValueError: NaN scores, or `lags` outside 1..n-1.
    """
    values = as_scores(scores)
    n = len(values)
    if type(lags) is not int or not 1 <= lags < n:
        raise ValueError(f"lags must be an integer from 1 to one less than the {n} scores, got {lags!r}")
    if np.isnan(values).any():
        raise ValueError("the autocorrelation of NaN scores is not known: drop them first")
    ranks = np.empty(n)
    ranks[np.lexsort((np.random.default_rng(0).random(n), values))] = np.arange(n) - (n - 1) / 2
    return np.array([ranks[lag:] @ ranks[:-lag] for lag in range(1, lags + 1)]) / (ranks @ ranks)


def _as_calibration(scores: ArrayLike) -> Scores:
    values = as_scores(scores, "calibration scores")
    if len(values) == 0:
        raise ValueError("calibration needs at least one normal score, got none")
    if bad := int((~np.isfinite(values)).sum()):
        raise NonFiniteScoreError(f"{bad} of {len(values)} calibration scores are NaN or infinite: use clean rows")
    return values


def _refuse_dependence(scores: Scores) -> None:
    found, band = autocorrelation(scores, min(LAGS, len(scores) - 1)), SIGMAS / math.sqrt(len(scores))
    worst = int(np.argmax(np.abs(found)))
    if abs(found[worst]) > band:
        raise InputError(
            f"calibration scores depend on each other (autocorrelation {found[worst]:.2f} at lag {worst + 1}, at most "
            f"{band:.2f} expected of independent ones): run the monitor on block maxima or on thinned scores, or pass "
            "exchangeable=True if they are only not in the order they were recorded"
        )


def _refuse_coarse(scores: Scores) -> None:
    """Refuse scores that the grid cannot tell apart; nobody can tell equal ones apart."""
    buckets = _buckets(scores)
    inside = scores[buckets == np.bincount(buckets).argmax()]
    if len(inside) > max(len(scores) / 2, 10) and np.ptp(inside) > TIE_RTOL * np.abs(inside).max():
        raise InputError(
            f"{len(inside)} of {len(scores)} calibration scores lie within 2 % of {inside[0]:.6g}, where a monitor "
            "cannot tell them apart: subtract a number from all scores that was fixed before they were seen"
        )


def _buckets(scores: Scores) -> Counts:
    return np.searchsorted(_EDGES, scores, side="right")


def _smoothed(above: Counts, ties: Counts, n: int | Counts, uniforms: Scores) -> Scores:
    return np.asarray((above + uniforms * (1 + ties)) / (n + 1))


def _uniforms(key: bytes, ids: Sequence[object], scorer_id: str, each: int = 1) -> Scores:
    """`each` numbers strictly inside (0, 1) for every id, of 52 random bits: more would round up to 1."""
    texts = [str(name) for name in ids]
    messages = [f"{len(text)} {text}{scorer_id}".encode() for text in texts]
    digests = b"".join(hashlib.blake2b(message, key=key, digest_size=8 * each).digest() for message in messages)
    return np.asarray(((np.frombuffer(digests, "<u8") >> 12) + 0.5) / 2.0**52)
