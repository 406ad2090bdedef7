"""What is left by a process that is ended while it writes: whole rows on a pipe, nothing under the name of a file."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from deepad import Scorer
from deepad.baselines import PCAResidual

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
ROWS = 200_000


@pytest.fixture(scope="module", name="work")
def _work(tmp_path_factory):
    """A folder with a scorer and a file that takes it a while."""
    folder, rng = tmp_path_factory.mktemp("interrupted"), np.random.default_rng(0)
    model = PCAResidual(2).fit(rng.normal(size=(200, 6)))
    Scorer.calibrate(model, rng.normal(size=(100, 6))).save(folder / "scorer")
    np.save(folder / "x.npy", rng.normal(size=(ROWS, 6)))
    return folder


def start(*arguments, **options):
    command = [sys.executable, "-m", "deepad", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=_listen, **options)


def _listen():
    """What a shell starts in the background ignores SIGINT, and so would what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def taken(pipe, least):
    """At least so many bytes, read as slowly as they come."""
    found = b""
    while len(found) < least and (part := os.read(pipe.fileno(), 1 << 12)):
        found += part
    return found


@pytest.mark.parametrize(("how", "kind"), list(zip(SIGNALS, ("csv", "jsonl", "csv"), strict=True)), ids=str)
def test_whole_rows_reach_a_pipe(work, how, kind):
    process = start("score", "--scorer", work / "scorer", work / "x.npy", *["--json"] * (kind == "jsonl"),
                    stdout=subprocess.PIPE)  # fmt: skip
    found = taken(process.stdout, 200_000)
    process.send_signal(how)
    found += process.stdout.read()
    error = process.communicate()[1].decode()
    assert process.returncode != 0
    assert "Traceback" not in error
    assert found.endswith(b"\n")
    lines = found.decode().splitlines()
    if kind == "csv":
        rows = [line.split(",") for line in lines]
        assert {len(row) for row in rows} == {8}
        index = [int(row[1]) for row in rows[1:]]
    else:
        index = [json.loads(line)["index"] for line in lines]
    assert index == list(range(len(index)))
    assert 0 < len(index) < ROWS


@pytest.mark.parametrize(("how", "kind"), list(zip(SIGNALS, ("parquet", "csv", "jsonl"), strict=True)), ids=str)
def test_nothing_appears_under_the_name_of_a_file_and_an_older_one_stays(work, how, kind, tmp_path):
    output = tmp_path / f"scores.{kind}"
    output.write_bytes(b"older")
    process = start("score", "--scorer", work / "scorer", work / "x.npy", "--output", output)
    while process.poll() is None and not any(path.stat().st_size for path in tmp_path.glob(".writing-*")):
        time.sleep(0.005)
    process.send_signal(how)
    error = process.communicate()[1].decode()
    assert process.returncode != 0
    assert "Traceback" not in error
    assert output.read_bytes() == b"older"
    if how != signal.SIGKILL:  # after which the next writer of that file clears up
        assert list(tmp_path.iterdir()) == [output]
