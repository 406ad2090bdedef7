"""Which events were found, how late, and how often there was an alarm outside of them.

An event is found at its first flagged step t in [begin, end), and t - begin is its delay. An alarm is an episode:
flagged steps with at most `cooldown` others between them. It lies outside if none of its flagged steps is in an event.

Assumes that one flagged step in an event is enough, and that events begin where their labels do. What to keep in mind:

- Flagging more finds more: an event of L steps has a flagged one with probability 1 - (1 - q)^L if a share q of all
  steps is flagged at random. Read the recall beside the share of flagged time, never alone.
- Delays are those of events that were found. A detector that finds the easy ones only has short delays.
- Episodes do not see how long they are: one that never ends, through all events, is none outside. The share of normal
  steps that are flagged does see it.

Source: Hundman et al., *Detecting spacecraft anomalies using LSTMs and nonparametric dynamic thresholding*, 2018,
section 4 (events that overlap an alarm count once), without its adjustment of points; Lavin & Ahmad, *Evaluating
real-time anomaly detection algorithms*, 2015 (why delays count from the begin of an event).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.evaluation.spans import amount, as_flags, as_spans, steps_of
from deepad.scoring.events import episodes


def delays(events: ArrayLike, flagged: ArrayLike) -> NDArray[np.float64]:
    """Steps (M,) from the begin of each event to its first flagged step, NaN if none is.

    Args:
        events: spans (M, 2).
        flagged: (N,), true or false.

    Raises:
        InputError: what `as_spans` and `as_flags` refuse.
    """
    rows, steps = as_spans(events, "events"), np.flatnonzero(as_flags(flagged))
    first = np.append(steps, np.iinfo(np.int64).max)[np.searchsorted(steps, rows[:, 0])]
    return np.where(first < rows[:, 1], first - rows[:, 0], np.nan)


def alarms_outside(score: ArrayLike, flagged: ArrayLike, y: ArrayLike, *, cooldown: int = 0) -> NDArray[np.bool_]:
    """For each alarm (K,) of N steps whether it lies outside all events.

    Args:
        score: (N,), NaN where there is none.
        flagged: (N,), true or false; steps without a score do not count.
        y: labels (N,), 1 = anomaly, 0 = normal.
        cooldown: most steps between flagged ones of one alarm.

    Raises:
        InputError: what `steps_of` and `as_flags` refuse.
        ValueError: another number of flags, or a cooldown that is no whole number of at least 0.
    """
    anomaly, scores, scored = steps_of(y, score)
    flags = as_flags(flagged)
    found = episodes(scores, flags, cooldown=cooldown)
    rows = np.array([(episode.onset, episode.end) for episode in found], np.int64).reshape(-1, 2)
    return np.asarray(amount(rows, flags & scored & anomaly) == 0)
