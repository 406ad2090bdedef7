"""Time series: recordings cut into windows, split in order of time.

    |<------------------ fit_until ------------------>|
    | train        | gap | val | gap | calibration    | gap | test                    |     time ->

A window belongs to the split of its last step and never reaches back into another: the first steps of a split (the
embargo, a window unless another is given) serve as context only, and `describe` counts those that test leaves out.
Labels, where there are any, say which steps are anomalous: none may lie in the part that fits, unless
`anomalies="exclude"` leaves out the windows that touch one.

Steps of a series depend on each other, so calibration on them carries no finite-sample guarantee, and the verdict says
so (`GuaranteeKind.NONE`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from deepad.channels import Duplicates, Missing, SeriesSchema
from deepad.clock import Index
from deepad.data.base import DataModule, Rows, Splits, Stretch
from deepad.data.borders import Borders
from deepad.data.recordings import Reader, Recording, from_files, from_memory
from deepad.data.windows import dominant_period, windows_of
from deepad.errors import InputError
from deepad.frames import several

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
        stride: steps between the windows that train, from 1 to `window_size`. All other windows are one step apart.
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
        embargo: steps after each split border that only serve as context, >= 0; a window if not given. No window ever
            reaches into another split, but with fewer than `window_size - 1` steps the first of a split follow closely
            on the split before and resemble it; `describe` notes that.
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
        for name, value, least in (("stride", stride, 1), ("embargo", embargo, 0)):
            if value is not None and (type(value) is not int or value < least):
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
        if generator is None and generator_args:
            raise ValueError("generator_args are for a generator: give one")
        if type(window_size) is int:
            _require_stride(stride, window_size)
        if label is not None and intervals is not None:
            raise ValueError("labels are a column (label) or times (intervals), not both")
        self.paths = [path] if isinstance(path, str) else list(path or [])
        self.frames, self.generator, self.generator_args = frames, generator, generator_args or {}
        self.window_size, self.stride, self.embargo = window_size, stride, embargo
        self._borders = Borders(fit_until, val_size, calibration_size, anomalies)
        if generator is not None:
            label, ignore = label or "label", [*several(ignore), "pattern"]
        names = None if channels is None else several(channels)
        self._reader = Reader(
            names, time, label, several(anomalous), intervals, several(ignore), missing, duplicates, max_gap
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
        n, bad = self._left_out()
        report["test"] |= {"n_left_out": n, "n_anomalies_left_out": bad}
        why = "after fit_until (the embargo) or for missing values"
        notes = [f"test leaves out {n} steps, {bad} of them anomalous, {why}"] if n else []
        return {
            **report,
            "window_size": self._size,
            "steps": steps,
            "notes": [*self._notes, *notes],
        }

    def _left_out(self) -> tuple[int, int]:
        """Steps after `fit_until` that test does not judge, and how many of them are anomalous."""
        labels = []
        for recording, ends in zip(self._recordings, self._ends, strict=True):
            labels.append(recording.y[ends[2] : ends[2] + self._gap])
            labels.append(recording.y_left_out[recording.line.left_out >= ends[2]])
        return sum(map(len, labels)), int(sum(y.sum() for y in labels))

    # ---- splits ------------------------------------------------------------------------------------------------

    def load(self) -> Splits:
        """Windows of all recordings, as views of one array."""
        self._read()
        n, size = len(self._values), self._size
        if n < size:
            raise InputError(f"a window of {size} steps does not fit into {n} steps: give a smaller window_size")
        windows = windows_of(torch.from_numpy(self._values), size)
        y = np.concatenate([recording.y for recording in self._recordings])
        touched = np.concatenate([[0], np.cumsum(y, dtype=np.int32)]) if y.any() else None
        rows = {}
        for number, name in enumerate(PARTS):
            index = self._windows_in(number)
            if touched is not None and name != "test":
                index = index[touched[index + size] == touched[index]]
            self._require_windows(number, len(index))
            labels = torch.from_numpy(y[size - 1 :]) if name == "test" else None
            rows[name] = Rows(windows, index[:: self.stride if name == "train" else 1], labels)
        return Splits(**rows)

    def _windows_in(self, number: int) -> Index:
        """The windows (n,) of a part, counted over all recordings: they cross no border of a part or a segment."""
        found, offset = [np.empty(0, np.int64)], 0
        for recording, ends in zip(self._recordings, self._ends, strict=True):
            home, first, end = self._span(number, ends)
            for segment in recording.line.segments():
                begin = max(home, segment.start, first - self._size + 1)
                found.append(offset + np.arange(begin, min(end, segment.stop) - self._size + 1))
            offset += len(recording.line)
        return np.concatenate(found)

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

    def _span(self, number: int, ends: tuple[int, ...]) -> tuple[int, int, int]:
        """Where a part of a recording begins, from where on it is scored, and where it ends."""
        home = ends[number - 1] if number else 0
        return home, home + (self._gap if number else 0), ends[number]

    def stretches(self, split: str) -> list[Stretch]:
        """The steps of a split with their context, one stretch for each unbroken piece of each recording.

        Args:
            split: `"val"`, `"calibration"`, `"test"`, or `"all"`: all steps, those that trained too, as benchmarks that
                score whole series have it.
        """
        self._read()
        found = []
        for recording, ends in zip(self._recordings, self._ends, strict=True):
            home, first, last = (0, 0, ends[-1]) if split == "all" else self._span(PARTS.index(split), ends)
            for segment in recording.line.segments():
                start = max(first, segment.start)
                wanted = recording.y[start : max(start, min(last, segment.stop))] == 0
                for begin, end in _runs(wanted | (split in ("test", "all"))):
                    begin, end = begin + start, end + start
                    context = max(begin - self._size + 1, home, segment.start)
                    if (
                        split not in ("test", "all") and recording.y[context:begin].any()
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
        schema, recordings = self._reader.read(
            list(self._sources()),
            lambda time: self._borders.before_test(len(time), time),
            labelled=self.generator is None,
        )
        values = np.concatenate([recording.line.values for recording in recordings])
        pieces = np.split(values, np.cumsum([len(recording.line) for recording in recordings])[:-1])
        recordings = [
            replace(recording, line=replace(recording.line, values=piece))  # views: the series is held once
            for recording, piece in zip(recordings, pieces, strict=True)
        ]
        self._notes = [f"{recording.name}: {note}" for recording in recordings for note in recording.notes]
        self._ends = [self._borders.deal(recording, schema.zoned) for recording in recordings]
        self._size = self._window_size(recordings[0].line.values[: self._ends[0][0]])
        _require_stride(self.stride, self._size)
        if self._gap < self._size - 1:
            self._notes.append(
                f"the embargo of {self._gap} steps is shorter than a window of {self._size}: the first steps of a "
                "split resemble the end of the one before"
            )
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


def _require_stride(stride: int, window_size: int) -> None:
    if stride > window_size:
        raise ValueError(
            f"stride {stride} leaves out steps between windows of {window_size}: give at most {window_size}"
        )


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each unbroken run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
