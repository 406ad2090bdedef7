"""The NAB score: early alarms in windows around anomalies are rewarded, alarms outside cost by their distance.

With sigma(x) = 2 / (1 + exp(5 x)) - 1, and -1 for x > 3, the flagged steps t of a recording add up to

    hit * sigma(-(r - t + 1) / w) / sigma(-1)    in a window of w steps with the last step r, its first alarm alone,
    -miss                                        for a window without any,
    false_alarm * sigma((t - r) / (w - 1))       behind the last window before t,
    -false_alarm                                 before the first window,

so that an alarm at the first step of a window is worth `hit`. Sums of all recordings are normalised so that no alarm at
all gives 0 and the first step of every window alone 100; there is no lower end.

Assumes that the windows are those in which an alarm is useful. What to keep in mind:

- Every flagged step outside a window costs, so that long runs of flags cost much; alarms of which a pager sends one
  (`deepad.scoring.events.notify`) score higher with the same false alarms.
- An alarm close behind a window costs little, whatever it was about, and the windows of NAB's own files are a tenth of
  their time: random scores have 17 there, at the threshold that is best for them.
- NAB's published numbers choose one threshold by the labels of the whole corpus. Here alarms are given: `nab_score` is
  that of a threshold that saw no label, `oracle_nab` the other, and the two do not compare.

The first 15 % of a recording, 750 steps at most, may be left out as probation, in which NAB's detectors learn; a window
keeps its width if only a part of it remains, and is left out if nothing does.

Source: Lavin & Ahmad, *Evaluating real-time anomaly detection algorithms: the Numenta anomaly benchmark*, 2015, section
II, with the profiles and the details (-1 beyond 3, the width w - 1, the sweep) of the benchmark's present rules.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from deepad.errors import InputError
from deepad.evaluation.spans import Spans, as_flags, as_spans

PROBATION = 0.15
_LONGEST = 5000
"""Steps of which probation is a share at most."""


class Profile(NamedTuple):
    """What a window found at once earns, and what a far false alarm and a missed window cost."""

    hit: float
    false_alarm: float
    miss: float


STANDARD = Profile(1.0, 0.11, 1.0)
PROFILES = {
    "standard": STANDARD,
    "reward_low_FP": Profile(1.0, 0.22, 1.0),
    "reward_low_FN": Profile(1.0, 0.11, 2.0),
}


class NABTotal(NamedTuple):
    """Sum of rewards and costs, at most hit * windows, and the number of windows that count."""

    value: float
    windows: int


class OracleNAB(NamedTuple):
    """The best NAB score, 0 to 100, and the threshold that takes it: what scores at or above it is flagged."""

    value: float
    threshold: float


def nab_score(
    flagged: Sequence[ArrayLike],
    windows: Sequence[ArrayLike],
    profile: Profile = STANDARD,
    *,
    probation: float = PROBATION,
) -> float | None:
    """NAB score of given alarms: at most 100, 0 without any, negative if they cost more; None where no window counts.

    Args:
        flagged: (N,) of each recording, true or false.
        windows: spans (M, 2) of each recording.
        profile: one of `PROFILES`, or another.
        probation: share of a recording that is left out at its begin, in [0, 1].

    Raises:
        InputError: flags that are not true or false, windows that `as_spans` refuses or that leave their recording, or
            not windows for each recording.
        ValueError: probation outside [0, 1].
    """
    total = nab_total(flagged, windows, profile, probation=probation)
    return _normalised(total, profile) if total.windows else None


def nab_total(
    flagged: Sequence[ArrayLike],
    windows: Sequence[ArrayLike],
    profile: Profile = STANDARD,
    *,
    probation: float = PROBATION,
) -> NABTotal:
    """What alarms add up to before they are normalised; arguments and errors are those of `nab_score`."""
    total, count = 0.0, 0
    for flags, rows, start in _recordings(flagged, windows, probation):
        steps = start + np.flatnonzero(as_flags(flags)[start:])
        value, window = _values(steps, rows, profile)
        found, first = np.unique(window[window >= 0], return_index=True)
        counted = int((rows[:, 1] > start).sum())
        total += value[window < 0].sum() + value[window >= 0][first].sum() - profile.miss * (counted - len(found))
        count += counted
    return NABTotal(float(total), count)


def oracle_nab(
    score: Sequence[ArrayLike],
    windows: Sequence[ArrayLike],
    profile: Profile = STANDARD,
    *,
    probation: float = PROBATION,
) -> OracleNAB | None:
    """The best NAB score of one threshold for all recordings, as on NAB's scoreboard; None where no window counts.

    That threshold was chosen by the test labels. No detector knows it, so the value is a bound on what any threshold
    could reach. It is the highest of those that are best, infinite if no alarm is.

    Args:
        score: (N,) of each recording, higher is more anomalous; a step of NaN is never flagged.
        windows: as in `nab_score`.
        profile: as in `nab_score`.
        probation: as in `nab_score`.

    Raises:
        InputError: scores that are no real numbers, or windows that `nab_score` refuses.
        ValueError: probation outside [0, 1].
    """
    gains, levels, count = [np.empty(0)], [np.empty(0)], 0
    for scores, rows, start in _recordings(score, windows, probation):
        if scores.dtype.kind not in "fiub":
            raise InputError(f"scores must be real numbers, got dtype {scores.dtype}")
        steps = start + np.flatnonzero(~np.isnan(scores[start:]))
        of_steps = scores[steps].astype(np.float64)
        kept, gain = _gains(steps, of_steps, rows, profile)
        gains.append(gain)
        levels.append(of_steps[kept])
        count += int((rows[:, 1] > start).sum())
    if not count:
        return None
    thresholds, place = np.unique(np.concatenate(levels), return_inverse=True)
    change = np.bincount(place, np.concatenate(gains), minlength=len(thresholds))
    totals = -profile.miss * count + np.append(0.0, np.cumsum(change[::-1]))
    best = int(np.argmax(totals))
    value = _normalised(NABTotal(float(totals[best]), count), profile)
    return OracleNAB(value, float(np.append(np.inf, thresholds[::-1])[best]))


def _gains(
    steps: NDArray[np.intp], scores: NDArray[np.float64], windows: Spans, profile: Profile
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which steps (K,) change the sum when the threshold comes down to their scores (K,), and by how much, in order.

    In a window these are the steps that score higher than all before them: each becomes the first alarm in place of
    the next of its kind.
    """
    value, window = _values(steps, windows, profile)
    kept = window < 0
    for first, last in np.searchsorted(steps, windows):
        inside = scores[first:last]
        kept[first + 1 : last] = inside[1:] > np.maximum.accumulate(inside)[:-1]
        kept[first : first + (last > first)] = True
    next_alike = np.append(window[kept][1:] == window[kept][:-1], False)
    replaced = np.where(next_alike, np.append(value[kept][1:], 0.0), -profile.miss)
    return kept, value[kept] - np.where(window[kept] < 0, 0.0, replaced)


