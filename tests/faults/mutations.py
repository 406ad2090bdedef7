"""Valid things made wrong: bytes changed, cut, put in or repeated; values of a manifest and arrays replaced under a
seal that is good again.

All choices are those of a `random.Random`, so hypothesis and a fuzzer can make them.
"""

import copy
import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from deepad.scoring.artifact import canonical_json, sealed, sha256
from deepad.scoring.models import digest_of_model

MANIFEST = "scorer.json"
PIECES = (b"\0", b"\xff", b"\x7f", b"\n", b"[", b"{", b'"', b",", b"-", b"9" * 20, b"nan", b"\xff" * 4, b"\0" * 8)
SIZES = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NUMBERS = (0, -1, 1, 2, 7, 10**6, 2**31, 2**63, 10**30, -0.0, 0.5, 1.5, 1e-300, 1e308, -1e308)
ODD = (None, True, False, "", "x", "0", "x" * 500, "\ud800", "a\nb", "../x", [], {}, [1], [[0]], {"a": 1}, [0, 0], [{}])
FLOATS = (0.0, -0.0, -1.0, 1e-320, 1e300, -1e300, np.nan, np.inf, -np.inf)
WHOLE = (0, -1, 1, 2, 10**6, 2**31 - 1, -(2**31))


def mutated_bytes(random, data):
    """Some bytes changed, cut off, left out, put in or repeated, at one to three places."""
    data = bytearray(data)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(data) + 1)
        end = min(len(data), place + random.choice((1, 2, 4, 8, 64, 512)))
        kind = random.randrange(7)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << random.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = random.randrange(256)
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place:end]
        elif kind == 4:
            data[place:place] = random.choice(PIECES)
        elif kind == 5:
            data[place:place] = data[place:end] * random.choice((1, 2, 30))
        else:
            size = struct.pack(random.choice("<>") + "Q", random.choice(SIZES))
            width = random.choice((2, 4, 8))
            data[place : place + width] = size[:width] if random.random() < 0.5 else size[-width:]
    return bytes(data)


def _places(document, path=()):
    """Paths to all values of a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield (*path, key)
        yield from _places(value, (*path, key))


def mutated_document(random, document):
    """A plain JSON document in which a value, or up to three of them, is another, is gone or is doubled."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 2, 3))):
        *way, last = random.choice(list(_places(document)))
        holder = document
        for key in way:
            holder = holder[key]
        value, kind = holder[last], random.randrange(6)
        if kind == 0:
            del holder[last]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(value))
        elif kind == 1:
            holder[random.choice(("x", "alpha", "kind", "shape"))] = holder.pop(last)
        elif kind == 2 and type(value) in (int, float):
            holder[last] = random.choice((-value, value * 2, value / 2, value + 1, value * 1000, str(value)))
        elif kind == 2 and isinstance(value, list) and value:
            holder[last] = random.choice((value[::-1], value * 2, value[1:], value * 50))
        elif kind == 3:
            holder[last] = copy.deepcopy(random.choice(ODD))
        elif kind == 4 and len(way) > 0:
            *elsewhere, key = random.choice(list(_places(document)))
            found = document
            for step in elsewhere:
                found = found[step]
            holder[last] = copy.deepcopy(found[key])
        else:
            holder[last] = random.choice(NUMBERS)
        if not list(_places(document)):
            break
    return document


def mutated_arrays(random, arrays):
    """Groups of arrays in which one is gone, of other values, of another shape or of another type."""
    arrays = {group: dict(content) for group, content in arrays.items()}
    group = random.choice(sorted(name for name, content in arrays.items() if content))
    name = random.choice(sorted(arrays[group]))
    array, kind = arrays[group][name].copy(), random.randrange(9)
    if kind == 0:
        del arrays[group][name]
        return arrays
    if kind == 1:
        arrays[group][random.choice(("x", "scores", "weights"))] = array
        return arrays
    if kind == 2:
        dtype = random.choice((np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_))
        with np.errstate(all="ignore"):
            array = array.astype(dtype)
    elif kind == 3:
        array = random.choice((array.ravel(), array[None], array.T, array.reshape(-1, 1), array[..., None]))
    elif kind == 4:
        array = random.choice((array[:0], array[:1], array[::-1], array[1:])) if array.ndim else array
    elif kind == 5:
        array = np.concatenate([array] * random.choice((2, 3, 20))) if array.ndim else array
    else:
        values = (array.dtype.kind == "f" and FLOATS) or (array.dtype.kind == "i" and WHOLE) or (0, 1)
        places = (
            [random.randrange(array.size) for _ in range(random.choice((1, 1, 5, array.size)))] if array.size else []
        )
        with np.errstate(all="ignore"):
            array.reshape(-1)[places] = random.choice(values)
    arrays[group][name] = np.ascontiguousarray(array).reshape(array.shape)
    return arrays


def read_files(folder):
    """The manifest of a saved scorer, as a document, and its groups of arrays."""
    return taken_apart({path.name: path.read_bytes() for path in Path(folder).iterdir()})


def taken_apart(files):
    """The same of the bytes of its files by name."""
    document = json.loads(files[MANIFEST])
    return document, {group: load(files[entry["file"]]) for group, entry in document["payloads"].items()}


def sealed_files(document, arrays):
    """The bytes of its files under true digests: those of arrays, model, calibrated model and manifest."""
    document = copy.deepcopy(document)
    files, payloads = {}, {}
    for group, content in arrays.items():
        data = save(content)
        name = f"{group}-{sha256(data)}.safetensors"
        files[name], payloads[group] = data, {"file": name, "sha256": sha256(data), "bytes": len(data)}
    if "payloads" in document:
        document["payloads"] = payloads
    try:
        if "id" in document and "model" in document:
            document["id"] = digest_of_model(document["model"], arrays.get("model", {}))
            if isinstance(document.get("calibration"), dict) and "scorer_id" in document["calibration"]:
                document["calibration"]["scorer_id"] = document["id"]
        text = canonical_json(sealed(document))
    except ValueError:  # text that is none has no seal
        text = json.dumps(document).encode()
    return {**files, MANIFEST: text}


def mutated_scorer(random, document, arrays):
    """The files of one that passes its seals, with a mutated manifest, mutated arrays, or both."""
    what = random.randrange(4)
    if what != 0:
        document = mutated_document(random, document)
    if what in (0, 3):
        arrays = mutated_arrays(random, arrays)
    return sealed_files(document, arrays)


def mutated_file(random, files):
    """The files with the bytes of one of them changed, and seals as they were."""
    name = random.choice(sorted(files))
    return {**files, name: mutated_bytes(random, files[name])}


def write_files(folder, files):
    """Write files by name in the place of all that is in a folder."""
    for old in Path(folder).iterdir():
        old.unlink()
    for name, data in files.items():
        (Path(folder) / name).write_bytes(data)
