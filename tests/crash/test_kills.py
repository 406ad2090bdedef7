"""A few of the points of `make crash`, which kills every workload at every one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


def try_points(*options):
    command = [sys.executable, str(HARNESS), "--json", *options]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, timeout=500)
    assert run.stdout, run.stderr
    return {found["workload"]: found for found in map(json.loads, run.stdout.splitlines())}


@pytest.fixture(scope="module", name="killed")
def _killed():
    return try_points("--sample=2")


@pytest.mark.parametrize(
    "workload",
    ["fit", "fit on a series", "calibrate", "save", "score to .csv", "score to .parquet", "compare"],
)
def test_after_a_kill_the_next_start_ends_in_the_same_bits_and_nothing_finished_is_lost(killed, workload):
    found = killed[workload]
    assert found["tried"] == 2 < found["points"]
    assert not found["failed"]


def test_a_command_that_is_asked_to_end_cleans_up_and_says_so():
    for found in try_points("--terminate", "--sample=1", "fit", "calibrate", "score to .csv").values():
        assert found["tried"] == 1
        assert not found["failed"]
