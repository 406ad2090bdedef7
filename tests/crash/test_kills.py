"""A few of the points of `make crash`, which kills every workload at every one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


@pytest.fixture(scope="module", name="tried")
def _tried():
    """What became of three points of every workload: killed, asked to end, killed."""
    command = [sys.executable, str(HARNESS), "--json", "--mixed", "--sample=3"]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, timeout=500)
    assert run.stdout, run.stderr
    return {found["workload"]: found for found in map(json.loads, run.stdout.splitlines())}


@pytest.mark.parametrize(
    "workload",
    ["fit", "fit on a series", "calibrate", "save", "score to .csv", "score to .parquet", "compare"],
)
def test_a_command_that_is_cut_off_ends_in_the_same_bits_when_it_goes_on_and_loses_nothing_finished(tried, workload):
    found = tried[workload]
    assert found["tried"] == 3 < found["points"]
    assert not found["failed"]
