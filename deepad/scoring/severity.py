"""Tiers of severity: bands of the p-value under one promise.

A policy names levels from mild to severe, say `{"warning": 1e-2, "critical": 1e-3}`. A score has the most severe tier
whose threshold it passes. Thresholds of stricter levels lie higher by construction, so whoever is critical is a warning
as well. Looking at several thresholds is looking several times: by default all tiers share one simultaneous envelope,
so that with probability 1 - delta over the calibration draw *every* tier keeps its level. `pac` divides delta among the
tiers instead, and `marginal` promises each tier alone, on average over draws.

A tier that can never fire is refused when it is made.

Source: Bates et al., *Testing for outliers with conformal p-values*, 2023, section 3 (the envelope).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InsufficientCalibrationError
from deepad.scoring.conformal import Calibration, Threshold, as_scores
from deepad.scoring.groups import AnyCalibration, AnyThreshold
from deepad.scoring.guarantee import WITH_DELTA, check_level

NORMAL, INVALID = "", "invalid"
"""Names of what has no tier, and of what has no score."""


@dataclass(frozen=True)
class SeverityPolicy:
    """Named levels, mild to severe.

    Attributes:
        levels: false-alarm rate by name, strictly decreasing; for blocks alarmed slots of a block.
        kind: `"simultaneous"`, `"pac"`, `"marginal"`, `"none"`, or `"block"` for a calibration of blocks.
        delta: for the first two, the allowed probability that any tier breaks its level.

    Raises:
        ValueError: no level, levels that do not decrease, or a name that is empty, `"invalid"` or no text.
    """

    levels: Mapping[str, float]
    kind: str = "simultaneous"
    delta: float | None = 0.05

    def __post_init__(self) -> None:
        if not isinstance(self.levels, Mapping) or not self.levels:
            raise ValueError(f"tiers must be named levels such as warning=1e-2,critical=1e-3, got {self.levels!r}")
        for name, level in self.levels.items():
            if not isinstance(name, str) or name.strip() != name or name in (NORMAL, INVALID) or not name.isprintable():
                raise ValueError(f"a tier must have a name of its own, such as 'warning', got {name!r}")
            if self.kind != "block":
                check_level(f"the level of tier {name!r}", level)
        values = list(self.levels.values())
        if any(severe >= mild for mild, severe in pairwise(values)):
            raise ValueError(f"tiers go from mild to severe, each level below the one before, got {dict(self.levels)}")
        if self.kind not in WITH_DELTA:
            object.__setattr__(self, "delta", None)
        object.__setattr__(self, "levels", MappingProxyType(dict(self.levels)))

    @classmethod
    def parse(cls, text: str) -> dict[str, float]:
        """Levels written as `warning=1e-2,critical=1e-3`."""
        levels: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            try:
                level = float(value)
            except ValueError:
                raise ValueError(f"tiers are written as warning=1e-2,critical=1e-3, got {part.strip()!r}") from None
            if name.strip() in levels:
                raise ValueError(f"tier {name.strip()!r} is given twice")
            levels[name.strip()] = level
        return levels

    @property
    def names(self) -> tuple[str, ...]:
        """Tiers, mild to severe."""
        return tuple(self.levels)

    def thresholds(self, calibration: AnyCalibration) -> tuple[AnyThreshold, ...]:
        """The threshold of each tier, mild to severe, each at or above the one before.

        Raises:
            InsufficientCalibrationError: a tier that could never fire; the message names it and what it needs.
        """
        delta = None if self.delta is None else self.delta / (len(self.levels) if self.kind == "pac" else 1)
        found: list[AnyThreshold] = []
        for name, level in self.levels.items():
            try:
                found.append(calibration.threshold(level, kind=self.kind, delta=delta))
            except InsufficientCalibrationError as error:
                raise InsufficientCalibrationError(
                    f"tier {name!r}: {error}", n=error.n, needed=error.needed, options=error.options
                ) from None
        for name, mild, severe in zip(self.names[1:], found, found[1:], strict=False):
            if isinstance(mild, Threshold) and isinstance(severe, Threshold) and mild.k == severe.k:
                raise ValueError(
                    f"tier {name!r} has the threshold of the tier before it, from {calibration.n} calibration scores: "
                    "set the levels further apart, or calibrate on more normal data"
                )
        return tuple(found)

    def tiers(self, calibration: Calibration, scores: ArrayLike) -> list[str]:
        """The tier of each score (N,): its name, `""` where no tier fires, `"invalid"` for a NaN score."""
        values = as_scores(scores)
        thresholds: tuple[Any, ...] = self.thresholds(calibration)
        passed = np.sum([threshold.flag(values) for threshold in thresholds], axis=0)
        return name_tiers(self.names, np.where(np.isnan(values), -1, passed).astype(np.int8))


def name_tiers(names: tuple[str, ...], tier: NDArray[np.int8]) -> list[str]:
    """Names of tiers (N,) counted from 1, `""` for 0 and `"invalid"` for -1."""
    known = (NORMAL, *names, INVALID)
    return [known[i] for i in tier.tolist()]
