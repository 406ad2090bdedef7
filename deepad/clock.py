"""Clocks: columns of timestamps as nanoseconds, with or without a time zone, and the spacing of their rows."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError
from deepad.frames import Frame, listed, refuse_where

Index = NDArray[np.int64]

SECOND = 1_000_000_000
LATEST = 9.2e9
"""Seconds from 1970 that nanoseconds of 64 bits can tell, until 2261."""
UNITS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600,
         "day": 86_400, "week": 604_800, "month": 30 * 86_400}  # fmt: skip
"""Seconds of what a length of time is counted in; a month has 30 days."""
_ZONE = r"(Z|:\d\d[\d.,]*[+-]\d\d(:?\d\d)?)$"


def times_of(table: Frame, name: str) -> tuple[Index, bool | None]:
    """A column of timestamps (N,) in nanoseconds, and whether they have a time zone.

    Numbers are taken for seconds, and of them the zone is None: a count of seconds needs none.

    Raises:
        InputError: missing timestamps, times with and without zone, or text that is no ISO 8601 time.
    """
    import pyarrow as pa

    column = table.column(name).combine_chunks()
    missing = np.asarray(column.is_null(nan_is_null=True))
    refuse_where(missing, name, "missing timestamps", "drop those rows", 0)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        seconds = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        refuse_where(~(np.abs(seconds) < LATEST), name, "numbers beyond the year 2261", "give seconds", 0)
        return np.round(seconds * SECOND).astype(np.int64), None
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        zoned = [bool(re.search(_ZONE, text.strip())) for text in column.to_pylist()]
        if any(zoned) and not all(zoned):
            raise InputError(
                f"column {name!r} mixes times with a zone (first at row {zoned.index(True)}) and without (first at row "
                f"{zoned.index(False)}): give all in UTC"
            )
        try:
            column = column.cast(pa.timestamp("ns", tz="UTC" if any(zoned) else None))
        except pa.ArrowInvalid:
            raise InputError(f"column {name!r} is no column of times: write them as 2026-01-31 23:59:59") from None
    if not pa.types.is_temporal(column.type) or pa.types.is_duration(column.type) or pa.types.is_time(column.type):
        raise InputError(f"column {name!r} holds {column.type}, not times: give timestamps or seconds")
    try:
        column = column.cast(pa.timestamp("ns", tz=getattr(column.type, "tz", None)))
    except pa.ArrowInvalid:
        raise InputError(f"column {name!r} holds times before 1678 or after 2261, which cannot be counted") from None
    zone = getattr(column.type, "tz", None)
    return np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False)), zone is not None


def require_same_zone(what: str, zoned: bool | None, expected: bool | None) -> None:
    """Raise `InputError` if times have a zone where others have none, or the other way round; None goes with both."""
    if zoned is None or expected is None or zoned == expected:
        return
    if expected:
        raise InputError(f"{what} has no time zone, the series has one: write 2026-01-31T12:00:00+01:00")
    raise InputError(f"{what} has a time zone, the series has none: write 2026-01-31T12:00:00 in its time")


def nanoseconds(time: Any, zoned: bool | None = None) -> int:
    """A time written as text, or on a clock of numbers as seconds, in nanoseconds.

    Args:
        time: the text or number.
        zoned: whether the series it is for has a time zone, None if that does not matter.

    Raises:
        InputError: neither, or a zone where there is none or the other way round.
    """
    import pyarrow as pa

    try:
        table = pa.table({"time": [time.strip() if isinstance(time, str) else time]})
        moment, has_zone = times_of(table, "time")
    except (InputError, pa.ArrowException):
        raise InputError(f"{time!r} is no time: write it as 2026-01-31 23:59:59") from None
    require_same_zone(repr(time), has_zone, zoned)
    return int(moment[0])


def duration(text: str) -> float:
    """Seconds of a length of time written as `day`, `12 hours`, `10 min` or `90 s`.

    Raises:
        ValueError: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)?\s*([a-z]+)", str(text).strip().lower())
    unit = None if found is None else UNITS.get(found[2]) or UNITS.get(found[2].removesuffix("s"))
    if found is None or unit is None or not float(found[1] or 1) > 0:
        raise ValueError(f"a length of time is written as '1 day', '12 hours', '10 min' or '90 s', got {text!r}")
    return float(found[1] or 1) * unit


def in_words(seconds: float) -> str:
    """A length of time in the largest unit of which it is a whole number."""
    for unit in ("week", "day", "hour", "min", "s"):
        count = seconds / UNITS[unit]
        if count >= 1 and (count == int(count) or unit == "s"):
            return f"{count:g} {unit}{'s' if count != 1 and unit in ('week', 'day', 'hour') else ''}"
    return f"{seconds:g} s"


def time_column(table: Frame) -> str | None:
    """The only column of timestamps, None if there is none.

    Raises:
        InputError: several.
    """
    from pyarrow import types

    found = [field.name for field in table.schema if types.is_timestamp(field.type) or types.is_date(field.type)]
    if len(found) > 1:
        raise InputError(f"the columns {listed(found)} all hold times: name the one that counts")
    return found[0] if found else None


def interval_of(times: Sequence[Index]) -> float | None:
    """Typical seconds between rows of recordings, None where there is nothing to measure."""
    spacing = [np.diff(np.unique(time)) for time in times]
    joined = np.concatenate([np.empty(0, np.int64), *spacing])
    return float(np.median(joined)) / SECOND if len(joined) else None
