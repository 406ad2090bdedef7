"""A few of the points of `make crash`, which kills every workload at every one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


WORKLOADS = ["fit", "calibrate", "score to .csv", "score to .parquet", "compare"]


@pytest.fixture(scope="module", name="tried")
def _tried():
    """What became of two points of every workload: at one it was killed, at the other asked to end."""
    command = [sys.executable, str(HARNESS), "--json", "--mixed", "--sample=2", *WORKLOADS]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, timeout=500)
    assert run.stdout, run.stderr
    return {found["workload"]: found for found in map(json.loads, run.stdout.splitlines())}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_command_that_is_cut_off_ends_in_the_same_bits_when_it_goes_on_and_loses_nothing_finished(tried, workload):
    found = tried[workload]
    assert found["tried"] == 2 < found["points"]
    assert not found["failed"]
