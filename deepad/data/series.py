"""Time series: recordings cut into windows, split in order of time.

    |<------------------ fit_until ------------------>|
    | train        | gap | val | gap | calibration    | gap | test                    |     time ->

A window belongs to the split of its last step and never reaches back into another: the first steps of a split (the
embargo, at least a window) serve as context only. Labels, where there are any, say which steps are anomalous: none may
lie in the part that fits, unless `anomalies="exclude"` leaves out the windows that touch one.

Steps of a series depend on each other, so calibration on them carries no finite-sample guarantee, and the verdict says
so (`GuaranteeKind.NONE`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from deepad.channels import Duplicates, Missing, SeriesSchema
from deepad.data.base import DataModule, Rows, Splits, Stretch
from deepad.data.recordings import Reader, Recording, from_files, from_memory, nanoseconds
from deepad.data.windows import dominant_period, windows_of
from deepad.errors import InputError

PARTS = ("train", "val", "calibration", "test")
NO_PERIOD = 64
"""Window size where no period is found."""
LONGEST = 256
"""Longest window size that is chosen from a period."""


class Series(DataModule):
    """Windows of one or many recordings.

    Samples are float32 windows (T, C) in raw units. The test loader yields (window, label of its last step);
    `stretches` gives the steps themselves.

    Args:
        path: CSV, Parquet or `.npy` file of shape (N, C), several, or a folder of them; also looked for below
            `$DEEPAD_DATA`.
        frames: instead of files, arrays (N, C) or data frames, one or a list.
        generator: instead of both, a member of `deepad.data.synthetic` that makes a series.
        generator_args: its arguments.
        window_size: steps of a window, >= 2, or `"auto"`: the dominant period of the training part of the first
            recording, at most `LONGEST` steps and an eighth of that part; where there is none `NO_PERIOD` steps, at
            most a sixteenth. `describe` reports it.
        stride: steps between the windows that train, >= 1. All other windows are one step apart.
        channels: columns that are channels; all columns of numbers but those named below if not given.
        time: column of timestamps; if not given, the only one that holds timestamps, or none.
        label: column of labels, one a row.
        anomalous: values of that column that mean anomaly.
        intervals: anomalous times instead: a list of pairs `[start, end]`, both included, or a JSON file of them by the
            name of the recording, as the Numenta benchmark has it.
        ignore: columns that are neither channels nor labels.
        fit_until: where test begins in each recording: a share (float), a number of steps (int), a time (text), or
            `"first-anomaly"`: a quarter of the recording, but at least 500 steps and at most until 100 steps before
            the first anomaly, as in the TSB-AD benchmark.
        anomalies: what to do about labelled anomalies before that: `"refuse"` or `"exclude"`.
        embargo: steps after each split border that only serve as context, >= 0; a window if not given.
        missing: policy for missing values, see `deepad.channels`.
        duplicates: policy for repeated timestamps, see there.
        max_gap: typical intervals without a row before a series is split, see there.
        val_size: share or number of the steps before `fit_until`.
        calibration_size: likewise.
        batch_size: see `DataModule`.
        num_workers: see `DataModule`.
        seed: of the order.

    Raises:
        ValueError: an argument outside its range.
    """

    sequential = True

    def __init__(
        self,
        path: str | Sequence[str] | None = None,
        *,
        frames: Any = None,
        generator: str | None = None,
        generator_args: dict[str, Any] | None = None,
        window_size: int | Literal["auto"] = "auto",
        stride: int = 1,
        channels: Sequence[str] | str | None = None,
        time: str | None = None,
        label: str | None = None,
        anomalous: Sequence[int | float | str] | int | float | str = (1,),
        intervals: str | Sequence[Sequence[str]] | None = None,
        ignore: Sequence[str] | str = (),
        fit_until: int | float | str = 0.5,
        anomalies: Literal["refuse", "exclude"] = "refuse",
        embargo: int | None = None,
        missing: Missing = "refuse",
        duplicates: Duplicates = "refuse",
        max_gap: float = 10.0,
        val_size: int | float = 0.15,
        calibration_size: int | float = 0.25,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            val_size=val_size,
            calibration_size=calibration_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        if sum(source is not None for source in (path, frames, generator)) != 1:
            raise ValueError("give one of path, frames and generator")
        if window_size != "auto" and (type(window_size) is not int or window_size < 2):
            raise ValueError(f"window_size must be a whole number >= 2, or 'auto', got {window_size!r}")
        if stride < 1 or (embargo is not None and embargo < 0):
            raise ValueError(f"need stride >= 1 and embargo >= 0, got {stride} and {embargo}")
        if anomalies not in ("refuse", "exclude"):
            raise ValueError(f"anomalies must be refuse or exclude, got {anomalies!r}")
        if label is not None and intervals is not None:
            raise ValueError("labels are a column (label) or times (intervals), not both")
        self.paths = [path] if isinstance(path, str) else list(path or [])
        self.frames, self.generator, self.generator_args = frames, generator, generator_args or {}
        self.window_size, self.stride, self.embargo = window_size, stride, embargo
        self.fit_until, self.anomalies = fit_until, anomalies
        if generator is not None:
            label, ignore = label or "label", [*_several(ignore), "pattern"]
        names = None if channels is None else _several(channels)
        self._reader = Reader(
            names, time, label, _several(anomalous), intervals, _several(ignore), missing, duplicates, max_gap
        )
        self._recordings: list[Recording] = []

    # ---- what is known about the data --------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Window size and number of channels; reads the data."""
        self._read()
        return self._size, len(self.schema.channels)

    @property
    def schema(self) -> SeriesSchema:
        """The channels, the clock and the policies; reads the data."""
        self._read()
        return self._schema

    @property
    def title(self) -> str:
        """Name of the recording, or how many there are."""
        self._read()
        return self._recordings[0].name if len(self._recordings) == 1 else f"{len(self._recordings)} recordings"

    def describe(self) -> dict[str, Any]:
        """As every data module, and what was done to the recordings, the window and the steps of each split."""
        report = super().describe()
        steps = {part: sum(int(s.scored.sum()) for s in self.stretches(part)) for part in ("calibration", "test")}
        return {
            **report,
            "window_size": self._size,
            "steps": steps,
            "notes": self._notes,
            "inputs": self.schema.to_dict(),
        }

    # ---- splits ------------------------------------------------------------------------------------------------

    def load(self) -> Splits:
        """Windows of all recordings, as views of one array."""
        self._read()
        n, size = len(self._values), self._size
        if n < size:
            raise InputError(f"a window of {size} steps does not fit into {n} steps: give a smaller window_size")
        windows = windows_of(torch.from_numpy(self._values), size)
        y = np.concatenate([recording.y for recording in self._recordings])
        part, home, segment = (
            np.concatenate(column) for column in zip(*map(self._places, self._recordings, self._ends), strict=True)
        )
        lengths = [len(recording.line) for recording in self._recordings]
        home = home + np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
        first, last = np.arange(n - size + 1), slice(size - 1, n)
        # a part lies in one recording, so a window that stays in its part crosses no border of a recording either
        inside = (first >= home[last]) & (segment[first] == segment[last])
        touched = np.concatenate([[0], np.cumsum(y)])
        clean = touched[size:] == touched[:-size]
        rows = {}
        for number, name in enumerate(PARTS):
            index = np.flatnonzero(inside & (part[last] == number) & (clean | (name == "test")))
            self._require_windows(number, len(index))
            labels = torch.from_numpy(y[last]) if name == "test" else None
            rows[name] = Rows(windows, index[:: self.stride if name == "train" else 1], labels)
        return Splits(**rows)

    def _require_windows(self, number: int, count: int) -> None:
        if count == 0:
            spans = [
                min(segment.stop, ends[number]) - max(segment.start, ends[number - 1] if number else 0)
                for recording, ends in zip(self._recordings, self._ends, strict=True)
                for segment in recording.line.segments()
            ]
            name, size = PARTS[number], f"a larger {PARTS[number]}_size, " if 0 < number < 3 else ""
            raise InputError(
                f"the {name} part holds no window: it has at most {max(0, *spans)} steps in a row, a window takes "
                f"{self._size} and the embargo before it {self._gap if number else 0}: give a smaller window_size or "
                f"embargo, {size}or another fit_until"
            )

    @property
    def _gap(self) -> int:
        return self._size if self.embargo is None else self.embargo

    def _places(
        self, recording: Recording, ends: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each step (N,): the part it is scored for (-1 for none), where that part begins, and its segment."""
        n = len(recording.line)
        part, home = np.full(n, -1), np.zeros(n, np.int64)
        begin = 0
        for number, end in enumerate(ends):
            part[begin + (self._gap if begin else 0) : end] = number
            home[begin:end] = begin
            begin = end
        segment = np.zeros(n, np.int64)
        segment[recording.line.starts] = 1
        return part, home, np.cumsum(segment)

    def stretches(self, split: str) -> list[Stretch]:
        """The steps of a split with their context, one stretch for each unbroken piece of each recording.

        Args:
            split: `"val"`, `"calibration"` or `"test"`.
        """
        self._read()
        found = []
        for recording, ends in zip(self._recordings, self._ends, strict=True):
            part, home, _ = self._places(recording, ends)
            wanted = part == PARTS.index(split)
            if split != "test":
                wanted &= recording.y == 0
            for segment in recording.line.segments():
                for begin, end in _runs(wanted[segment]):
                    begin, end = begin + segment.start, end + segment.start
                    context = max(begin - self._size + 1, home[begin], segment.start)
                    if (
                        split != "test" and recording.y[context:begin].any()
                    ):  # an anomaly is no context of a normal step
                        context = context + int(np.flatnonzero(recording.y[context:begin])[-1]) + 1
                    scored = np.arange(context, end) >= begin
                    found.append(
                        Stretch(recording.name, recording.line.values[context:end], scored, recording.y[begin:end],
                                recording.line.time[context:end] if recording.line.time is not None else None,
                                begin)
                    )  # fmt: skip
        return found

    # ---- reading -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the recordings once, find the window, and place the splits."""
        if self._recordings:
            return
        schema, recordings = self._reader.read(list(self._sources()))
        values = np.concatenate([recording.line.values for recording in recordings])
        pieces = np.split(values, np.cumsum([len(recording.line) for recording in recordings])[:-1])
        recordings = [
            replace(recording, line=replace(recording.line, values=piece))  # views: the series is held once
            for recording, piece in zip(recordings, pieces, strict=True)
        ]
        self._notes = [f"{recording.name}: {note}" for recording in recordings for note in recording.line.notes]
        self._ends = [self._deal(recording, self._fit_end(recording)) for recording in recordings]
        self._size = self._window_size(recordings[0].line.values[: self._ends[0][0]])
        self._values, self._schema, self._recordings = values, schema, recordings

    def _sources(self) -> Iterator[tuple[str, Any]]:
        """Names and Arrow tables of the recordings."""
        if self.generator is None:
            return from_files(self.paths) if self.frames is None else from_memory(self.frames)
        from deepad.data.synthetic import GENERATORS, generate

        if self.generator in GENERATORS and GENERATORS[self.generator].kind != "series":
            series = ", ".join(name for name, known in GENERATORS.items() if known.kind == "series")
            raise InputError(f"{self.generator} makes a table, not a series: give one of {series}, or use Table")
        return iter([(self.generator, generate(self.generator, **{"seed": self.seed, **self.generator_args}))])

    def _window_size(self, training: NDArray[np.float32]) -> int:
        if isinstance(self.window_size, int):
            return self.window_size
        period = dominant_period(training, longest=min(LONGEST, len(training) // 8))
        size = period or min(NO_PERIOD, max(2, len(training) // 16))
        found = f"the dominant period of {period} steps" if period else "no period was found"
        self._notes.append(f"window_size {size}: {found}")
        return size

    def _fit_end(self, recording: Recording) -> int:
        """Number of steps before test begins."""
        n, until = len(recording.line), self.fit_until
        if until == "first-anomaly":
            first = int(np.argmax(recording.y)) if recording.y.any() else n
            return min(n, max(500, min(n // 4, first - 100)))
        if isinstance(until, str):
            if recording.line.time is None:
                raise InputError(f"{recording.name} has no timestamps: fit_until={until!r} must be a share or a number")
            return int(np.searchsorted(recording.line.time, nanoseconds(until)))
        if isinstance(until, bool) or not (0 < until < 1 if isinstance(until, float) else until >= 1):
            raise ValueError(f"fit_until is a share in (0, 1), a number of steps >= 1 or a time, got {until!r}")
        return min(n, round(until * n) if isinstance(until, float) else until)

    def _deal(self, recording: Recording, end: int) -> tuple[int, int, int, int]:
        """Where train, val, calibration and test end."""
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


def _several(given: Any) -> list[Any]:
    return [given] if isinstance(given, str | int | float) else list(given)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each unbroken run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
