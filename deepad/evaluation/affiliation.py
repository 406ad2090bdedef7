"""Affiliation: how close alarms and events are to each other, on the scale of what chance would do.

Each event J = [a, b) owns the zone E = [e0, e1] of times that are closer to it than to any other event. Of a flagged
time at a distance d from J one asks how likely a time drawn at random from E is farther from J, and of a time y in J
whose closest flagged time in E is d away, how likely one drawn at random from E is farther from y:

    P(d)  = 1 - (|J| + min(d, m) + min(d, M)) / |E|,    m, M = a - e0, e1 - b, the smaller first,      P(0)  = 1,
    R(d)  = 1 - (min(d, m_y) + min(d, M_y)) / |E|,      m_y, M_y = y - e0, e1 - y, the smaller first,  R(0)  = 1.

Precision of J is the mean of P over the flagged time in its zone, recall of J the mean of R over J (0 if nothing in the
zone is flagged). Precision is the mean over events with an alarm in their zone, recall that over all events. Both
integrals are exact, since P and R are piecewise linear.

Assumes that the time between event and alarm is what matters, and that chance spreads alarms evenly. What to keep in
mind:

- Chance is far from 0: alarms at random have a precision of about 1/2 and, if there are some in each zone, a recall
  close to 1; flagging everything has a recall of 1 and a precision just above 1/2, which is an F1 above 2/3.
- Alarms weigh by their length within a zone, and how many there are is not seen. In a recording without events none
  counts. Read it beside the alarms a day.
- Zones depend on the other events: leaving one out changes the values of its neighbours.

Source: Huet, Navarro, Rossi, *Local evaluation of time series anomaly detection algorithms*, 2022.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError
from deepad.evaluation.spans import Spans, as_spans, overlaps

Values = NDArray[np.float64]


class Affiliation(NamedTuple):
    """Precision in [0, 1], None if there is no alarm, and recall in [0, 1]."""

    precision: float | None
    recall: float


class Parts(NamedTuple):
    """Precision (M,) of each event, NaN where no alarm is in its zone, and recall (M,)."""

    precision: Values
    recall: Values


def affiliation(events: ArrayLike, alarms: ArrayLike, within: tuple[float, float]) -> Affiliation:
    """Mean precision and recall of the events of one recording; arguments are those of `affiliation_parts`.

    Raises:
        InputError: what `affiliation_parts` refuses, or no event.
    """
    parts = affiliation_parts(events, alarms, within)
    if not len(parts.recall):
        raise InputError("got no event: affiliation is about the surroundings of events, leave the recording out")
    known = parts.precision[~np.isnan(parts.precision)]
    return Affiliation(float(known.mean()) if len(known) else None, float(parts.recall.mean()))


def affiliation_parts(events: ArrayLike, alarms: ArrayLike, within: tuple[float, float]) -> Parts:
    """Precision and recall of each event of one recording.

    Args:
        events: spans (M, 2).
        alarms: spans (K, 2) of flagged steps.
        within: begin and end of the recording, (0, N) for N steps.

    Raises:
        InputError: what `as_spans` refuses, or spans that leave the recording.
    """
    real, flagged = as_spans(events, "events"), as_spans(alarms, "alarms")
    for what, rows in (("events", real), ("alarms", flagged)):
        if len(rows) and (rows[0, 0] < within[0] or rows[-1, 1] > within[1]):
            raise InputError(
                f"{what} from {rows[0, 0]} to {rows[-1, 1]} leave the recording, {within[0]} to {within[1]}"
            )
    middle = (real[1:, 0] + real[:-1, 1]) / 2
    borders = np.concatenate([[within[0]], middle, [within[1]]])
    zones = np.stack([borders[:-1], borders[1:]], 1)[: len(real)]
    event, alarm = overlaps(zones, flagged)
    begin = np.maximum(flagged[alarm, 0], zones[event, 0])
    end = np.minimum(flagged[alarm, 1], zones[event, 1])
    return Parts(_precision(real, zones, event, begin, end), _recall(real, zones, event, begin, end))


def _precision(real: Spans, zones: Spans, event: NDArray[np.intp], begin: Values, end: Values) -> Values:
    """Mean of P over the alarms [begin, end) in the zone of each event."""
    (a, b), (e0, e1) = real[event].T, zones[event].T
    smaller, size = np.minimum(a - e0, e1 - b), e1 - e0

    def outside(d: Values) -> Values:
        """Integral of P over distances 0 to d."""
        near = np.minimum(d, smaller)
        return np.asarray(d - ((b - a) * d + near * (d - near / 2) + d**2 / 2) / size)

    def integral(t: Values) -> Values:
        """Integral of P from a to t, negative for t < a."""
        return np.asarray(np.clip(t, a, b) - a + outside(np.maximum(t - b, 0)) - outside(np.maximum(a - t, 0)))

    total = np.bincount(event, integral(end) - integral(begin), minlength=len(real))
    flagged = np.bincount(event, end - begin, minlength=len(real))
    return np.where(flagged > 0, total / np.where(flagged > 0, flagged, 1), np.nan)


def _recall(real: Spans, zones: Spans, event: NDArray[np.intp], begin: Values, end: Values) -> Values:
    """Mean of R over each event: what alarms cover, and what is closest to the end or to the begin of one."""
    (a, b), (e0, e1) = real[event].T, zones[event].T
    same = event[1:] == event[:-1]
    middle = (end[:-1] + begin[1:]) / 2
    since = np.concatenate([[-np.inf], np.where(same, middle, -np.inf)])[: len(event)]
    until = np.concatenate([np.where(same, middle, np.inf), [np.inf]])[: len(event)]
    covered = np.maximum(np.minimum(b, end) - np.maximum(a, begin), 0)

    def integral(low: Values, high: Values, far: Values) -> Values:
        """Integral of R over distances low to high from an alarm; `far` is that of the border behind the event.

        M_y is never below d, so that R(d) = 1 - (d + min(d, far - d)) / |E|.
        """
        high = np.maximum(low, high)
        return np.asarray(high - low - (_folded(high, far) - _folded(low, far)) / (e1 - e0))

    after = integral(np.maximum(a, end) - end, np.minimum(b, until) - end, e1 - end)
    before = integral(begin - np.minimum(b, begin), begin - np.maximum(a, since), begin - e0)
    return np.asarray(np.bincount(event, covered + after + before, minlength=len(real)) / (real[:, 1] - real[:, 0]))


def _folded(d: Values, far: Values) -> Values:
    """Integral of u + min(u, far - u) over u from 0 to d."""
    return np.asarray(np.where(d <= far / 2, d**2, far * d - far**2 / 4))
