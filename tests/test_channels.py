"""Recordings with faults: what becomes of them, what is refused, and that nothing depends on the order of rows."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.channels import SeriesSchema
from deepad.clock import SECOND, interval_of, time_column, times_of
from deepad.errors import InputError

exhaustive = settings(derandomize=True, deadline=None, max_examples=80)
NAN = float("nan")


def recording(time, a, b=None, **others):
    columns = {"t": time, "a": a, "b": np.arange(len(a)) * 10.0 if b is None else b}
    return pa.table(columns | others)


def schema(**policies):
    return SeriesSchema(("a", "b"), **{"time": "t"} | policies)


def column(line, place=0):
    return [None if np.isnan(value) else value for value in line.values[:, place].tolist()]


# ---- order and clock -----------------------------------------------------------------------------------------------


def test_rows_come_out_in_order_of_time_and_every_row_knows_its_step():
    line = schema().read(recording([3, 1, 2], [30.0, 10.0, 20.0], [3.0, 1.0, 2.0]))
    assert line.values.tolist() == [[10, 1], [20, 2], [30, 3]]
    assert line.time.tolist() == [SECOND, 2 * SECOND, 3 * SECOND]
    assert line.step_of_row.tolist() == [2, 0, 1]
    assert line.values.dtype == np.float32
    assert len(line) == 3
    assert "out of order at 1 places" in line.notes[0]


@exhaustive
@given(st.integers(1, 40), st.integers(0, 10**6), st.sampled_from(["refuse", "first", "mean"]))
def test_the_order_of_the_rows_changes_nothing(n, seed, duplicates):
    random = np.random.default_rng(seed)
    time = np.cumsum(random.choice([1, 1, 1, 5, 40], n))
    if duplicates == "mean":
        time = np.repeat(time, 2)[:n]
    a = np.where(random.random(n) < 0.2, NAN, random.integers(0, 9, n))  # whole numbers, whose mean is exact
    reader = schema(duplicates=duplicates, missing="hold", max_gap=3)
    order = random.permutation(n)
    try:
        line = reader.read(recording(time, a))
    except InputError:
        with pytest.raises(InputError):
            reader.read(recording(time[order], a[order], 10.0 * order))
        return
    shuffled = reader.read(recording(time[order], a[order], 10.0 * order))
    assert shuffled.values.tobytes() == line.values.tobytes()
    assert shuffled.time.tolist() == line.time.tolist()
    assert shuffled.starts.tolist() == line.starts.tolist()
    assert shuffled.step_of_row.tolist() == line.step_of_row[order].tolist()


@exhaustive
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from([1.0, 2.0, NAN])), min_size=1, max_size=40),
    st.sampled_from(["first", "last", "mean"]),
    st.sampled_from(["hold", "split"]),
    st.integers(1, 6),
)
def test_every_row_maps_to_a_step_of_its_time_or_to_none_and_every_step_has_a_row(rows, duplicates, missing, max_gap):
    time, a = (np.array(values, float) for values in zip(*rows, strict=True))
    reader = schema(duplicates=duplicates, missing=missing, max_gap=max_gap)
    if np.isnan(a).all():
        with pytest.raises(InputError, match="no step"):
            reader.read(recording(time, a))
        return
    try:
        line = reader.read(recording(time, a))
    except InputError as refusal:
        if not re.search("no step of the series|irregular clock", str(refusal)):
            raise
        return  # the first of two rows may be the one without a value
    kept = line.step_of_row >= 0
    assert (line.time[line.step_of_row[kept]] == time[kept] * SECOND).all()
    assert sorted(set(line.step_of_row[kept].tolist())) == list(range(len(line)))
    assert np.isfinite(line.values).all()
    assert (np.diff(line.time) > 0).all()
    assert line.starts[0] == 0
    assert (np.diff(line.starts) > 0).all()
    assert [step for part in line.segments() for step in range(len(line))[part]] == list(range(len(line)))


def test_columns_are_taken_by_name():
    table = recording([1, 2], [1.0, 2.0], note=["x", "y"]).select(["note", "b", "t", "a"])
    assert schema().read(table).values.tolist() == [[1, 0], [2, 10]]
    with pytest.raises(InputError, match="lacks the columns b, t; it has note, a: the model takes a, b at t"):
        schema().read(table.select(["note", "a"]))


def test_rows_without_timestamps_are_in_order_already():
    line = schema(time=None).read(recording([2, 1], [5.0, 4.0]))
    assert line.time is None
    assert column(line) == [5, 4]
    assert line.step_of_row.tolist() == [0, 1]


def test_a_recording_without_rows_is_refused():
    with pytest.raises(InputError, match="no rows"):
        schema().read(recording(np.empty(0), np.empty(0)))


@pytest.mark.parametrize(
    "times",
    [
        ["2026-01-31 00:00:00", "2026-01-31 00:00:01.5"],
        ["2026-01-31T00:00:00Z", "2026-01-31T00:00:01.500Z"],
        ["2026-01-31 02:00:00+02:00", "2026-01-30 19:00:01.5-0500"],
        ["2026-01-31 02:00:00+02", "2026-01-31 02:00:01.5+02"],
        np.array(["2026-01-31T00:00:00.000", "2026-01-31T00:00:01.500"], "datetime64[ms]"),
        pa.array([1769817600000, 1769817601500], pa.timestamp("ms", tz="America/New_York")),
        np.array([1769817600, 1769817601.5]),
        pa.array(["2026-01-31 00:00:00", "2026-01-31 00:00:01.5"]).dictionary_encode(),
        pa.array(["2026-01-31 00:00:00", "2026-01-31 00:00:01.5"], pa.large_string()),
    ],
    ids=["text", "Z", "offsets", "short offsets", "datetime64", "zone", "seconds", "categorical", "large text"],
)
def test_times_are_understood_however_they_are_written(times):
    start = 1769817600 * SECOND
    assert times_of(pa.table({"t": times}), "t")[0].tolist() == [start, start + 3 * SECOND // 2]


def test_dates_and_whole_numbers_of_any_width_are_times():
    days, _ = times_of(pa.table({"t": pa.array([0, 1], pa.date32())}), "t")
    assert days.tolist() == [0, 86_400 * SECOND]
    for kind in (np.int8, np.uint64, np.float32):
        assert times_of(pa.table({"t": np.array([1, 2], kind)}), "t")[0].tolist() == [SECOND, 2 * SECOND]


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        (
            ["2026-01-31 00:00:00", "2026-01-31 00:00:01Z"],
            r"mixes times with a zone \(first at row 1\).*give all in UTC",
        ),
        (["2026-01-31 00:00:00+02", "2026-01-31 00:00:01"], "mixes times with a zone"),
        (["yesterday", "today"], "write them as 2026-01-31 23:59:59"),
        (["01/31/2026 10:00", "01/31/2026 10:01"], "write them as 2026-01-31 23:59:59"),
        (["2026-01-31", None], r"1 missing timestamps \(first at row 1\)"),
        ([1.0, NAN], "1 missing timestamps"),
        ([1.0, float("inf")], "numbers beyond the year 2261"),
        ([1769817600000, 1769817601000], "give seconds"),  # milliseconds
        (pa.array([0, 10**10], pa.timestamp("s")), "before 1678 or after 2261"),
        (["2026-01-31", "9999-12-31"], "column of times|after 2261"),
        (pa.array([1, 2], pa.duration("s")), "duration"),
        (pa.array([1, 2], pa.time32("s")), "time32"),
        ([True, False], "holds bool, not times"),
    ],
)
def test_times_that_cannot_be_told_are_refused(times, reason):
    with pytest.raises(InputError, match=reason):
        times_of(pa.table({"t": times}), "t")


def test_a_clock_set_back_is_refused_with_advice():
    night = [f"2026-10-25 02:{minute:02}:00" for minute in (0, 30)]
    with pytest.raises(InputError, match=r"2 rows repeat a timestamp of 't' \(first at row 2\).*give times in UTC"):
        schema().read(recording([*night, *night], [1.0, 2.0, 3.0, 4.0]))
    zoned = [f"{time}{zone}" for zone in ("+02:00", "+01:00") for time in night]
    line = schema().read(recording(zoned, [1.0, 2.0, 3.0, 4.0]))
    assert column(line) == [1, 2, 3, 4]
    assert set(np.diff(line.time).tolist()) == {1800 * SECOND}


def test_another_sampling_interval_is_refused_but_a_jittering_one_is_not():
    reader = schema(interval=1.0)
    for factor in (0.7, 1.0, 1.4):
        assert len(reader.read(recording(np.arange(5) * factor, np.arange(5.0)))) == 5
    for factor in (0.5, 2.0, 60.0):
        with pytest.raises(InputError, match=f"a row every {factor:g} s, the model takes one every 1 s: resample it"):
            reader.read(recording(np.arange(5) * factor, np.arange(5.0)))


def test_the_interval_is_that_of_most_rows():
    assert interval_of([np.array([0, 5, 10, 15, 900]) * SECOND, np.array([5, 0]) * SECOND]) == 5
    assert interval_of([np.array([0, 0, 0, 0, 2, 4]) * SECOND]) == 2, "rows of one time say nothing about it"
    assert interval_of([]) is None
    assert interval_of([np.array([7])]) is None


def test_the_only_column_of_timestamps_is_the_clock():
    stamps = pa.array([1, 2], pa.timestamp("s"))
    assert time_column(pa.table({"a": [1.0, 2.0], "when": stamps})) == "when"
    assert time_column(pa.table({"a": [1.0, 2.0]})) is None
    with pytest.raises(InputError, match="when, then all hold times: name the one that counts"):
        time_column(pa.table({"when": stamps, "then": stamps}))


def test_whether_times_have_a_zone_is_known_and_kept():
    cases = {"2026-01-31 00:00": False, "2026-01-31T00:00Z": True, "2026-01-31 00:00:00+02": True, 5.0: None}
    for time, zoned in cases.items():
        assert times_of(pa.table({"t": [time]}), "t")[1] is zoned
    assert times_of(pa.table({"t": pa.array([1], pa.timestamp("s", tz="UTC"))}), "t")[1] is True
    assert times_of(pa.table({"t": pa.array([1], pa.timestamp("s"))}), "t")[1] is False
    for zoned, wrong, advice in ((True, "2026-01-31 00:00", "write 2026-01-31T12:00:00\\+01:00"),
                                 (False, "2026-01-31 00:00Z", "write 2026-01-31T12:00:00 in its time")):  # fmt: skip
        with pytest.raises(InputError, match=f"column 't' has .* time zone.*{advice}"):
            schema(zoned=zoned).read(recording([wrong], [1.0]))
        assert len(schema(zoned=zoned).read(recording([5.0], [1.0]))) == 1, "a count of seconds needs no zone"


def test_a_schema_that_does_not_say_its_zone_is_read():
    document = schema().to_dict()
    del document["zoned"]
    assert SeriesSchema.from_dict(document) == schema()


def test_an_irregular_clock_is_noted_and_a_wild_one_refused():
    def clock(odd, n=100):
        return np.cumsum(np.where(np.arange(n) < odd, 2.0, 1.0))

    assert schema().read(recording(clock(5), np.arange(100))).notes == ()
    (note,) = schema().read(recording(clock(20), np.arange(100))).notes
    assert note == "irregular clock: 19% of the spacings are more than half off the typical 1 s"
    apart = np.where(np.arange(100) < 20, 1000, 0).cumsum() + np.arange(100)
    notes = schema(max_gap=10).read(recording(apart, np.arange(100))).notes
    assert notes == ("split at 19 gaps of more than 10 intervals",), "a gap is no irregular spacing"
    wild = np.cumsum(np.random.default_rng(0).pareto(0.5, 200) + 1e-3)
    with pytest.raises(InputError, match=r"irregular clock: \d+% of the spacings .*resample"):
        schema(max_gap=1e6).read(recording(wild, np.arange(200)))


def test_two_rows_with_a_gap_are_split_once_the_interval_is_known():
    rows = recording([0, 50], [1.0, 2.0])
    assert schema(interval=1.0).read(rows).starts.tolist() == [0, 1]
    assert schema(interval=10.0).read(rows).starts.tolist() == [0]
    assert schema().read(rows).starts.tolist() == [0]


def test_an_array_is_read_by_the_policy_for_missing_values():
    x = np.array([[1, 2], [NAN, 3], [4, 5]])
    assert schema(missing="hold").read_array(x).values.tolist() == [[1, 2], [1, 3], [4, 5]]
    split = schema(missing="split").read_array(x)
    assert (split.values.tolist(), split.starts.tolist()) == ([[1, 2], [4, 5]], [0, 1])
    with pytest.raises(InputError, match="1 of 3 steps miss values"):
        schema().read_array(x)


# ---- gaps ----------------------------------------------------------------------------------------------------------


def test_a_series_is_split_where_rows_are_missing_for_long():
    time = np.array([0, 1, 2, 6, 7, 13, 14])
    line = schema(max_gap=4).read(recording(time, time))
    assert [column(line)[part] for part in line.segments()] == [[0, 1, 2, 6, 7], [13, 14]]
    assert line.notes == ("split at 1 gaps of more than 4 intervals",)
    assert schema(max_gap=3).read(recording(time, time)).starts.tolist() == [0, 3, 5]


def test_what_is_a_gap_does_not_depend_on_how_many_there_are_once_the_interval_is_known():
    time = np.array([0, 1, 2, 3, 4.4, 5.8, 7.2, 8.6])  # typically 1.4 s, in training 1 s
    assert schema(max_gap=1.3).read(recording(time, time)).starts.tolist() == [0]
    assert schema(max_gap=1.3, interval=1.0).read(recording(time, time)).starts.tolist() == [0, 4, 5, 6, 7]


# ---- rows of one timestamp -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"), [("first", [[3, 30], [1, 0]]), ("last", [[4, 5], [1, 0]]), ("mean", [[3.5, 17.5], [1, 0]])]
)
def test_rows_of_one_timestamp_become_one_step(policy, expected):
    line = schema(duplicates=policy).read(recording([2, 1, 1], [1.0, 3.0, 4.0], [0.0, 30.0, 5.0]))
    assert line.values.tolist() == expected
    assert line.step_of_row.tolist() == [1, 0, 0]
    assert line.notes[-1] == f"1 rows of a repeated timestamp were merged ({policy})"


def test_a_mean_of_large_values_is_exact():
    line = schema(duplicates="mean").read(recording([1, 1], [3e38, 3e38]))
    assert column(line) == [np.float32(3e38)]


# ---- missing values ------------------------------------------------------------------------------------------------


def test_missing_values_are_refused_by_row_and_channel():
    with pytest.raises(InputError, match=r"2 of 4 steps miss values \(first: 'a' at row 0\): fill them"):
        schema().read(recording([4, 3, 2, 1], [NAN, 3.0, 2.0, 1.0], [1.0, NAN, 1.0, 1.0]))
    with pytest.raises(InputError, match="first: 'b' at row 2"):
        schema().read(pa.table({"t": [1, 2, 3], "a": [1, 2, 3], "b": pa.array([1, 2, None], pa.int32())}))


def test_the_series_is_split_at_missing_values():
    a = [NAN, 1.0, 2.0, NAN, NAN, 5.0, NAN]
    line = schema(missing="split").read(recording(range(7), a))
    assert [column(line)[part] for part in line.segments()] == [[1, 2], [5]]
    assert line.step_of_row.tolist() == [-1, 0, 1, -2, -3, 2, -4]
    assert line.left_out.tolist() == [0, 2, 2, 3], "steps that come before each"
    assert (line.time_left_out // SECOND).tolist() == [0, 3, 4, 6]
    assert line.time.tolist() == [SECOND, 2 * SECOND, 5 * SECOND]
    assert "4 steps with missing values were left out" in line.notes[-1]


def test_values_are_held_for_at_most_max_gap_steps():
    a = [NAN, 1.0, NAN, NAN, NAN, 5.0, NAN]
    line = schema(missing="hold", max_gap=2).read(recording(range(7), a))
    assert [column(line)[part] for part in line.segments()] == [[1, 1, 1], [5, 5]]
    assert line.step_of_row.tolist() == [-1, 0, 1, 2, -2, 3, 4]
    assert "3 missing values were held" in line.notes[0]


def test_nothing_is_held_over_a_gap():
    a = [1.0, 2.0, 3.0, NAN, NAN, 6.0, 7.0]
    line = schema(missing="hold", max_gap=5).read(recording([0, 1, 2, 3, 50, 51, 52], a))
    assert [column(line)[part] for part in line.segments()] == [[1, 2, 3, 3], [6, 7]]


def naive_hold(a, starts, most):
    held = list(a)
    for t in range(len(a)):
        begin = max(start for start in starts if start <= t)
        if np.isnan(a[t]):
            seen = [s for s in range(max(begin, t - most), t) if not np.isnan(a[s])]
            held[t] = a[seen[-1]] if seen else NAN
    return held


@exhaustive
@given(st.lists(st.one_of(st.just(NAN), st.integers(0, 5).map(float)), min_size=3, max_size=30), st.data())
def test_holding_equals_a_loop_and_never_looks_ahead(a, data):
    max_gap = data.draw(st.integers(1, 8))
    jumps = data.draw(st.lists(st.sampled_from([1, 1, 1, 1, 100]), min_size=len(a), max_size=len(a)))
    jumps = [1] * (len(a) // 2 + 1) + jumps[len(a) // 2 + 1 :]  # so that 1 is typical
    time = np.cumsum(jumps)
    starts = [0, *(np.flatnonzero(np.diff(time) > max_gap) + 1)]
    expected = np.array(naive_hold(a, starts, max_gap))
    reader = schema(missing="hold", max_gap=max_gap)
    if np.isnan(expected).all():
        with pytest.raises(InputError, match="no step"):
            reader.read(recording(time, a))
        return
    line = reader.read(recording(time, a))
    assert column(line) == expected[~np.isnan(expected)].tolist()
    assert (line.step_of_row >= 0).tolist() == (~np.isnan(expected)).tolist()
    changed = [*a[:-1], 99.0]
    again = reader.read(recording(time, changed))
    past = line.step_of_row[:-1][line.step_of_row[:-1] >= 0]
    assert again.values[past].tolist() == line.values[past].tolist()


def test_a_recording_without_any_value_is_refused():
    with pytest.raises(InputError, match="no step of the series has a value in every channel"):
        schema(missing="split").read(recording([1, 2], [1.0, NAN], [NAN, 2.0]))


# ---- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "reason"),
    [
        ([1.0, float("inf")], r"'a' has 1 infinite values \(first at row 1\)"),
        ([1e39, 1.0], r"'a' has 1 values beyond float32 \(first at row 0\)"),
        (["x", "y"], "channel 'a' holds no numbers"),
        ([True, False], "channel 'a' holds no numbers"),
        ([2**60, 1], r"beyond 2\*\*53"),
        (np.array(["2026-01-01", "2026-01-02"], "datetime64[s]"), "dates or times"),
    ],
)
def test_values_that_are_no_measurements_are_refused(a, reason):
    with pytest.raises(InputError, match=reason):
        schema().read(recording([1, 2], a))


def test_numbers_of_every_kind_are_values():
    for kind in (np.int8, np.uint16, np.float16, np.float64):
        assert column(schema().read(recording([1, 2], np.array([3, 4], kind)))) == [3, 4]
    assert column(schema().read(recording([1, 2], pa.array([3, 4], pa.decimal128(5, 1))))) == [3, 4]


def test_a_channel_that_never_changes_is_a_channel():
    assert column(schema().read(recording([1, 2, 3], [5.0, 5.0, 5.0]))) == [5, 5, 5]


def test_a_frame_of_pandas_is_a_recording():
    pandas = pytest.importorskip("pandas")
    time = pandas.date_range("2026-01-01", periods=3, freq="min", tz="Europe/Berlin")
    line = schema(interval=60.0).read(pandas.DataFrame({"t": time, "b": [1, 2, 3], "a": [4, 5, 6]}, index=[9, 7, 8]))
    assert line.values.tolist() == [[4, 1], [5, 2], [6, 3]]


# ---- keeping it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policies", [{}, {"time": None, "missing": "hold", "duplicates": "mean"}, {"interval": 60}, {"zoned": True}]
)
def test_a_schema_comes_back_from_json(policies):
    written = schema(**policies)
    assert SeriesSchema.from_dict(json.loads(json.dumps(written.to_dict()))) == written


@pytest.mark.parametrize(
    "change",
    [
        {"channels": []},
        {"channels": ["a", "a"]},
        {"channels": "ab"},
        {"channels": [["a"], ["b"]]},
        {"channels": ["a", 1]},
        {"channels": ["\ud800"]},
        {"channels": {"a": 1}},
        {"channels": None},
        {"time": "a"},
        {"time": 5},
        {"time": "\udfff"},
        {"time": ["t"]},
        {"missing": "zero"},
        {"missing": ["hold"]},
        {"missing": None},
        {"duplicates": {}},
        {"max_gap": 0.5},
        {"max_gap": -1},
        {"max_gap": NAN},
        {"max_gap": float("inf")},
        {"max_gap": 10**400},
        {"max_gap": 1e308},
        {"max_gap": True},
        {"max_gap": "10"},
        {"interval": 0},
        {"interval": NAN},
        {"interval": 10**400},
        {"interval": float("inf")},
        {"interval": [1]},
        {"interval": True},
        {"zoned": 1},
        {"zoned": "UTC"},
        {"kind": "table"},
        {"kind": ["series"]},
        {"more": 1},
    ],
    ids=repr,
)
def test_what_describes_no_series_is_a_value_error(change):
    with pytest.raises(ValueError, match=r"."):
        SeriesSchema.from_dict({**schema().to_dict(), **change})


@pytest.mark.parametrize("document", [None, [], "series", 5, {}, {"kind": "series"}, [["kind", "series"]]])
def test_what_is_no_description_is_a_value_error(document):
    with pytest.raises(ValueError, match="does not describe a series"):
        SeriesSchema.from_dict(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@exhaustive
@given(st.sampled_from(sorted(schema().to_dict())), json_values)
def test_any_json_in_any_field_is_a_schema_that_works_or_a_value_error(name, value):
    document = {**schema().to_dict(), name: value}
    try:
        read = SeriesSchema.from_dict(document)
    except ValueError:
        return
    assert SeriesSchema.from_dict(read.to_dict()) == read
    columns = {channel: np.arange(4.0) for channel in read.channels}
    if read.time is not None:
        columns[read.time] = np.arange(4) * (read.interval or 1)
    try:
        assert len(read.read(pa.table(columns))) == 4
    except InputError as refusal:
        if not re.search("beyond the year 2261|repeat a timestamp", str(refusal)):  # a huge or tiny interval
            raise
