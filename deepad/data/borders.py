"""Where the parts of a recording begin and end: shares, numbers of steps, times, or the first anomaly."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepad.clock import Index, nanoseconds
from deepad.data.base import require_size
from deepad.data.recordings import Recording
from deepad.errors import InputError


@dataclass(frozen=True)
class Borders:
    """How recordings are cut into train, val, calibration and test; the attributes are arguments of `Series`.

    Raises:
        ValueError: an attribute outside its range.
    """

    fit_until: int | float | str
    val_size: int | float
    calibration_size: int | float
    anomalies: Literal["refuse", "exclude"]

    def __post_init__(self) -> None:
        for size in (self.val_size, self.calibration_size):
            require_size(size)
        until = self.fit_until
        if not isinstance(until, str):
            share = isinstance(until, float)
            if isinstance(until, bool) or not (0 < until < 1 if share else until >= 1):
                raise ValueError(f"fit_until is a share in (0, 1), a number of steps >= 1 or a time, got {until!r}")
        if self.anomalies not in ("refuse", "exclude"):
            raise ValueError(f"anomalies must be refuse or exclude, got {self.anomalies!r}")

    def deal(self, recording: Recording, zoned: bool | None) -> tuple[int, int, int, int]:
        """Where train, val, calibration and test end in a recording whose times have a zone or none.

        Raises:
            InputError: nothing left to train on, a labelled anomaly before test, or a `fit_until` that does not apply.
        """
        end = self._end_of(recording, zoned)
        counts = [
            math.floor(size * end) if isinstance(size, float) else size
            for size in (self.val_size, self.calibration_size)
        ]
        train = end - sum(counts)
        if train < 1 or min(counts) < 1:
            raise InputError(
                f"{recording.name}: val and calibration take {counts[0]} and {counts[1]} of {end} steps before test: "
                "nothing is left to train on; give smaller splits or a later fit_until"
            )
        bad = np.flatnonzero(recording.y[:end])
        if len(bad) and self.anomalies == "refuse":
            raise InputError(
                f"{recording.name}: {len(bad)} of the {end} steps before test are labelled anomalous (first at step "
                f"{bad[0]}): end fit_until before it, or leave such windows out with anomalies=exclude"
            )
        return train, train + counts[0], end, len(recording.line)

    def _end_of(self, recording: Recording, zoned: bool | None) -> int:
        """Number of steps of a recording before test begins."""
        time, n = recording.line.time, len(recording.line)
        if isinstance(self.fit_until, str) and self.fit_until != "first-anomaly" and time is None:
            until = repr(self.fit_until)
            raise InputError(f"{recording.name} has no timestamps: fit_until={until} must be a share or a number")
        first = int(np.argmax(recording.y)) if recording.y.any() else n
        return self.before_test(n, time, first=first, zoned=zoned)

    def before_test(self, n: int, time: Index | None, *, first: int = 0, zoned: bool | None = None) -> int:
        """Of n steps, how many come before test, if the first anomaly is step `first`."""
        until = self.fit_until
        if until == "first-anomaly":
            return min(n, max(500, min(n // 4, first - 100)))
        if isinstance(until, str):
            return int(np.searchsorted(time if time is not None else [], nanoseconds(until, zoned)))
        return min(n, round(until * n) if isinstance(until, float) else until)