def _values(steps: NDArray[np.intp], windows: Spans, profile: Profile) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """What an alarm at each of these steps (K,) is worth on its own, and in which window (K,) it is, -1 for none."""
    latest = np.searchsorted(windows[:, 0], steps, "right") - 1
    value, window = np.full(len(steps), -profile.false_alarm), np.full(len(steps), -1)
    behind = latest >= 0  # the begin of a window
    begin, end = windows[latest[behind]].T
    left = end - steps[behind]  # steps from here to the end of the window
    x = np.where(left > 0, -left / (end - begin), (1 - left) / np.maximum(end - begin - 1, 1))
    sigma = np.where(x > 3, -1.0, 1 - 2 * expit(5 * x))
    value[behind] = np.where(left > 0, profile.hit * sigma / (1 - 2 * expit(-5)), profile.false_alarm * sigma)
    window[behind] = np.where(left > 0, latest[behind], -1)
    return value, window


def _normalised(total: NABTotal, profile: Profile) -> float:
    nothing, perfect = -profile.miss * total.windows, profile.hit * total.windows
    return 100 * (total.value - nothing) / (perfect - nothing)


def _recordings(
    given: Sequence[ArrayLike], windows: Sequence[ArrayLike], probation: float
) -> Iterator[tuple[NDArray[Any], Spans, int]]:
    """Flags or scores (N,) of each recording, its windows, and the first step after probation."""
    if not 0 <= probation <= 1:
        raise ValueError(f"probation must lie in [0, 1], got {probation!r}")
    if len(given) != len(windows):
        raise InputError(f"got windows of {len(windows)} recordings for {len(given)}: give some, or [], for each")
    for steps, spans in zip(given, windows, strict=True):
        values, rows = np.asarray(steps), as_spans(spans, "windows")
        if values.ndim != 1:
            raise InputError(f"got values of shape {values.shape}: give one for each step of a recording, (N,)")
        if len(rows) and (rows[0, 0] < 0 or rows[-1, 1] > len(values)):
            raise InputError(f"windows from {rows[0, 0]} to {rows[-1, 1]} leave the recording of {len(values)} steps")
        yield values, rows, min(int(probation * len(values)), int(probation * _LONGEST))
