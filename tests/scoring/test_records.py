"""Verdicts written as rows come back bit for bit, or there is no file."""

import csv
import gc
import io
import json
import select
import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import within
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.errors import InputError
from deepad.scoring.conformal import Calibration
from deepad.scoring.records import KINDS, _WholeRows, as_table, open_table
from deepad.scoring.verdict import Verdict

exhaustive = settings(derandomize=True, deadline=None, max_examples=60)
COLUMNS = ["source", "index", "score", "p_value", "flagged", "alpha", "threshold", "model"]


def verdict_on(scores, alpha=0.1):
    scores = np.asarray(scores, np.float64)
    calibration = Calibration.fit(np.random.default_rng(0).normal(size=99))
    threshold = calibration.threshold(alpha)
    p_values, flagged = calibration.p_values(scores), threshold.flag(scores)
    return Verdict(scores, p_values, flagged, alpha, threshold.value, threshold.guarantee)


def table_of(scores, source=None, **extra):
    n = len(scores)
    return as_table(verdict_on(scores), source or ["a.csv"] * n, np.arange(n), "0123456789ab", **extra)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update({name: float(row[name]) for name in ("score", "p_value", "alpha", "threshold")})
        row.update(index=int(row["index"]), flagged={"true": True, "false": False}[row["flagged"]])
    return rows


