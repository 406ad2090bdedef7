"""From scores to a verdict."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError
from deepad.scoring.conformal import Scores
from deepad.scoring.groups import AnyCalibration, AnyThreshold, GroupedCalibration, GroupedThreshold
from deepad.scoring.verdict import Verdict

CHUNK = 4096
UNKNOWN_GROUP = "(unknown)"


def judge(
    calibration: AnyCalibration,
    thresholds: tuple[AnyThreshold, ...],
    score: Scores,
    groups: NDArray[np.str_] | None = None,
    *,
    tiers: Iterable[str] | None = None,
    stepwise: bool = False,
) -> Verdict:
    """The verdict on scores (N,), some at a time: ranks and roundings of all at once would outweigh the scores.

    Args:
        calibration: of the scores.
        thresholds: nested, mild to severe, of this calibration.
        score: of samples, or of the steps of a series.
        groups: of the samples (N,), for a calibration by groups.
        tiers: names of the thresholds, if they are tiers.
        stepwise: whether a NaN score is a step that no window scores, not a failure.

    Raises:
        InputError: another number of groups than of scores.
    """
    n = len(score)
    if groups is not None and len(groups) != n:
        raise InputError(f"got {len(groups)} groups for {n} samples: give one a sample")
    p_value, passed = np.empty(n), np.empty(n, np.int8)
    for start in range(0, n, CHUNK):
        some = slice(start, start + CHUNK)
        given = (score[some],) if groups is None else (score[some], groups[some])
        p_value[some] = calibration.p_values(*given)
        passed[some] = sum(threshold.flag(*given).astype(np.int8) for threshold in thresholds)
    unscored = np.isnan(score) if stepwise else None
    flagged = passed > 0 if unscored is None else (passed > 0) & ~unscored
    first, group = thresholds[0], None
    if isinstance(calibration, GroupedCalibration) and isinstance(first, GroupedThreshold) and groups is not None:
        codes = calibration.codes(groups)  # -1 for an unknown group is the last of each
        group = np.array([*calibration.parts, UNKNOWN_GROUP])[codes]
        value: float | Scores = np.array([*(part.value for part in first.parts.values()), np.nan])[codes]
    elif not isinstance(first, GroupedThreshold):
        value = first.value
    tier = np.where(np.isnan(p_value), -1, passed).astype(np.int8)
    if unscored is not None:
        tier[unscored] = 0
    return Verdict(
        score=score,
        p_value=p_value,
        flagged=flagged,
        alpha=first.guarantee.alpha,
        threshold=value,
        guarantee=first.guarantee,
        unscored=unscored,
        tier=None if tiers is None else tier,
        tiers=() if tiers is None else tuple(tiers),
        group=group,
    )
