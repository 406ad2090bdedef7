"""Artifacts: a folder of one JSON manifest and the safetensors files it names. Nothing in it can be executed.

Writing commits by a single rename: array files are named after their SHA-256, so an old manifest keeps pointing at
the old arrays until the new manifest replaces it. A kill at any point leaves the previous artifact whole; array files
that no manifest names are removed by the next successful write.

Reading trusts nothing: sizes are limited, links and paths that leave the folder are refused, JSON is parsed without
duplicate keys, NaN or deep nesting, manifest and array files must match their digests, and their headers are checked
before an array is made. There is no fallback to another format, ever.
"""

import fcntl
import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from deepad.atomic import replacing
from deepad.errors import ArtifactCorruptError, ArtifactError, ArtifactUnsafeError, ArtifactVersionError, InputError
from deepad.frames import listed

Arrays = Mapping[str, NDArray[Any]]

SCHEMA = 4
MANIFEST_LIMIT = 1 << 20
HEADER_LIMIT = 1 << 20
MAX_DEPTH = 16
MAX_DIMENSIONS = 8
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_PAYLOAD = re.compile(r"[a-z]+-[0-9a-f]{64}\.safetensors")
_MAGIC = {b"\x80": "a pickle", b"PK\x03\x04": "a zip archive such as a torch checkpoint", b"\x1f\x8b": "a gzip file"}


def canonical_json(document: Any) -> bytes:
    """The one JSON text of a document: sorted keys, UTF-8, shortest round-trip floats, no NaN."""
    return (json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the SHA-256 of all its other values under `sha256`.

    A seal shows that nothing was altered by accident or by half; it is no signature, anyone can compute it.
    """
    body = {key: value for key, value in document.items() if key != "sha256"}
    return {**body, "sha256": sha256(canonical_json(body))}


def write_artifact(
    folder: str | Path,
    manifest: str,
    document: Mapping[str, Any],
    arrays: Mapping[str, Arrays],
    *,
    optional: frozenset[str] = frozenset(),
) -> None:
    """Write `document` and named groups of arrays into a folder, atomically.

    Args:
        folder: made if missing; an artifact already there is replaced as a whole or not at all.
        manifest: file name of the JSON document.
        document: plain JSON values with a `format` key; `schema`, `payloads` and the seal are added.
        arrays: group name (lower-case letters) to arrays by name.
        optional: groups that it might have had as well: files of older ones are removed.

    Raises:
        InputError: the folder cannot be written.
        ArtifactCorruptError: arrays or values that could not be read back.
        ValueError: values that are not JSON.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    files, payloads = {}, {}
    for group, content in arrays.items():
        data = save({name: np.asarray(array, order="C") for name, array in content.items()})
        digest = sha256(data)
        payloads[group] = {"file": f"{group}-{digest}.safetensors", "sha256": digest, "bytes": len(data)}
        files[f"{group}-{digest}.safetensors"] = data
        _parse_safetensors(data, folder / group)  # nothing is written that could not be read back
    text = canonical_json(sealed({**document, "schema": SCHEMA, "payloads": payloads}))
    _parse(text, folder / manifest)
    if len(text) > MANIFEST_LIMIT:
        raise InputError(f"{folder / manifest} would have {len(text)} bytes, at most {MANIFEST_LIMIT} are read back")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            for name, data in {**files, manifest: text}.items():
                with replacing(folder / name) as file:
                    file.write(data)
            for old in folder.glob("*.safetensors"):
                ours = old.name.split("-")[0] in {*arrays, *optional}
                if _PAYLOAD.fullmatch(old.name) and ours and old.name not in files:
                    with suppress(OSError):  # a file too many harms nobody; the next write tries again
                        old.unlink()
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}; what was there before is kept") from error