def read_jsonl(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:  # JSON has neither NaN nor infinity: null and a word stand for them
        row.update({name: float("nan" if row[name] is None else row[name]) for name in ("score", "p_value")})
    return rows


READERS = {".csv": read_csv, ".parquet": lambda path: pq.read_table(path).to_pylist(), ".jsonl": read_jsonl}


def bits(row):
    """A row with its floats as bytes, so that NaN equals itself and -0.0 differs from 0.0."""
    return {name: struct.pack("<d", value) if isinstance(value, float) else value for name, value in row.items()}


def expected(verdict, source):
    return [
        {
            "source": source[i],
            "index": i,
            "score": float(verdict.score[i]),
            "p_value": float(verdict.p_value[i]),
            "flagged": bool(verdict.flagged[i]),
            "alpha": verdict.alpha,
            "threshold": verdict.threshold,
            "model": "0123456789ab",
        }
        for i in range(len(verdict))
    ]


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
@exhaustive
@given(
    scores=st.lists(st.one_of(st.floats(), st.just(float("nan"))), min_size=1, max_size=20),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
def test_rows_come_back_bit_for_bit(kind, scores, name):
    scores = [float("nan") if score != score else score for score in scores]  # one NaN: files keep no payload of it
    verdict, source = verdict_on(scores), [f"{name},\"{i}'" for i in range(len(scores))]
    with TemporaryDirectory() as folder:
        path = Path(folder, f"rows{kind}")
        with open_table(path) as writer:
            writer.write(as_table(verdict, source, np.arange(len(scores)), "0123456789ab"))
        rows = READERS[kind](path)
    assert [list(row) for row in rows] == [COLUMNS] * len(scores)
    assert [bits(row) for row in rows] == [bits(row) for row in expected(verdict, source)]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_written_one_after_the_other(tmp_path, kind):
    scores = np.random.default_rng(0).normal(size=30)
    with open_table(tmp_path / f"rows{kind}") as writer:
        for start in range(0, 30, 7):
            writer.write(table_of(scores[start : start + 7]))
    assert [row["score"] for row in READERS[kind](tmp_path / f"rows{kind}")] == scores.tolist()
    assert files_in(tmp_path) == [f"rows{kind}"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_could_not_be_scored_stays_flagged_and_without_a_p_value(tmp_path, kind):
    with open_table(tmp_path / f"rows{kind}") as writer:
        writer.write(table_of([0.0, float("nan"), float("inf")]))
    rows = READERS[kind](tmp_path / f"rows{kind}")
    assert [row["flagged"] for row in rows] == [False, True, True]
    assert [row["p_value"] != row["p_value"] for row in rows] == [False, True, False]


def test_json_lines_are_strict_json(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    with open_table(tmp_path / "rows.jsonl") as writer:
        writer.write(table_of([float("nan"), float("inf"), float("-inf"), 1e-308]))
    rows = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["score"] for row in rows] == [None, "inf", "-inf", 1e-308]


@pytest.mark.parametrize("kind", KINDS)
def test_further_columns_follow_the_others(tmp_path, kind):
    with open_table(tmp_path / f"rows{kind}") as writer:
        writer.write(table_of([0.0, 1.0], y=np.array([0, 1])))
    rows = READERS[kind](tmp_path / f"rows{kind}")
    assert list(rows[0]) == [*COLUMNS, "y"]
    assert [int(row["y"]) for row in rows] == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("written", [0, 1, 3])
@pytest.mark.parametrize("older", [False, True])
def test_a_failure_in_the_middle_leaves_no_file_and_keeps_an_older_one(tmp_path, monkeypatch, kind, written, older):
    path = tmp_path / f"rows{kind}"
    if older:
        path.write_text("older")
    noise = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: noise.append(str(event.exc_value)))

    def fail():
        with open_table(path) as writer:
            for _ in range(written):
                writer.write(table_of(np.arange(50.0)))
            raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        fail()
    gc.collect()
    assert noise == []  # nothing is left behind that fails later
    assert files_in(tmp_path) == ([path.name] if older else [])
    assert not older or path.read_text() == "older"


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_in_the_middle_leaves_no_file(tmp_path, kind):
    with pytest.raises(KeyboardInterrupt), open_table(tmp_path / f"rows{kind}"):
        raise KeyboardInterrupt
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_appears_when_it_is_whole_and_replaces_an_older_one(tmp_path, kind):
    path = tmp_path / f"rows{kind}"
    path.write_text("older")
    with open_table(path) as writer:
        writer.write(table_of([1.0]))
        assert path.read_text() == "older"
    assert len(READERS[kind](path)) == 1


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.csv.gz", "rows.json", ".csv"])
def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(InputError, match=r"\.csv, \.parquet, \.jsonl"), open_table(tmp_path / name):
        pass
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["rows.CSV", "rows.Parquet", "rows.JSONL"])
def test_endings_may_be_written_large(tmp_path, name):
    with open_table(tmp_path / name) as writer:
        writer.write(table_of([1.0]))
    assert len(READERS[Path(name.lower()).suffix](tmp_path / name)) == 1


def test_folders_on_the_way_are_made(tmp_path):
    with open_table(tmp_path / "a" / "b" / "rows.csv") as writer:
        writer.write(table_of([1.0]))
    assert len(read_csv(tmp_path / "a" / "b" / "rows.csv")) == 1


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot write"), open_table(tmp_path / "file" / "rows.csv"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(InputError, match="cannot write"), open_table(tmp_path / "rows.csv") as writer:
        writer.write(table_of([1.0]))
    assert files_in(tmp_path) == ["rows.csv"]


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_without_a_file_rows_go_to_standard_output(capsysbinary, tmp_path, kind):
    with open_table(None, kind=kind) as writer:
        writer.write(table_of([1.0, 2.0]))
    (tmp_path / f"out{kind}").write_bytes(capsysbinary.readouterr().out)
    assert [row["score"] for row in READERS[kind](tmp_path / f"out{kind}")] == [1.0, 2.0]


class Pipe(io.BytesIO):
    """What reaches a pipe, write by write."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, data):
        self.writes.append(bytes(data))
        return len(data)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    lines=st.lists(st.integers(0, 3 * select.PIPE_BUF), max_size=12), cuts=st.lists(st.integers(1, 9000), min_size=1)
)
def test_what_goes_to_a_pipe_is_written_in_whole_lines_as_many_as_fit(lines, cuts):
    data, pipe = b"".join(b"x" * n + b"\n" for n in lines), Pipe()
    with _WholeRows(pipe) as whole:
        place = 0
        for cut in cuts * (1 + len(data) // sum(cuts)):
            whole.write(data[place : place + cut])
            place += cut
    assert b"".join(pipe.writes) == data
    for write in pipe.writes:
        assert write.endswith(b"\n")
        assert len(write) <= select.PIPE_BUF or write.count(b"\n") == 1


def test_a_last_line_without_an_end_and_a_long_one_in_many_pieces_are_written_as_well():
    pipe = Pipe()
    with within(20), _WholeRows(pipe) as whole:
        for _ in range(20_000):
            whole.write(b"y" * 1000)
        whole.write(b"\nrest")
    assert b"".join(pipe.writes) == b"y" * 20_000_000 + b"\nrest"
