"""Fuzz `Scorer.load` and what it loads, with folders of a manifest and array files packed into one input each.

Half of the mutations change the manifest or the arrays and seal them again, so that they get past the digests; the
other half change bytes.
"""

import struct
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris
from harness import LARGEST, fuzz

with atheris.instrument_imports(include=["deepad"]):
    from budget import bounded
    from mutations import MANIFEST, mutated_file, mutated_scorer, sealed_files, taken_apart, write_files
    from seeds import save_seeds
    from trial import outcome

    import deepad.scoring.scorer  # noqa: F401  # instrumented, with all it needs

import torch

torch.set_num_threads(1)
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
PLACE = Path(tempfile.mkdtemp(prefix="deepad-fuzz-", dir=MEMORY))


def pack(files):
    """Files by name in one input; array files have the name that the manifest gives them, so theirs may be wrong."""
    parts = [(name.encode()[:255], data) for name, data in sorted(files.items(), reverse=True)]
    return b"".join(struct.pack("<BI", len(name), len(data)) + name + data for name, data in parts)


def unpack(data):
    """The files of an input, of which the last may be cut short; names that leave the folder are none."""
    files = {}
    while len(data) > 5:
        length, size = struct.unpack("<BI", data[:5])
        name, data = data[5 : 5 + length].decode("ascii", "replace"), data[5 + length :]
        if name.replace("-", "").replace(".", "").isalnum() and name.strip("."):
            files[name] = data[:size]
        data = data[size:]
    return files


def target(data):
    """Load and judge."""
    files = unpack(data)
    write_files(PLACE, files)
    with bounded(sum(map(len, files.values()))):
        outcome(PLACE)


def mutate(data, most, seed):
    """Another input: sealed again where it can be taken apart and this is the half that is, else of other bytes."""
    random, files = Random(seed), unpack(data)
    if random.random() < 0.5:
        try:
            changed = mutated_scorer(random, *taken_apart(files))
        except Exception:  # not an artifact any more: another one is
            changed = mutated_scorer(random, *random.choice(WHOLE))
    elif MANIFEST in files and random.random() < 0.5:
        name = random.choice(sorted(files))
        changed = {**files, name: atheris.Mutate(files[name], len(files[name]) + 64)}
    else:
        changed = mutated_file(random, files or sealed_files(*random.choice(WHOLE)))
    return pack(changed)[:most]


def corpus():
    """Scorers that are whole, packed, and taken apart."""
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: {path.name: path.read_bytes() for path in place.iterdir()}
            for name, place in save_seeds(folder).items()
        }
    return {name: files for name, files in found.items() if sum(map(len, files.values())) < LARGEST // 4}


SEEDS = corpus()
WHOLE = [taken_apart(files) for files in SEEDS.values()]

if __name__ == "__main__":
    sys.exit(fuzz(target, mutate, {name: pack(files) for name, files in SEEDS.items()}))