def read_artifact(
    folder: str | Path,
    manifest: str,
    *,
    format: str,
    keys: frozenset[str],
    groups: frozenset[str],
    optional: frozenset[str] = frozenset(),
    added: Mapping[int, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]]:
    """Read back what `write_artifact` wrote, or refuse.

    Args:
        folder: the artifact.
        manifest: file name of the JSON document.
        format: the `format` it must declare.
        keys: further top-level keys it must have, exactly.
        groups: the groups of arrays it must have.
        optional: those that it may have as well.
        added: keys that a schema version brought, with the value that they have in what an older one wrote.

    Raises:
        ArtifactUnsafeError: another format (pickle, zip, checkpoint), a link or a path that leaves the folder.
        ArtifactVersionError: written by a newer schema.
        ArtifactCorruptError: anything else that is not as it was written.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ArtifactError(f"no artifact at {folder}: give the folder that holds {manifest}")
    if not folder.is_dir():
        refuse_foreign(folder)
        raise ArtifactCorruptError(f"{folder} is a file: give the folder that holds {manifest}")
    if not (folder / manifest).exists():
        raise ArtifactError(f"{folder} holds no {manifest}: it is not a deepad artifact of this kind")
    document = _parse(_read_file(folder / manifest, MANIFEST_LIMIT), folder / manifest)
    if document.get("format") != format:
        declared = str(document.get("format"))[:60]
        raise ArtifactCorruptError(f"{folder / manifest} declares format {declared!r}, not {format!r}")
    schema = document.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ArtifactCorruptError(f"{folder / manifest} declares schema {str(schema)[:60]!r}, which is not a version")
    if schema > SCHEMA:
        raise ArtifactVersionError(
            f"{folder} has schema {str(schema)[:60]}, this deepad reads up to {SCHEMA}: install the deepad that wrote "
            f"it ({listed([str(document.get('deepad'))])}) or newer"
        )
    later = {key: value for version, new in (added or {}).items() if version > schema for key, value in new.items()}
    expected = (keys | {"format", "schema", "payloads", "sha256"}) - later.keys()
    if document.keys() != expected:
        odd = sorted(document.keys() ^ expected)
        raise ArtifactCorruptError(f"{folder / manifest} has missing or unknown keys: {listed(odd)}")
    try:
        whole = document == sealed(document)
    except ValueError:  # a text that is none
        whole = False
    if not whole:
        raise ArtifactCorruptError(f"{folder / manifest} was altered: copy the artifact again from where it was saved")
    payloads = document["payloads"]
    if not isinstance(payloads, dict) or not groups <= payloads.keys() <= groups | optional:
        raise ArtifactCorruptError(f"{folder / manifest} must list the array files {', '.join(sorted(groups))}")
    return {**document, **later}, {group: _read_payload(folder, group, payloads[group]) for group in sorted(payloads)}


def refuse_foreign(path: Path) -> None:
    """Raise `ArtifactUnsafeError` if the first bytes are those of a format that can carry code."""
    with _open(path) as file:
        head = file.read(4)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise ArtifactUnsafeError(
                f"{path} is {what}: deepad never opens formats that can run code; give a folder saved by Scorer.save"
            )


def _read_payload(folder: Path, group: str, entry: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(entry, dict) or entry.keys() != {"file", "sha256", "bytes"}:
        raise ArtifactCorruptError(f"{folder}: the entry of array file {group!r} is malformed")
    name, digest, size = entry["file"], entry["sha256"], entry["bytes"]
    if not isinstance(name, str) or name != f"{group}-{digest}.safetensors" or not _PAYLOAD.fullmatch(name):
        raise ArtifactUnsafeError(f"{folder}: {str(name)[:80]!r} is not the name of an array file of this folder")
    path = folder / name
    if not path.exists():
        raise ArtifactCorruptError(f"{folder}: {name} is missing")
    data = _read_file(path, size if isinstance(size, int) else 0)
    if len(data) != size or sha256(data) != digest:
        raise ArtifactCorruptError(f"{path} was altered or cut short: copy the artifact again from where it was saved")
    return _parse_safetensors(data, path)


def _parse_safetensors(data: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name; the header is checked in full before any array is made."""
    if len(data) < 8:
        raise ArtifactCorruptError(f"{path} is too short to be a safetensors file")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(HEADER_LIMIT, len(data) - 8):
        raise ArtifactCorruptError(f"{path} declares a header of {length} bytes")
    header = _parse(data[8 : 8 + length], path)
    body = memoryview(data)[8 + length :]
    arrays, spans = {}, []
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ArtifactCorruptError(f"{path}: malformed entry {name[:80]!r}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(shape, list) or not isinstance(offsets, list):
            raise ArtifactCorruptError(f"{path}: malformed entry {name[:80]!r}")
        sizes = [*shape, *offsets]
        known = isinstance(dtype, str) and dtype in DTYPES and len(offsets) == 2 and len(shape) <= MAX_DIMENSIONS
        if not known or not all(type(size) is int and 0 <= size <= len(data) for size in sizes):
            raise ArtifactCorruptError(f"{path}: array {name[:80]!r} has an unknown dtype, shape or place")
        start, stop = offsets
        if stop - start != prod(shape) * np.dtype(DTYPES[dtype]).itemsize or stop > len(body):
            raise ArtifactCorruptError(f"{path}: array {name[:80]!r} does not fit its place in the file")
        spans.append((start, stop))
        arrays[name] = np.frombuffer(body[start:stop], dtype=DTYPES[dtype]).reshape(shape)
    ends = [0, *(stop for _, stop in sorted(spans))]
    if [start for start, _ in sorted(spans)] != ends[:-1] or ends[-1] != len(body):
        raise ArtifactCorruptError(f"{path}: arrays overlap or leave gaps")
    return arrays


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN, or deep nesting."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        text = data.decode()
        if _nesting(text) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        document = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ArtifactCorruptError(f"{path} is not the JSON deepad writes: {str(error)[:120]}") from None
    if not isinstance(document, dict):
        raise ArtifactCorruptError(f"{path} is not a JSON object")
    return document


def _nesting(text: str) -> int:
    """Depth of brackets outside strings, found without parsing so that a hostile file cannot exhaust the stack."""
    depth = deepest = 0
    quoted = False
    for token in re.finditer(r'\\.|["\[\]{}]', text):
        if token[0] == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            deepest = max(deepest, depth)
    return deepest


def _read_file(path: Path, limit: int) -> bytes:
    """Bytes of a regular file of at most `limit` bytes."""
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ArtifactCorruptError(f"{path} has {size} bytes where at most {limit} are expected")
        return file.read(limit + 1)


def _open(path: Path) -> IO[bytes]:
    """A regular file, opened without following a link or waiting for a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise ArtifactUnsafeError(f"{path} is a link: an artifact holds its own files") from None
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ArtifactUnsafeError(f"{path} is not a regular file")
    return os.fdopen(handle, "rb")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time, so that none removes array files another has not committed yet."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
