"""Fuzz the readers of data files: the first byte of an input says which kind of file the others are."""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["deepad"]):
    from mutations import mutated_bytes
    from test_mutated_files import IMAGE, IMAGES, SAMPLES, TABLES, as_recording, as_tables, samples_of, survives

    from deepad.data.files import read_labels

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
PLACE = Path(tempfile.mkdtemp(prefix="deepad-fuzz-", dir=MEMORY))
READERS = [
    *((f"1{name}", data, samples_of((2,))) for name, data in SAMPLES.items()),
    *((f"2{name}", data, samples_of((2,), "y")) for name, data in SAMPLES.items() if name.endswith("npz")),
    *((f"3{name}", data, samples_of((1, *IMAGE.shape))) for name, data in IMAGES.items()),
    *((f"4{name}", data, as_tables) for name, data in TABLES.items()),
    *((f"5{name}", data, as_recording) for name, data in TABLES.items() if not name.endswith("npz")),
    *((f"6{name}", data, read_labels) for name, data in SAMPLES.items() if not name.endswith("npz")),
]


def target(data):
    """Read a file of the kind that the first byte says."""
    if data:
        name, _, read = READERS[data[0] % len(READERS)]
        path = PLACE / name
        path.write_bytes(data[1:])
        survives(path, read)


def mutate(data, most, seed):
    """Another input: by libFuzzer, or by changes that formats are known to be sensitive to."""
    random = Random(seed)
    if not data or random.random() < 0.5:
        return atheris.Mutate(data, most)
    return (data[:1] + mutated_bytes(random, data[1:]))[:most]


if __name__ == "__main__":
    sys.exit(fuzz(target, mutate, {name: bytes([kind]) + data for kind, (name, data, _) in enumerate(READERS)}))
