"""What labels can say about the verdicts on series: threshold-free numbers, and those at the calibrated threshold.

| number                          | range       | by chance                     | chapter                          |
|---------------------------------|-------------|-------------------------------|----------------------------------|
| `vus_roc`, `vus_pr`             | [0, 1]      | above 1/2 and the prevalence  | `deepad.evaluation.vus`          |
| `event_recall`, delays          | [0, 1], >=0 | rises with what is flagged    | `deepad.evaluation.detection`    |
| `alarms_per_day`                | >= 0        | what the threshold promises   | `deepad.evaluation.detection`    |
| `range_precision`, `_recall`    | [0, 1]      | about the shares of time      | `deepad.evaluation.ranges`       |
| `affiliation_precision`         | [0, 1]      | about 1/2                     | `deepad.evaluation.affiliation`  |
| `affiliation_recall`            | [0, 1]      | close to 1                    | `deepad.evaluation.affiliation`  |
| `nab_*`                         | up to 100   | 0 without alarms              | `deepad.evaluation.nab`          |

No threshold here has seen a test label. F1 with adjusted points (an event counts whole if any step of it was flagged)
is not among them: random scores reach values that look like those of the best detectors.

Steps without a score (NaN) are in no number. Events keep their begin, so that a delay counts from it, and a gap in the
scores parts two alarms and is no time that was watched; ranges and affiliation see the scored steps one after the
other. An event of which no step was scored can be neither found nor missed, and is counted apart. Scores may come at a
steady pace of one in several steps, as windows with a stride give them: only what is longer is a gap.

Source: Kim, Choi, Choi, Lee, Yoon, *Towards a rigorous evaluation of time-series anomaly detection*, 2022 (adjusted
points); those of the chapters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError, naming
from deepad.evaluation.affiliation import affiliation_parts
from deepad.evaluation.detection import alarms_outside, delays
from deepad.evaluation.nab import PROFILES, nab_score
from deepad.evaluation.ranges import f_score, range_precision, range_recall
from deepad.evaluation.spans import Flags, Spans, amount, as_flags, spans, steps_of
from deepad.evaluation.vus import BUFFER, vus

DAY = 86_400
QUANTILES = {"median": 0.5, "q75": 0.75, "q90": 0.9}


def evaluate_series(
    score: Sequence[ArrayLike],
    flagged: Sequence[ArrayLike],
    y: Sequence[ArrayLike],
    *,
    seconds: float | Sequence[float] | None = None,
    buffer: int | Sequence[int] = BUFFER,
    cooldown: int = 0,
) -> dict[str, Any]:
    """Metrics of verdicts on labelled recordings, each an unbroken stretch of N steps.

    Args:
        score: (N,) of each recording, NaN where there is none.
        flagged: (N,) of each recording, true or false.
        y: labels (N,) of each recording, 1 = anomaly, 0 = normal.
        seconds: between two steps, of all recordings or of each.
        buffer: of VUS, of all recordings or of each; see `deepad.evaluation.vus.buffer_from`.
        cooldown: most steps between flagged ones of one alarm, at the pace of the scores.

    Returns:
        `n_recordings`, `n_steps`, `n_unscored` and `n_flagged_unscored` of them, `n_events`, `n_events_unscored` (not
        among the former);
        `ranking`: `vus_roc`, `vus_pr`, means over the `n_recordings` whose scored steps are of both classes, None
        without any;
        `at_threshold`: `event_recall` and `n_found`; of events that were found `delay_steps` and `delay_seconds`, each
        `median`, `q75` and `q90`; `n_alarms`, `n_alarms_outside` of events and, of the time outside of events that
        was watched, `days_outside` and `alarms_per_day`; `flagged_share` of steps and
        `flagged_share_normal` of normal steps; `range_precision`, `range_recall`, `range_f1` (flat, 1 / c, alpha 0);
        `affiliation_precision`, `affiliation_recall`; `nab_standard`, `nab_reward_low_FP`, `nab_reward_low_FN`,
        events being windows, without probation. Whatever cannot be divided or was not given is None.

    Raises:
        InputError: no recording, other numbers of them, or arrays that do not fit each other.
        ValueError: seconds that are not positive, a buffer or cooldown below 0.
    """
    given = (list(score), list(flagged), list(y))
    count = len(given[0])
    if not count or any(len(part) != count for part in given):
        raise InputError(
            f"got scores, flags and labels of {[len(part) for part in given]} recordings: give all of each"
        )
    parts = []
    for number, columns in enumerate(zip(*given, strict=True)):
        with naming(f"recording {number}"):
            parts.append(_Recording.of(*columns))
    intervals = None if seconds is None else _each("seconds", seconds, count)
    if intervals is not None and not all(0 < interval < np.inf for interval in intervals):
        raise ValueError(f"seconds between steps must be positive, got {seconds!r}")
    return {
        "n_recordings": count,
        "n_steps": sum(len(part.scores) for part in parts),
        "n_unscored": sum(int((~part.scored).sum()) for part in parts),
        "n_flagged_unscored": sum(part.unscored_flags for part in parts),
        "n_events": sum(len(part.events) for part in parts),
        "n_events_unscored": sum(part.unscored_events for part in parts),
        "ranking": _ranking(parts, _each("buffer", buffer, count)),
        "at_threshold": {
            **_found(parts, intervals),
            **_alarms(parts, intervals, cooldown),
            **_ranges(parts),
            **_affiliation(parts),
            **_nab(parts),
        },
    }


@dataclass(frozen=True)
class _Recording:
    """One recording of N steps.

    Attributes:
        anomaly: (N,).
        scores: (N,).
        scored: (N,).
        flagged: (N,), False for steps without a score.
        events: spans (M, 2) with a scored step.
        unscored_events: number of those without.
        unscored_flags: number of flagged steps without a score.
    """

    anomaly: Flags
    scores: NDArray[Any]
    scored: Flags
    flagged: Flags
    events: Spans
    unscored_events: int
    unscored_flags: int

    @classmethod
    def of(cls, score: ArrayLike, flagged: ArrayLike, y: ArrayLike) -> "_Recording":
        anomaly, scores, scored = steps_of(y, score)
        flags = as_flags(flagged)
        if flags.shape != scores.shape:
            raise InputError(f"got {len(flags)} flags for {len(scores)} scores: give one of each for every step")
        events = spans(anomaly)
        seen = amount(events, scored) > 0
        unscored = int((~seen).sum()), int((flags & ~scored).sum())
        return cls(anomaly, scores, scored, flags & scored, events[seen], *unscored)

    @property
    def squeezed(self) -> tuple[Spans, Spans, int]:
        """Events, spans of flagged steps, and the number of steps if those without a score did not exist."""
        until = np.concatenate([[0], np.cumsum(self.scored)])
        return until[self.events], spans(self.flagged[self.scored]), int(until[-1])

    @property
    def pace(self) -> int:
        """Steps from one with a score to the next, as they mostly are."""
        apart = np.diff(np.flatnonzero(self.scored))
        return int(np.bincount(apart).argmax()) if len(apart) else 1

    @property
    def watched(self) -> int:
        """Normal steps with a score, and those before each that its pace skips."""
        steps, watched = np.flatnonzero(self.scored), self.scored.copy()
        for back in range(1, self.pace):
            watched[np.maximum(steps - back, steps[:1])] = True  # the first one begins
        return int((watched & ~self.anomaly).sum())


def _ranking(parts: list[_Recording], buffers: list[Any]) -> dict[str, Any]:
    areas = [
        vus(part.scores, part.anomaly, buffer)
        for part, buffer in zip(parts, buffers, strict=True)
        if len(np.unique(part.anomaly[part.scored])) == 2
    ]
    roc, pr = np.mean(areas, axis=0).tolist() if areas else (None, None)
    return {"n_recordings": len(areas), "vus_roc": roc, "vus_pr": pr}


def _found(parts: list[_Recording], intervals: list[Any] | None) -> dict[str, Any]:
    steps = [delays(part.events, part.flagged) for part in parts]
    late = np.concatenate(steps)
    found = ~np.isnan(late)
    times = None if intervals is None else np.concatenate([s * each for s, each in zip(steps, intervals, strict=True)])
    return {
        "event_recall": float(found.mean()) if len(late) else None,
        "n_found": int(found.sum()),
        "delay_steps": _quantiles(late[found]),
        "delay_seconds": None if times is None else _quantiles(times[found]),
    }


def _alarms(parts: list[_Recording], intervals: list[Any] | None, cooldown: int) -> dict[str, Any]:
    found = []
    for part in parts:
        steps = (cooldown + 1) * part.pace - 1 if part.pace > 1 else cooldown
        found.append(alarms_outside(part.scores, part.flagged, part.anomaly, cooldown=steps))
    outside = np.concatenate(found)
    flagged = np.concatenate([part.flagged[part.scored] for part in parts])
    anomaly = np.concatenate([part.anomaly[part.scored] for part in parts])
    n, days = int(outside.sum()), None
    if intervals is not None:
        days = sum(part.watched * float(each) for part, each in zip(parts, intervals, strict=True)) / DAY
    return {
        "n_alarms": len(outside),
        "n_alarms_outside": n,
        "days_outside": days,
        "alarms_per_day": n / days if days else None,
        "flagged_share": float(flagged.mean()) if len(flagged) else None,
        "flagged_share_normal": float(flagged[~anomaly].mean()) if not anomaly.all() else None,
    }


def _ranges(parts: list[_Recording]) -> dict[str, Any]:
    """Of all recordings one after the other: spans do not merge where two meet."""
    squeezed = [part.squeezed for part in parts]
    starts = np.cumsum([0] + [n for _, _, n in squeezed])
    events = np.concatenate([events + start for (events, _, _), start in zip(squeezed, starts, strict=False)])
    flagged = np.concatenate([flags + start for (_, flags, _), start in zip(squeezed, starts, strict=False)])
    precision, recall = range_precision(events, flagged), range_recall(events, flagged)
    return {"range_precision": precision, "range_recall": recall, "range_f1": f_score(precision, recall)}


def _affiliation(parts: list[_Recording]) -> dict[str, Any]:
    found = [affiliation_parts(events, flags, (0, n)) for events, flags, n in (part.squeezed for part in parts)]
    precision, recall = (np.concatenate(values) for values in zip(*found, strict=True))
    near = precision[~np.isnan(precision)]
    return {
        "affiliation_precision": float(near.mean()) if len(near) else None,
        "affiliation_recall": float(recall.mean()) if len(recall) else None,
    }


def _nab(parts: list[_Recording]) -> dict[str, Any]:
    flagged, windows = [part.flagged for part in parts], [part.events for part in parts]
    return {f"nab_{name}": nab_score(flagged, windows, profile, probation=0) for name, profile in PROFILES.items()}


def _quantiles(delay: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(delay):
        return None
    return dict(zip(QUANTILES, np.quantile(delay, list(QUANTILES.values())).tolist(), strict=True))


def _each(name: str, given: Any, count: int) -> list[Any]:
    """One value for each recording."""
    values = [given] * count if np.ndim(given) == 0 else list(given)
    if len(values) != count:
        raise ValueError(f"{name}: got {len(values)} values for {count} recordings, give one for all or one for each")
    return values
