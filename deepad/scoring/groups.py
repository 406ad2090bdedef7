"""Calibration by groups: the false-alarm rate is kept in every group, not only on average.

What is normal at noon may be an anomaly at night. A *contextual* anomaly is found by comparing a sample with the
calibration samples of its own group (hour, machine, merchant category): the same ranks, inside each group. The rate is
then at most alpha in every group; a pooled threshold keeps it on average only, by flagging nothing in calm groups and
too much in lively ones. What is promised with a probability (`pac`, `simultaneous`) holds for each group taken by
itself, not for all of them at once.

The group must be a function of what is known when the decision is made, and the grouping must be fixed before scores
are seen. A sample of a group that was not calibrated has no p-value: it is never called normal, and counted apart.

Source: Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005, section 4.5 (Mondrian predictors).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError, InsufficientCalibrationError
from deepad.frames import MISSING, listed
from deepad.scoring.conformal import TIE_RTOL, Calibration, Scores, Threshold, as_scores
from deepad.scoring.guarantee import Guarantee
from deepad.scoring.promise import of_groups

OTHER = "(other)"
"""Name of the group that small groups are merged into."""
UNKNOWN = -1
HOURS, DAYS = 3_600_000_000_000, 86_400_000_000_000
CLOCK = {
    "hour": lambda time: time // HOURS % 24,
    "weekday": lambda time: (time // DAYS + 3) % 7,  # 1970 began on a Thursday; 0 is Monday
}
"""Groups that a column of times gives, in its own time zone or, if it has one, in UTC."""


def as_groups(groups: ArrayLike) -> NDArray[np.str_]:
    """Names (N,) of groups from text, numbers or truth values; of a number its whole part, so that 13.7 hours are 13.

    Raises:
        InputError: more than one column, or numbers that are infinite.
    """
    array = np.asarray(groups)
    if array.ndim != 1:
        raise InputError(f"groups must be one name a sample, shape (N,), got shape {array.shape}")
    if array.dtype.kind == "f":
        if np.isinf(array).any():
            raise InputError("groups hold infinite numbers: give names or whole numbers")
        floored = np.floor(np.where(np.isnan(array), 0, array)).astype(np.int64)
        return np.where(np.isnan(array), MISSING, floored.astype(np.str_))
    if array.dtype.kind == "O":
        array = np.array([_name(value) for value in array.tolist()])
    return array.astype(np.str_)


def _name(value: Any) -> str:
    if value is None or value != value:
        return MISSING
    return str(math.floor(value) if isinstance(value, float) and math.isfinite(value) else value)


@dataclass(frozen=True)
class GroupedThreshold:
    """One threshold for each group.

    Attributes:
        parts: by name of the group.
        guarantee: what holds in every group, each taken by itself.
        merged: names of the small groups that make up the group `(other)`.
    """

    parts: Mapping[str, Threshold]
    guarantee: Guarantee
    merged: tuple[str, ...] = ()

    def flag(self, scores: ArrayLike, groups: ArrayLike) -> NDArray[np.bool_]:
        """True where a score (N,) lies above the threshold of its group (N,), is NaN, or its group is unknown."""
        values, names = as_scores(scores), as_groups(groups)
        names = np.where(np.isin(names, self.merged), OTHER, names)
        flagged = np.ones(len(values), bool)
        for name, threshold in self.parts.items():
            own = names == name
            flagged[own] = threshold.flag(values[own])
        return flagged


@dataclass(frozen=True, eq=False)
class GroupedCalibration:
    """Held-out normal scores of several groups; made by `GroupedCalibration.fit`.

    Attributes:
        parts: the calibration of each group, by its name, in order of names.
        merged: names of the small groups that make up the group `(other)`.
    """

    parts: Mapping[str, Calibration]
    merged: tuple[str, ...] = ()
    _codes: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        codes = {name: place for place, name in enumerate(self.parts)}
        codes |= {name: codes[OTHER] for name in self.merged}
        object.__setattr__(self, "_codes", codes)

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        groups: ArrayLike,
        *,
        min_group: int | None = None,
        tie_rtol: float = TIE_RTOL,
        scorer_id: str = "",
    ) -> "GroupedCalibration":
        """Keep the scores (n,) of normal samples and their groups (n,).

        Args:
            scores: as for `Calibration.fit`.
            groups: names, numbers (by their whole part) or truth values.
            min_group: groups with fewer scores are merged into one called `(other)`, whatever their scores are.
            tie_rtol: relative tolerance of ties.
            scorer_id: digest of the model.

        Raises:
            InputError: another number of groups than of scores.
            NonFiniteScoreError: a score is NaN or infinite.
            ValueError: no scores, or arguments out of range.
        """
        values, names = as_scores(scores, "calibration scores"), as_groups(groups)
        if len(values) != len(names):
            raise InputError(f"got {len(names)} groups for {len(values)} scores: give one a sample")
        found, counts = np.unique(names, return_counts=True)
        small = found[counts < (min_group or 0)].tolist()
        if small and OTHER in found:
            raise InputError(f"a group is called {OTHER!r}, as small groups are when they are merged: rename it")
        if small:
            names = np.where(np.isin(names, small), OTHER, names)
        rest: dict[str, Any] = {"tie_rtol": tie_rtol, "scorer_id": scorer_id}
        if not len(values):
            raise ValueError("calibration needs at least one normal score, got none")
        parts = {name: Calibration.fit(values[names == name], **rest) for name in np.unique(names).tolist()}
        return cls(parts, tuple(small))

    @property
    def n(self) -> int:
        """Number of calibration scores of all groups."""
        return sum(part.n for part in self.parts.values())

    @property
    def scorer_id(self) -> str:
        """Digest of the model the scores came from."""
        return next(iter(self.parts.values())).scorer_id

    def codes(self, groups: ArrayLike) -> NDArray[np.int64]:
        """Places (N,) of groups (N,) among `parts`; -1 for a group that was not calibrated."""
        found, inverse = np.unique(as_groups(groups), return_inverse=True)
        return np.array([self._codes.get(name, UNKNOWN) for name in found.tolist()], np.int64)[inverse]

    def ranks(self, scores: ArrayLike, groups: ArrayLike) -> NDArray[np.int64]:
        """Ranks (N,) of scores (N,) in their groups (N,), see `Calibration.ranks`; 0 for NaN and for unknown groups."""
        return self._by_group(scores, groups, lambda part, own: part.ranks(own), np.int64(0))

    def p_values(self, scores: ArrayLike, groups: ArrayLike) -> Scores:
        """P-values (N,) of scores (N,) in their groups (N,); NaN for a NaN score and for an unknown group."""
        return self._by_group(scores, groups, lambda part, own: part.p_values(own), np.float64(np.nan))

    def _by_group(self, scores: ArrayLike, groups: ArrayLike, function: Any, otherwise: Any) -> NDArray[Any]:
        values, codes = as_scores(scores), self.codes(groups)
        if len(values) != len(codes):
            raise InputError(f"got {len(codes)} groups for {len(values)} scores: give one a sample")
        result = np.full(len(values), otherwise)
        for place, part in enumerate(self.parts.values()):
            own = codes == place
            if own.any():
                result[own] = function(part, values[own])
        return result

    def threshold(self, alpha: float, *, kind: str | None = None, delta: float | None = None) -> GroupedThreshold:
        """Thresholds whose false-alarm rate is at most `alpha` in every group; arguments as for one `Calibration`.

        Raises:
            InsufficientCalibrationError: groups with too few scores for this level, all of them named.
            ValueError: arguments out of range.
        """
        parts: dict[str, Threshold] = {}
        refused: dict[str, InsufficientCalibrationError] = {}
        for name, part in self.parts.items():
            try:
                parts[name] = part.threshold(alpha, kind=kind, delta=delta)
            except InsufficientCalibrationError as error:
                refused[name] = error
        if refused:
            needed = max(error.needed for error in refused.values())
            few = listed([f"{name} ({error.n})" for name, error in refused.items()])
            raise InsufficientCalibrationError(
                f"alpha={alpha:g} needs at least {needed} calibration scores in each group; too few are in {few}: use "
                f"a larger alpha, more normal data, coarser groups, or min_group={needed} to merge the small ones",
                n=min(error.n for error in refused.values()),
                needed=needed,
                options=("a larger alpha", "more normal data", "coarser groups", f"min_group={needed}"),
            )
        return GroupedThreshold(parts, of_groups({name: part.guarantee for name, part in parts.items()}), self.merged)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the scores, as plain values for JSON."""
        first = next(iter(self.parts.values()))
        sizes = {name: part.n for name, part in self.parts.items()}
        return {**first.to_dict(), "n": self.n, "groups": sizes, "merged": list(self.merged)}


AnyCalibration = Calibration | GroupedCalibration
AnyThreshold = Threshold | GroupedThreshold
