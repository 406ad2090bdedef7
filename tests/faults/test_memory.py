"""Scoring streams: what is scored may be far larger than memory.

The limit is one of address space beyond what a process has once it has started, `DEEPAD_SOAK_MIB` MiB (`make soak`
takes more); the folder that is scored holds ten times as much.
"""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.schema import TableSchema

LIMIT = int(os.environ.get("DEEPAD_SOAK_MIB", "112")) << 20
COLUMNS = [f"f{place}" for place in range(400)]
LIMITED = """
import resource, sys
import pyarrow.csv, pyarrow.parquet
import deepad.cli, deepad.verbs
from deepad import Scorer
Scorer.load(sys.argv[2])  # what is loaded once is no part of the limit
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
if sys.argv[3] == "all at once":
    tables = [pyarrow.parquet.read_table(path) for path in sys.argv[4:]]
sys.exit(deepad.cli.main(["score", "--scorer", sys.argv[2], *sys.argv[3:]]))
"""


def frame(rng, n):
    return pa.table({name: rng.normal(size=n) for name in COLUMNS})


@pytest.fixture(scope="module", name="work")
def _work(tmp_path_factory):
    """A scorer of rows of a table, and a folder of tables: one of them written by us, the others are the same file."""
    folder, rng = tmp_path_factory.mktemp("memory"), np.random.default_rng(0)
    train = frame(rng, 200)
    schema = TableSchema.learn(train)
    model = PCAResidual(2).fit(schema.encode(train))
    Scorer.calibrate(model, frame(rng, 100), inputs=schema).save(folder / "scorer")
    (folder / "in").mkdir()
    first = folder / "in" / "0000.parquet"
    pq.write_table(frame(rng, 5000), first, compression="none", use_dictionary=False)
    for number in range(1, 10 * LIMIT // first.stat().st_size + 2):
        os.link(first, folder / "in" / f"{number:04}.parquet")
    return folder


def limited(work, *arguments):
    # memory that is reserved and not used counts as well: allocators must not reserve by the gigabyte
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, str(LIMIT), str(work / "scorer"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="how much memory is used is told by /proc")
def test_a_folder_of_tables_ten_times_as_large_as_the_memory_is_scored_to_the_end(work, tmp_path):
    files = sorted((work / "in").iterdir())
    assert sum(path.stat().st_size for path in files) >= 10 * LIMIT
    done = limited(work, work / "in", "--output", tmp_path / "scores.parquet")
    assert done.returncode == 0, done.stderr
    scores = pq.read_table(tmp_path / "scores.parquet", columns=["score", "source"])
    assert len(scores) == 5000 * len(files)
    score = scores["score"].to_numpy().reshape(len(files), -1)
    assert (score == score[0]).all()
    assert scores["source"].to_pylist()[::5000] == list(map(str, files))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="how much memory is used is told by /proc")
def test_control_the_limit_is_one(work):
    done = limited(work, "all at once", *sorted((work / "in").iterdir()))
    assert done.returncode != 0
    assert "malloc" in done.stderr or "MemoryError" in done.stderr
