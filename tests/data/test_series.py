"""Series: splits in order of time that share no step, windows that cross no border, and labels of steps."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.clock import nanoseconds
from deepad.data import Series
from deepad.errors import InputError

exhaustive = settings(derandomize=True, deadline=None, max_examples=60)
PARTS = ("train", "val", "calibration", "test")


def numbered(n, first=0):
    """Steps that say which they are, in two channels."""
    steps = np.arange(first, first + n, dtype=np.float64)
    return np.stack([steps, -steps], 1)


def frame(n, bad=(), *, interval=60, start="2026-01-01T00:00:00", **columns):
    time = np.datetime64(start, "s") + np.arange(n) * np.timedelta64(interval, "s")
    y = np.zeros(n, np.int64)
    y[list(bad)] = 1
    return pa.table({"when": time, "a": np.arange(n, dtype=float), "b": -np.arange(n, dtype=float), "y": y, **columns})


def steps_of(rows):
    """Which steps each window of numbered steps holds: (n, T)."""
    return rows.x[rows.index][:, :, 0].long().numpy()


def small(frames=None, **options):
    options = {"window_size": 8, "val_size": 0.2, "calibration_size": 0.3} | options
    return Series(frames=numbered(400) if frames is None else frames, **options)


# ---- splits --------------------------------------------------------------------------------------------------------


@exhaustive
@given(
    st.integers(2, 12),
    st.sampled_from([0, 5, None]),
    st.lists(st.integers(60, 300), min_size=1, max_size=3),
    st.integers(1, 5),
    st.floats(0.3, 0.8),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
)
def test_splits_share_no_step_and_follow_each_other(size, embargo, lengths, stride, until, val, calibration):
    firsts, stride = np.cumsum([0, *lengths[:-1]]), min(stride, size)
    frames = [numbered(n, first) for n, first in zip(lengths, firsts, strict=True)]
    options = {"window_size": size, "embargo": embargo, "fit_until": until, "stride": stride}
    data = Series(frames=frames, val_size=val, calibration_size=calibration, **options)
    try:
        splits = data.splits
    except InputError as refusal:
        if "holds no window" not in str(refusal):
            raise
        return
    recording = np.repeat(np.arange(len(lengths)), lengths)
    gap = size if embargo is None else embargo
    ends = {}
    for name in PARTS:
        windows = steps_of(getattr(splits, name))
        assert (np.diff(windows, axis=1) == 1).all()
        assert (recording[windows] == recording[windows[:, :1]]).all(), "a window crosses no border of a recording"
        for place in range(len(lengths)):
            held = windows[recording[windows[:, 0]] == place]
            if len(held) and place in ends:
                assert held.min() > ends[place], "a later split begins after an earlier one"
                assert held[:, -1].min() > ends[place] + gap, "and is scored after the embargo only"
            ends[place] = held.max() if len(held) else ends.get(place, -1)
    distances = np.diff(steps_of(splits.train)[:, 0])
    assert (distances[distances > 0] >= stride).all()


@pytest.mark.parametrize("embargo", [0, 5, 8, 20])
def test_each_part_is_exactly_what_can_be_scored_in_it(embargo):
    data = small(embargo=embargo, fit_until=200)
    begins, ends = (0, 100, 140, 200), (100, 140, 200, 400)
    for name, begin, end in zip(PARTS, begins, ends, strict=True):
        scored = max(begin + 7, begin + (embargo if begin else 0))
        assert steps_of(getattr(data.splits, name))[:, -1].tolist() == list(range(scored, end))


def test_whole_numbers_are_split_sizes_and_fit_until():
    data = small(fit_until=300, val_size=50, calibration_size=100, embargo=0)
    assert [steps_of(getattr(data.splits, name))[-1, -1] for name in PARTS] == [149, 199, 299, 399]


def test_fit_until_may_be_a_time():
    data = small(frame(400, y=np.zeros(400, int)), ignore=["y"], fit_until="2026-01-01 05:00:00", embargo=0)
    assert steps_of(data.splits.test)[0, 0] == 300
    with pytest.raises(InputError, match="has no timestamps"):
        _ = small(fit_until="2026-01-01").splits
    with pytest.raises(InputError, match="'soon' is no time"):
        _ = small(frame(400), ignore=["y"], fit_until="soon").splits


@pytest.mark.parametrize(("first", "until"), [(3000, 1000), (700, 600), (590, 500), (None, 1000)])
def test_fit_until_the_first_anomaly_follows_the_benchmark(first, until):
    labels = {"ignore": ["y"]} if first is None else {"label": "y"}
    data = small(frame(4000, [] if first is None else [first]), fit_until="first-anomaly", embargo=0, **labels)
    assert steps_of(data.splits.test)[0, 0] == until


@pytest.mark.parametrize("until", [0, 0.0, 1.0, -0.5, -3, True, float("nan")])
def test_an_impossible_fit_until_is_refused(until):
    with pytest.raises(ValueError, match="fit_until is a share"):
        _ = small(fit_until=until).splits


def test_training_windows_may_be_apart_and_all_others_are_not():
    data = small(stride=5)
    assert set(np.diff(steps_of(data.splits.train)[:, 0])) == {5}
    for name in PARTS[1:]:
        assert set(np.diff(steps_of(getattr(data.splits, name))[:, 0])) == {1}


def test_a_series_is_held_once_whatever_the_overlap():
    data = small([numbered(400), numbered(300)])
    rows = [getattr(data.splits, name).x for name in PARTS]
    assert len({x.untyped_storage().data_ptr() for x in rows}) == 1
    assert rows[0].untyped_storage().nbytes() == 700 * 2 * 4
    for stretch in data.stretches("test"):
        assert np.shares_memory(stretch.values, rows[0].numpy())


def test_a_batch_equals_its_windows_one_by_one():
    rows = small().splits.test
    x, y = rows.__getitems__([5, 0, 17])
    for place, i in enumerate([5, 0, 17]):
        assert torch.equal(x[place], rows[i][0])
        assert y[place] == rows[i][1]
    assert x.is_contiguous()


# ---- borders -------------------------------------------------------------------------------------------------------


def test_no_window_crosses_a_gap_or_a_missing_value():
    table = frame(400)
    keep = np.r_[0:50, 80:400]  # a gap in train
    a = table["a"].to_numpy().copy()
    a[[150, 320, 321]] = np.nan
    table = table.set_column(1, "a", pa.array(a)).take(keep)
    data = small(table, ignore=["y"], missing="split", fit_until=200, embargo=0)
    held = np.concatenate([steps_of(getattr(data.splits, name)) for name in PARTS])
    assert (np.diff(held, axis=1) == 1).all()
    assert any("split at 1 gaps" in note for note in data.describe()["notes"])
    assert any("3 steps with missing values were left out" in note for note in data.describe()["notes"])


def test_a_test_window_has_the_label_of_its_last_step():
    bad = [250, 300, 301, 302, 399]
    data = small(frame(400, bad), label="y", fit_until=200)
    windows, y = steps_of(data.splits.test), data.test_labels()
    assert windows[y == 1, -1].tolist() == bad
    assert data.describe()["test"]["n_anomalies"] == 5
    (stretch,) = data.stretches("test")
    assert (np.flatnonzero(stretch.y) + stretch.first).tolist() == bad


@exhaustive
@given(
    st.integers(2, 10),
    st.sampled_from([0, 3, None]),
    st.lists(st.integers(0, 399), max_size=6),
    st.lists(st.integers(1, 399), max_size=4),
    st.sampled_from(PARTS),
)
def test_stretches_cover_the_steps_of_a_split_once_and_agree_with_its_windows(size, embargo, bad, breaks, split):
    time = np.arange(400)
    for place in breaks:
        time[place:] += 100
    table = pa.table({"when": time, "a": np.arange(400.0), "y": np.isin(np.arange(400), bad).astype(int)})
    labels = {"label": "y"} if bad else {"ignore": ["y"]}
    data = small(table, window_size=size, embargo=embargo, time="when", **labels, anomalies="exclude", fit_until=250)
    try:
        windows = steps_of(getattr(data.splits, split))
    except InputError as refusal:
        if "holds no window" not in str(refusal):
            raise
        return
    ends = {"train": (0, 125), "val": (125, 175), "calibration": (175, 250), "test": (250, 400)}
    begin, end = ends[split]
    gap = (size if embargo is None else embargo) if begin else 0
    scored, ended = [], []
    for stretch in data.stretches(split):
        steps = stretch.values[:, 0].astype(int)
        assert (np.diff(steps) == 1).all()
        assert steps.min() >= begin, "context never reaches into another split"
        assert not np.isin(steps[1:], breaks).any(), "nor over a gap"
        assert (stretch.time == time[steps] * 10**9).all()
        own = steps[stretch.scored]
        assert own[0] == stretch.first
        assert (stretch.y == np.isin(own, bad)).all()
        assert (~stretch.scored).sum() <= size - 1
        if split != "test":
            assert not np.isin(steps, bad).any(), "no anomaly is calibrated on, nor context of what is"
        scored += own.tolist()
        ended += [step for place, step in enumerate(steps) if stretch.scored[place] and place >= size - 1]
    wanted = [t for t in range(begin + gap, end) if split == "test" or t not in bad]
    assert scored == wanted
    if split != "train":
        assert ended == windows[:, -1].tolist()


# ---- labels --------------------------------------------------------------------------------------------------------


def test_labelled_anomalies_in_the_part_that_fits_are_refused_or_left_out():
    table = frame(400, [40, 41, 150])
    with pytest.raises(
        InputError, match=r"series: 3 of the 200 steps before test .*first at step 40.*anomalies=exclude"
    ):
        _ = small(table, label="y", fit_until=200).splits
    data = small(table, label="y", fit_until=200, anomalies="exclude")
    for name in PARTS[:3]:
        assert not np.isin(steps_of(getattr(data.splits, name)), [40, 41, 150]).any()
    before = len(small(table, ignore=["y"], fit_until=200).splits.train)
    assert len(data.splits.train) == before - 9, "the windows that hold step 40 or 41"


def test_values_of_the_label_column_choose_the_anomalies():
    words = np.array(["fine"] * 400, object)
    words[300], words[310] = "hot", "loud"
    table = frame(400, note=words)
    data = small(table, label="note", anomalous=["hot", "loud"], ignore=["y"])
    assert data.test_labels().sum() == 2
    truth = frame(400, ok=np.arange(400) < 390)
    assert small(truth, label="ok", anomalous=[0], ignore=["y"]).test_labels().sum() == 10
    assert small(table, label="note", anomalous="hot", ignore="y").test_labels().sum() == 1
    with pytest.raises(InputError, match="no column 'nothing' for labels, only when, a, b, y"):
        _ = small(frame(400), label="nothing").splits
    blank = frame(400).set_column(3, "y", pa.array([0] * 399 + [None]))
    with pytest.raises(InputError, match=r"series: column 'y' has 1 labels missing \(first at row 399\)"):
        _ = small(blank, label="y").splits


def test_a_merged_or_shuffled_row_keeps_its_label():
    table = frame(400, [300])
    order = np.random.default_rng(0).permutation(400)
    twice = pa.concat_tables([table.take(order), table.slice(300, 1).set_column(3, "y", pa.array([0]))])
    data = small(twice, label="y", duplicates="first")
    assert steps_of(data.splits.test)[data.test_labels() == 1, -1].tolist() == [300]


def test_anomalous_times_come_from_a_list_or_from_json_by_name(tmp_path):
    table = frame(400).drop_columns(["y"])
    pairs = [["2026-01-01 04:10:00.000000", "2026-01-01T04:12:00"], ["2026-01-01 05:00:30", "2026-01-01 05:01"]]
    data = small(table, intervals=pairs)
    anomalous = steps_of(data.splits.test)[data.test_labels() == 1, -1].tolist()
    assert anomalous == [250, 251, 252, 301], "both ends belong to an interval"
    (tmp_path / "pump").mkdir()
    pyarrow.csv.write_csv(table, tmp_path / "pump" / "one.csv")
    where = tmp_path / "windows.json"
    where.write_text(json.dumps({"else.csv": [], "pump/one.csv": pairs}))
    options = {"intervals": str(where), "window_size": 8, "val_size": 0.2}
    again = Series(str(tmp_path / "pump" / "one.csv"), **options)
    assert np.array_equal(again.test_labels(), data.test_labels())
    where.write_text(json.dumps({"pump/two.csv": pairs}))
    with pytest.raises(InputError, match=r"no intervals for pump/one\.csv: it has pump/two\.csv"):
        _ = Series(str(tmp_path / "pump" / "one.csv"), **options).splits
    for text in ("{", "[1, 2]", '{"pump/one.csv": 5}', '{"pump/one.csv": [["2026-01-01"]]}'):
        where.write_text(text)
        with pytest.raises(InputError, match="not the JSON of intervals"):
            _ = Series(str(tmp_path / "pump" / "one.csv"), **options).splits
    with pytest.raises(InputError, match="intervals are times: give a column of labels"):
        _ = small(intervals=pairs).splits


def test_intervals_on_a_clock_of_numbers_are_numbers():
    table = pa.table({"t": np.arange(400) * 0.5, "a": np.arange(400.0)})
    data = small(table, time="t", intervals=[[150, 151]])
    assert steps_of(data.splits.test)[data.test_labels() == 1, -1].tolist() == [300, 301, 302]


@pytest.mark.parametrize("text", ["", "soon", "today", "NaT", None, "31.01.2026", "99999-01-01", float("nan"), [1]])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="is no time: write it as"):
        nanoseconds(text)


def test_a_time_with_a_zone_is_that_moment():
    moment = nanoseconds("2026-01-31 10:00")
    assert nanoseconds(" 2026-01-31T12:00:00+02:00 ") == moment == nanoseconds("2026-01-31 10:00:00Z")


def test_an_anomalous_value_that_no_recording_has_is_refused_with_those_that_occur():
    with pytest.raises(InputError, match=r"no label is 2: the values of 'y' are 0, 1; give some"):
        _ = small(frame(400, [300]), label="y", anomalous=[1, 2]).splits
    with pytest.raises(InputError, match=r"no label is 1: the values of 'y' are 0;"):
        _ = small(frame(400), label="y").splits
    both = [frame(400, [300]), frame(400)]
    assert small(both, label="y").test_labels().sum() == 1, "one recording with it is enough"
    assert Series(generator="sensors", generator_args={"rows": 900, "rate": 0}, window_size=8).test_labels().sum() == 0
    other = frame(400).set_column(3, "y", pa.array(["no"] * 400))
    with pytest.raises(InputError, match="the labels 'y' have other types in one file than in another"):
        _ = small([frame(400, [300]), other], label="y").splits


@pytest.mark.parametrize("anomalous", [1, "1", 1.0, True, "1.0"])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.bool_(), pa.string()])
def test_a_label_is_the_same_however_it_is_written(kind, anomalous):
    y = frame(400, [300])["y"].cast(kind)
    assert small(frame(400).set_column(3, "y", y), label="y", anomalous=anomalous).test_labels().sum() == 1


def test_columns_that_no_recording_has_are_refused():
    for names in ({"ignore": ["z", "y"]}, {"channels": ["a", "z"]}):
        with pytest.raises(InputError, match=r"no recording has the columns z of ignore or channels: .* when, a, b, y"):
            _ = small(frame(400), **names).splits
    extra = frame(400).append_column("z", pa.array(np.zeros(400)))
    assert small([extra, frame(400)], channels=["a"], ignore=["z"]).schema.channels == ("a",)


def zoned(table, zone="Europe/Berlin"):
    return table.set_column(0, "when", table["when"].cast(pa.timestamp("s", tz=zone)))


def test_times_of_the_arguments_and_of_the_recordings_have_a_zone_or_none():
    naive, aware = frame(400).drop_columns(["y"]), zoned(frame(400).drop_columns(["y"]))
    assert (small(naive).schema.zoned, small(aware).schema.zoned, small().schema.zoned) == (False, True, None)
    spoken, moment = "2026-01-01 05:00", "2026-01-01T06:00:00+01:00"
    for table, right, wrong, reason in (
        (naive, spoken, moment, "has a time zone, the series has none: write 2026-01-31T12:00:00"),
        (aware, moment, spoken, r"has no time zone, the series has one: write 2026-01-31T12:00:00\+01:00"),
    ):
        assert steps_of(small(table, fit_until=right, embargo=0).splits.test)[0, 0] == 300
        assert small(table, intervals=[[right, right]]).test_labels().sum() == 1
        for options in ({"fit_until": wrong}, {"intervals": [[wrong, wrong]]}):
            with pytest.raises(InputError, match=reason):
                _ = small(table, **options).splits
    with pytest.raises(InputError, match="recording 1: column 'when' has no time zone, the series has one"):
        _ = small([aware, naive]).splits


def test_intervals_that_end_before_they_start_are_refused_and_those_without_a_step_are_noted():
    table = frame(400).drop_columns(["y"])
    with pytest.raises(InputError, match="the interval from 2026-01-02 to 2026-01-01 ends before it starts"):
        _ = small(table, intervals=[["2026-01-02", "2026-01-01"]]).splits
    notes = small(table, intervals=[["2027-01-01", "2027-01-02"]]).describe()["notes"]
    assert "series: the interval from 2027-01-01 to 2027-01-02 holds no step" in notes


def test_steps_that_test_leaves_out_are_counted():
    bad = [203, 204, 320, 390]
    table = frame(400, bad)
    a = table["a"].to_numpy().copy()
    a[[100, 320, 321]] = np.nan
    table = table.set_column(1, "a", pa.array(a))
    for clock in ({}, {"time": "when"}):
        data = small(table, label="y", missing="split", fit_until=199, **clock)
        report = data.describe()
        assert (report["test"]["n_left_out"], report["test"]["n_anomalies_left_out"]) == (8 + 2, 3)
        assert any("test leaves out 10 steps, 3 of them anomalous" in note for note in report["notes"])
        assert report["steps"]["test"] + report["test"]["n_left_out"] == 200
    pairs = [[f"2026-01-01 0{step // 60}:{step % 60:02}:00"] * 2 for step in bad]
    timed = small(table.drop_columns(["y"]), intervals=pairs, missing="split", fit_until=199)
    assert timed.describe()["test"] == report["test"]
    assert small(embargo=0).describe()["test"]["n_left_out"] == 0


def test_an_embargo_shorter_than_a_window_is_noted():
    for embargo, noted in ((None, False), (7, False), (6, True), (0, True)):
        notes = small(embargo=embargo).describe()["notes"]
        assert any("shorter than a window of 8" in note for note in notes) is noted


def test_a_stride_that_leaves_steps_out_is_refused_for_a_chosen_window_too():
    with pytest.raises(ValueError, match="stride 60 leaves out steps between windows of 50"):
        _ = Series(frames=wave(3000, 50, noise=0), stride=60).splits


@pytest.mark.parametrize("until", [0.2, 200, "2026-01-01 03:20", "first-anomaly"])
def test_the_interval_is_learned_before_test_begins(until):
    n, fitted = (2000, 500) if until == "first-anomaly" else (1000, 200)
    seconds = np.cumsum(np.where(np.arange(n) <= fitted, 60, 80)) - 60
    when = pa.array(np.datetime64("2026-01-01", "s") + seconds * np.timedelta64(1, "s"))
    table = pa.table({"when": when, "a": np.arange(n) * 1.0})
    assert small(table, fit_until=until).schema.interval == 60


# ---- sources -------------------------------------------------------------------------------------------------------


def test_files_arrays_and_frames_of_one_series_are_the_same_data(tmp_path):
    table = frame(400).drop_columns(["y"])
    pyarrow.csv.write_csv(table, tmp_path / "series.csv")
    pyarrow.parquet.write_table(table, tmp_path / "series.parquet")
    np.save(tmp_path / "series.npy", numbered(400))
    expected = small(table)
    sources = [{"path": str(tmp_path / f"series.{kind}")} for kind in ("csv", "parquet", "npy")]
    sources += [{"frames": numbered(400)}, {"frames": [table]}, {"frames": numbered(400).astype(np.int32)}]
    for source in sources:
        data = Series(**source, window_size=8, val_size=0.2, calibration_size=0.3)
        assert data.describe()["train"] == expected.describe()["train"]
        assert data.describe()["test"] == expected.describe()["test"]
    assert data.schema.channels == ("channel 0", "channel 1")
    assert small(table, channels="b").schema.channels == ("b",)
    assert (expected.schema.channels, expected.schema.time) == (("a", "b"), "when")
    assert expected.schema.interval == 60


def test_recordings_of_different_lengths_are_each_split_in_time(tmp_path):
    lengths = {"a": 100, "b": 300, "c": 150}
    for name, n in lengths.items():
        pyarrow.csv.write_csv(frame(n, y=np.zeros(n, int)), tmp_path / f"{name}.csv")
    data = Series(str(tmp_path), window_size=4, ignore="y", embargo=0)
    assert data.title == "3 recordings"
    assert [(s.source.split("/")[-1], s.first, len(s.y)) for s in data.stretches("test")] == [
        ("a.csv", 50, 50), ("b.csv", 150, 150), ("c.csv", 75, 75),
    ]  # fmt: skip
    report = data.describe()
    assert report["steps"]["test"] == 275
    assert report["test"]["n"] == 275 - 3 * 3
    assert report["inputs"] == data.schema.to_dict()
    assert json.loads(json.dumps(report)) == report


def test_a_recording_with_other_channels_is_refused_by_name(tmp_path):
    pyarrow.csv.write_csv(frame(100), tmp_path / "a.csv")
    pyarrow.csv.write_csv(frame(100).drop_columns(["b"]), tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"b\.csv: the series lacks the columns b"):
        _ = Series(str(tmp_path), ignore=["y"]).splits
    (tmp_path / "b.csv").write_text("when,a,b,y\nnever,1,2,0\n")
    with pytest.raises(InputError, match=r"b\.csv: column 'when' is no column of times"):
        _ = Series(str(tmp_path), ignore=["y"]).splits


@pytest.mark.parametrize("name", ["sensors", "network"])
def test_generators_of_series_are_data(name):
    data = Series(generator=name, generator_args={"rows": 1500}, window_size=12, seed=3)
    assert data.shape == (12, len(data.schema.channels))
    assert data.schema.time == "timestamp"
    assert not {"label", "pattern"} & set(data.schema.channels)
    assert 0 < data.test_labels().sum() < len(data.splits.test)
    other = Series(generator=name, generator_args={"rows": 1500}, window_size=12, seed=4)
    assert other.describe()["train"] != data.describe()["train"]


def test_a_generator_of_tables_is_refused():
    with pytest.raises(InputError, match="transactions makes a table, not a series: give one of network, sensors, or"):
        _ = Series(generator="transactions").splits
    with pytest.raises(InputError, match="no generator is called 'nothing'"):
        _ = Series(generator="nothing").splits


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "give one of path, frames and generator"),
        ({"path": "a.csv", "generator": "sensors"}, "give one of path, frames and generator"),
        ({"generator": "sensors", "window_size": 1}, "window_size must be a whole number >= 2, or 'auto', got 1"),
        ({"generator": "sensors", "window_size": 2.0}, "window_size must be"),
        ({"generator": "sensors", "stride": 0}, "stride must be a whole number >= 1, got 0"),
        ({"generator": "sensors", "stride": 2.0}, "stride must be a whole number"),
        ({"generator": "sensors", "stride": True}, "stride must be a whole number"),
        ({"generator": "sensors", "stride": 9, "window_size": 8}, "stride 9 leaves out steps between windows of 8"),
        ({"generator": "sensors", "embargo": 1.5}, "embargo must be a whole number"),
        ({"generator": "sensors", "val_size": 0}, "a split size is a share in"),
        ({"generator": "sensors", "val_size": -5}, "a split size is a share in"),
        ({"generator": "sensors", "calibration_size": 1.0}, "a split size is a share in"),
        ({"generator": "sensors", "calibration_size": True}, "a split size is a share in"),
        ({"generator": "sensors", "calibration_size": "half"}, "a split size is a share in"),
        ({"path": "a.csv", "generator_args": {"rows": 9}}, "generator_args are for a generator"),
        ({"generator": "sensors", "embargo": -1}, "embargo must be a whole number >= 0, got -1"),
        ({"generator": "sensors", "anomalies": "keep"}, "anomalies must be refuse or exclude"),
        ({"path": "a.csv", "label": "y", "intervals": []}, "a column \\(label\\) or times \\(intervals\\), not both"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        Series(**arguments)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "got no recording"),
        (np.zeros(5), r"an array \(N, C\) of numbers, got float64 of shape \(5,\)"),
        (np.zeros((5, 2), object), "got object"),
        ([[1.0, 2.0], [3.0, 4.0]], "got list where a table is taken"),
        (np.full((5, 2), np.nan), "recording|5 of 5 steps miss values"),
        (pa.table({"a": ["x", "y"]}), "columns a are no numbers: name the channels"),
        (pa.table({"y": [0, 1]}), "no column is left for a channel out of y"),
    ],
)
def test_frames_that_are_no_series_are_refused(frames, reason):
    ignore = ["y"] if "y" in getattr(frames, "column_names", []) else []
    with pytest.raises(InputError, match=reason):
        _ = Series(frames=frames, ignore=ignore).splits


def test_a_series_that_is_too_short_is_refused_with_numbers():
    with pytest.raises(InputError, match="a window of 8 steps does not fit into 6 steps"):
        _ = small(numbered(6), val_size=1, calibration_size=1).splits
    with pytest.raises(InputError, match="val and calibration take 30 and 10 of 40 steps before test: nothing is left"):
        _ = small(numbered(80), val_size=30, calibration_size=10).splits
    numbers = "it has at most 12 steps in a row, a window takes 8 and the embargo before it 20"
    with pytest.raises(InputError, match=rf"val part holds no window: {numbers}: .* a larger val_size, or"):
        _ = small(numbered(120), embargo=20).splits
    with pytest.raises(
        InputError, match=r"test part holds no window: it has at most 10 steps .*embargo, or another fit_until"
    ):
        _ = small(numbered(120), fit_until=110, embargo=15).splits
    with pytest.raises(InputError, match=r"train part holds no window: it has at most 5 steps .*embargo before it 0"):
        _ = small(numbered(120), fit_until=60, val_size=25, calibration_size=30, embargo=1).splits


def test_a_series_in_pieces_shorter_than_a_window_is_refused_with_the_longest():
    time = np.arange(400) + np.arange(400) // 6 * 100
    table = pa.table({"t": time, "a": np.arange(400.0)})
    with pytest.raises(InputError, match="train part holds no window: it has at most 6 steps in a row"):
        _ = small(table, time="t").splits


# ---- the window that is chosen -------------------------------------------------------------------------------------


def wave(n, period, noise=0.2):
    return np.sin(2 * np.pi * np.arange(n) / period)[:, None] + noise * np.random.default_rng(0).normal(size=(n, 2))


def test_the_window_is_a_period_of_the_training_part_and_said():
    data = Series(frames=wave(3000, 50))
    assert data.shape[0] == pytest.approx(50, abs=1)
    assert f"window_size {data.shape[0]}: the dominant period of {data.shape[0]} steps" in data.describe()["notes"]
    assert data.describe()["window_size"] == data.shape[0]
    later = wave(3000, 50)
    later[1500:] = wave(1500, 20)
    assert Series(frames=later).shape == data.shape, "test has no say in it"


@pytest.mark.parametrize(("n", "size"), [(5000, 64), (400, 7), (120, 2)])
def test_without_a_period_the_window_fits_into_every_part(n, size):
    data = Series(frames=np.random.default_rng(1).normal(size=(n, 1)))
    assert data.shape == (size, 1)
    assert f"window_size {size}: no period was found" in data.describe()["notes"]
    assert all(len(getattr(data.splits, name)) for name in PARTS)


@pytest.mark.parametrize("n", [300, 700, 2000])
def test_a_period_that_is_too_long_for_the_parts_is_not_taken(n):
    data = Series(frames=wave(n, n // 8))
    assert data.shape[0] <= max(2, n * 0.5 * 0.6 // 8)
    assert all(len(getattr(data.splits, name)) for name in PARTS)


# ---- real recordings -----------------------------------------------------------------------------------------------


def test_the_numenta_benchmark_is_read_as_it_is(deepad_data):
    path = "nab/data/realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv"
    intervals = "nab/labels/combined_windows.json"
    data = Series(path, intervals=intervals, fit_until=0.3, window_size=24, missing="hold")
    known = json.loads((deepad_data / intervals).read_text())["realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv"]
    table = pyarrow.csv.read_csv(deepad_data / path)
    time = table["timestamp"].to_numpy()
    expected = sum(
        int(((time >= np.datetime64(a.replace(" ", "T"))) & (time <= np.datetime64(b.replace(" ", "T")))).sum())
        for a, b in known
    )
    assert data.describe()["steps"]["test"] + 24 + round(0.3 * len(table)) == len(table)
    assert sum(int(stretch.y.sum()) for stretch in data.stretches("test")) == expected > 0
    assert data.schema.channels == ("value",)
    assert data.schema.interval == 300


@pytest.mark.parametrize("name", ["realAdExchange/exchange-2_cpc_results.csv", "artificialNoAnomaly/art_flatline.csv"])
def test_irregular_and_flat_recordings_are_series(deepad_data, name):
    data = Series(f"nab/data/{name}", window_size=12, duplicates="mean")
    assert all(len(getattr(data.splits, part)) for part in PARTS)


def test_valves_of_the_skoltech_benchmark_are_recordings_with_a_label_column(deepad_data):
    data = Series(
        "skab/valve1", label="anomaly", ignore=["changepoint"], window_size=30, fit_until=400, val_size=80,
        calibration_size=100, embargo=10, duplicates="mean", max_gap=60,
    )  # fmt: skip
    assert data.title == "16 recordings"
    assert len(data.schema.channels) == 8
    assert data.schema.interval == 1
    report = data.describe()
    assert 0.1 < report["test"]["n_anomalies"] / report["test"]["n"] < 0.9
