"""What a series looks like to a model: its channels by name, its clock, and what is done about faults of a recording.

    frame -> columns by name -> in order of time -> duplicates -> gaps -> missing values -> Timeline

A schema is part of the model's state: a saved scorer reads a raw recording as the training did. Rows are kept in order
of their timestamps. What cannot be decided without knowing the plant is refused by name, or done by a stated policy:

| fault                       | what happens                                                                         |
|-----------------------------|--------------------------------------------------------------------------------------|
| rows out of order           | sorted by timestamp, and noted                                                       |
| one timestamp twice         | `duplicates`: refused, or the first, the last or the mean of them is taken           |
| a gap                       | the series is split where more than `max_gap` typical intervals have no row          |
| missing values              | `missing`: refused, held (the last value, for at most `max_gap` steps), or split at  |
| times with and without zone | refused, in one recording and between it and the training                            |
| another sampling interval   | refused where it is off by more than half                                            |
| an irregular clock          | noted; refused where more than half the spacings are off by more than half           |
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deepad.clock import LATEST, SECOND, Index, require_same_zone, times_of
from deepad.errors import InputError
from deepad.frames import Frame, kind_of, listed, numbers_of, refuse_where, require_frame

Missing = Literal["refuse", "hold", "split"]
Duplicates = Literal["refuse", "first", "last", "mean"]
IRREGULAR = 0.05
"""Share of spacings far from the typical one above which a clock is said to be irregular; above half it is refused."""
FEW = 10
"""Spacings below which a clock is not judged."""


@dataclass(frozen=True)
class Timeline:
    """One recording in order of time, finite, with what was done to it.

    Attributes:
        values: (N, C) float32, raw units.
        time: (N,) nanoseconds since 1970, or since anything for a clock of numbers; None without timestamps.
        starts: (S,) the steps at which its segments begin; no window reaches over such a step.
        step_of_row: (R,) the step each row of the recording became; -1 - i for one of the i-th step left out.
        left_out: (L,) how many of the steps come before each step that was left out.
        time_left_out: (L,) their time, as `time`.
        notes: what was done, in words.
    """

    values: NDArray[np.float32]
    time: Index | None
    starts: Index
    step_of_row: Index
    left_out: Index = field(default_factory=lambda: np.empty(0, np.int64))
    time_left_out: Index | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def place_of_row(self) -> Index:
        """(R,) the step of each row, those that were left out counted after the others."""
        return np.where(self.step_of_row < 0, len(self) - 1 - self.step_of_row, self.step_of_row)

    def segments(self) -> list[slice]:
        """The steps of each segment."""
        ends = [*self.starts[1:].tolist(), len(self)]
        return [slice(a, b) for a, b in zip(self.starts.tolist(), ends, strict=True)]


def rows_of_steps(step_of_row: Index, n: int) -> Index:
    """A row (n,) of each of n steps, given the step (R,) of each row, -1 for none; of rows that became one step any."""
    kept = np.flatnonzero(step_of_row >= 0)
    row_of_step = np.arange(n)
    row_of_step[step_of_row[kept]] = kept
    return row_of_step


@dataclass(frozen=True)
class SeriesSchema:
    """The channels of a series in order, its clock and its policies; see the module docstring.

    Attributes:
        channels: names of the columns that are channels; all other columns are left alone.
        time: name of the column of timestamps (dates and times, or numbers of seconds); None: rows are in order and
            equally far apart.
        missing: policy for missing values.
        duplicates: policy for rows of one timestamp.
        max_gap: typical intervals without a row before the series is split, >= 1.
        interval: seconds between rows in training, None if there was no clock.
        zoned: whether the timestamps of the training had a time zone; None if they were numbers, or not known.

    Raises:
        ValueError: an attribute outside its range.
    """

    channels: tuple[str, ...]
    time: str | None = None
    missing: Missing = "refuse"
    duplicates: Duplicates = "refuse"
    max_gap: float = 10.0
    interval: float | None = None
    zoned: bool | None = None

    def __post_init__(self) -> None:
        names = self.channels
        if not names or not all(type(name) is str for name in names) or len(set(names)) != len(names):
            raise ValueError("a series must have channels, each with a name of its own")
        if self.time is not None and (type(self.time) is not str or self.time in names):
            raise ValueError(f"the column of timestamps must be named and be no channel, got {self.time!r}")
        for name in (*names, self.time or ""):
            name.encode()  # half a surrogate pair, which JSON can spell, is no text: UnicodeEncodeError, a ValueError
        if self.missing not in get_args(Missing) or self.duplicates not in get_args(Duplicates):
            raise ValueError(
                f"missing must be one of {', '.join(get_args(Missing))} and duplicates one of "
                f"{', '.join(get_args(Duplicates))}, got {self.missing!r} and {self.duplicates!r}"
            )
        if type(self.max_gap) not in (int, float) or not 1 <= self.max_gap <= LATEST:
            raise ValueError(f"max_gap must be a number >= 1, got {str(self.max_gap)[:40]}")
        if self.interval is not None and not (type(self.interval) in (int, float) and 0 < self.interval <= LATEST):
            raise ValueError(f"interval must be a positive number of seconds, got {str(self.interval)[:40]}")
        if self.zoned is not None and type(self.zoned) is not bool:
            raise ValueError(f"zoned must be true, false or null, got {str(self.zoned)[:40]}")

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.channels)

    def read(self, frame: Any) -> Timeline:
        """A recording in order of time.

        Args:
            frame: what `deepad.frames.as_frame` takes, with the columns of the schema in any order and others beside.

        Raises:
            InputError: a missing column, no rows, or a fault that a policy refuses.
        """
        table = require_frame(frame)
        absent = [name for name in (*self.channels, self.time) if name is not None and name not in table.column_names]
        if absent:
            raise InputError(
                f"the series lacks the columns {listed(absent)}; it has {listed(table.column_names)}: the model takes "
                f"{listed(list(self.channels))}{f' at {self.time}' if self.time else ''}"
            )
        if not table.num_rows:
            raise InputError("the series has no rows")
        values = np.empty((table.num_rows, len(self.channels)), np.float32)
        for place, name in enumerate(self.channels):
            with np.errstate(over="ignore"):
                values[:, place] = _channel(table, name)
            refuse_where(np.isinf(values[:, place]), name, "values beyond float32", "rescale the column", 0)
        if self.time is None:
            return self._regular(values, None)
        time, zoned = times_of(table, self.time)
        require_same_zone(f"column {self.time!r}", zoned, self.zoned)
        return self._regular(values, time)

    def read_array(self, values: NDArray[Any]) -> Timeline:
        """An array (N, C) of steps in order and equally far apart, NaN where a value is missing.

        Raises:
            InputError: missing values that the policy refuses, or no step without any.
        """
        with np.errstate(over="ignore"):
            return self._regular(values.astype(np.float32), None)

    def _regular(self, values: NDArray[np.float32], time: Index | None) -> Timeline:
        """Apply the policies to the rows of a recording."""
        notes: list[str] = []
        step_of_row = np.arange(len(values))
        if time is not None:
            order = np.argsort(time, kind="stable")
            if (back := int((np.diff(time) < 0).sum())) > 0:
                notes.append(f"rows out of order at {back} places were sorted by {self.time}")
                values, time = values[order], time[order]
            step_of_row = np.argsort(order, kind="stable")
            values, time, step_of_row = self._merged(values, time, step_of_row, notes)
        starts = np.zeros(1, np.int64)
        if time is not None and len(time) > (2 if self.interval is None else 1):
            spacing = np.diff(time)
            typical = float(np.median(spacing))
            if len(spacing) > 1:  # one spacing may be a gap
                self._require_interval(typical / SECOND)
            expected = typical if self.interval is None else self.interval * SECOND
            gap = spacing > self.max_gap * expected
            starts = np.concatenate([starts, np.flatnonzero(gap) + 1])
            if len(starts) > 1:
                notes.append(f"split at {len(starts) - 1} gaps of more than {self.max_gap:g} intervals")
            self._judge_clock(np.abs(spacing[~gap] - expected) > expected / 2, expected / SECOND, notes)
        return self._without_missing(values, time, starts, step_of_row, notes)

    def _merged(
        self, values: NDArray[np.float32], time: Index, step_of_row: Index, notes: list[str]
    ) -> tuple[NDArray[np.float32], Index, Index]:
        """One row a timestamp."""
        new = np.concatenate([[True], np.diff(time) > 0])
        if new.all():
            return values, time, step_of_row
        repeated = int((~new).sum())
        if self.duplicates == "refuse":
            where = np.flatnonzero(step_of_row == np.argmin(new))[0]
            raise InputError(
                f"{repeated} rows repeat a timestamp of {self.time!r} (first at row {where}): if a clock was set back "
                "give times in UTC, if the file holds several series split it, else set duplicates=first, last or mean"
            )
        first = np.flatnonzero(new)
        group = np.cumsum(new) - 1
        if self.duplicates == "mean":
            counts = np.diff([*first, len(values)])
            merged = (np.add.reduceat(values.astype(np.float64), first) / counts[:, None]).astype(np.float32)
        else:
            merged = values[first if self.duplicates == "first" else [*(first[1:] - 1), len(values) - 1]]
        notes.append(f"{repeated} rows of a repeated timestamp were merged ({self.duplicates})")
        return merged, time[first], group[step_of_row]

    def _require_interval(self, typical: float) -> None:
        if self.interval is not None and not 1 / 1.5 <= typical / self.interval <= 1.5:
            raise InputError(
                f"the series has a row every {typical:g} s, the model takes one every {self.interval:g} s: resample it"
            )

    def _judge_clock(self, odd: NDArray[np.bool_], typical: float, notes: list[str]) -> None:
        """Note or refuse a clock of which some spacings (m,), gaps left aside, are odd."""
        share = float(odd.mean()) if len(odd) >= FEW else 0.0
        if share > IRREGULAR:
            found = f"irregular clock: {share:.0%} of the spacings are more than half off the typical {typical:g} s"
            if share > 0.5:
                raise InputError(f"{found}: a window has no fixed length in time then; resample the series")
            notes.append(found)

    def _without_missing(
        self, values: NDArray[np.float32], time: Index | None, starts: Index, step_of_row: Index, notes: list[str]
    ) -> Timeline:
        """Apply the policy for missing values."""
        holes: NDArray[np.bool_] = np.isnan(values)
        if not holes.any():
            return Timeline(values, time, starts, step_of_row, notes=tuple(notes))
        if self.missing == "refuse":
            place = int(np.argmax(holes.any(0)))
            where = int(np.flatnonzero(step_of_row == np.argmax(holes[:, place]))[0])
            raise InputError(
                f"{int(holes.any(1).sum())} of {len(values)} steps miss values (first: {self.channels[place]!r} at row "
                f"{where}): fill them, or train with missing=hold or split"
            )
        held = 0
        if self.missing == "hold":
            values, held = _held(values, starts, int(self.max_gap))
            holes = np.isnan(values)
        kept: NDArray[np.bool_] = ~np.logical_or.reduce(holes, axis=1)
        gone = int((~kept).sum())
        if not kept.any():
            raise InputError("no step of the series has a value in every channel")
        opened = np.zeros(len(values), bool)
        opened[starts] = True
        opened[1:] |= ~kept[:-1]
        segment = np.cumsum(opened)
        new_starts = np.flatnonzero(np.diff(segment[kept], prepend=-1))
        before = np.cumsum(kept, dtype=np.int64)
        new_step = np.where(kept, before - 1, -np.cumsum(~kept, dtype=np.int64))
        if held:
            notes.append(f"{held} missing values were held at the last one seen")
        if gone:
            notes.append(f"{gone} steps with missing values were left out, the series is split there")
        return Timeline(
            values[kept],
            None if time is None else time[kept],
            new_starts,
            new_step[step_of_row],
            before[~kept],
            None if time is None else time[~kept],
            tuple(notes),
        )

    # ---- keeping it --------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `from_dict` reads them."""
        return {"kind": "series", **vars(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, document: Any) -> "SeriesSchema":
        """Read what `to_dict` wrote, from a file that others may have written.

        Raises:
            ValueError: anything else.
        """
        fields = set(cls.__dataclass_fields__)
        if isinstance(document, dict):
            document = {"zoned": None, **document}  # not known before this was kept
        if not isinstance(document, dict) or document.keys() != {"kind", *fields} or document["kind"] != "series":
            raise ValueError("this does not describe a series")
        if not isinstance(document["channels"], list):
            raise ValueError("the channels of a series are a list of names")
        chosen = {name: document[name] for name in fields}
        return cls(**{**chosen, "channels": tuple(document["channels"])})


def _channel(table: Frame, name: str) -> NDArray[np.float64]:
    column = table.column(name)
    if kind_of(name, column.type) != "number":
        raise InputError(f"channel {name!r} holds no numbers: leave it out, or encode it")
    return numbers_of(name, column, 0)


def _held(values: NDArray[np.float32], starts: Index, most: int) -> tuple[NDArray[np.float32], int]:
    """Missing values replaced by the last one seen in the same segment, at most `most` steps back; and how many."""
    n = len(values)
    segment_start = np.zeros(n, np.int64)
    segment_start[starts] = starts
    segment_start = np.maximum.accumulate(segment_start)
    filled, count = values.copy(), 0
    for place in range(values.shape[1]):
        hole = np.isnan(values[:, place])
        last = np.maximum.accumulate(np.where(hole, -1, np.arange(n)))
        can = hole & (last >= segment_start) & (np.arange(n) - last <= most)
        filled[can, place] = values[last[can], place]
        count += int(can.sum())
    return filled, count
