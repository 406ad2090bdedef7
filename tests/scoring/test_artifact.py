"""Artifacts come back as they were written, survive a failing write, and trust nothing they read."""

import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from conftest import within
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepad.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactUnsafeError,
    ArtifactVersionError,
    DeepadError,
    InputError,
)
from deepad.scoring.artifact import (
    DTYPES,
    MANIFEST_LIMIT,
    SCHEMA,
    canonical_json,
    read_artifact,
    sealed,
    sha256,
    write_artifact,
)

MANIFEST = "thing.json"
FORMAT = "deepad.thing"
GROUPS = frozenset({"model", "calibration"})
exhaustive = settings(derandomize=True, deadline=None, max_examples=60)


def write(folder, note="old", **arrays):
    content = {"weights": np.arange(6.0).reshape(2, 3), **arrays}
    document = {"format": FORMAT, "deepad": "9.8.7", "note": note}
    write_artifact(folder, MANIFEST, document, {"model": content, "calibration": {"scores": np.arange(4.0)}})


def read(folder):
    return read_artifact(folder, MANIFEST, format=FORMAT, keys=frozenset({"note", "deepad"}), groups=GROUPS)


def note_in(folder):
    """The note of an artifact that is whole."""
    document, arrays = read(folder)
    assert arrays["model"]["weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["calibration"]["scores"].tolist() == [0, 1, 2, 3]
    return document["note"]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "artifact")
    return tmp_path / "artifact"


def payload_in(folder, group="model"):
    (path,) = folder.glob(f"{group}-*.safetensors")
    return path


def edit(folder, **changes):
    """Change keys of the manifest and seal it anew, as someone who means harm would; None removes one."""
    document = {**json.loads((folder / MANIFEST).read_text()), **changes}
    document = sealed({key: value for key, value in document.items() if value is not None})
    kept = {key: value for key, value in document.items() if changes.get(key, "") is not None}
    (folder / MANIFEST).write_bytes(canonical_json(kept))


def offer(folder, data):
    """Put `data` in the place of the model's arrays under its true digest, as someone who means harm would."""
    payload_in(folder).unlink()
    name = f"model-{sha256(data)}.safetensors"
    (folder / name).write_bytes(data)
    payloads = json.loads((folder / MANIFEST).read_text())["payloads"]
    edit(folder, payloads={**payloads, "model": {"file": name, "sha256": sha256(data), "bytes": len(data)}})


def safetensors(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F64", shape=(1,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# ---- round trip ----------------------------------------------------------------------------------------------------

any_array = st.sampled_from(sorted(DTYPES.values())).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@exhaustive
@given(st.dictionaries(names, any_array, max_size=4), any_array, plain)
def test_what_was_written_comes_back_bit_for_bit(model, scores, note):
    with TemporaryDirectory() as folder:
        arrays = {"model": model, "calibration": {"scores": scores}}
        write_artifact(folder, MANIFEST, {"format": FORMAT, "deepad": "1", "note": note}, arrays)
        document, back = read(folder)
        assert document["note"] == note
        assert canonical_json(document["note"]) == canonical_json(note)  # 1 is not True, 0.0 is not -0.0
        assert back.keys() == arrays.keys()
        for group, content in arrays.items():
            assert back[group].keys() == content.keys()
            for name, array in content.items():
                came = back[group][name]
                assert (came.dtype, came.shape, came.tobytes()) == (array.dtype, array.shape, array.tobytes())


LAYOUTS = {
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(6.0).reshape(3, 2).T,
    "strided": np.arange(24.0).reshape(4, 6)[::2, ::3],
    "backwards": np.arange(6.0)[::-1],
    "big-endian": np.arange(6, dtype=">f8"),
    "broadcast": np.broadcast_to(np.float32(2), (2, 3)),
    "scalar": np.array(3.5),
}


@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_array_of_any_layout_comes_back_with_its_values(tmp_path, array):
    write(tmp_path, extra=array)
    came = read(tmp_path)[1]["model"]["extra"]
    assert came.shape == array.shape
    assert came.tolist() == array.tolist()


def test_writing_the_same_twice_gives_the_same_bytes(tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "two")
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_an_artifact_can_be_moved_and_reached_through_a_linked_folder(folder, tmp_path):
    folder.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert note_in(tmp_path / "link") == note_in(str(tmp_path / "moved")) == "old"


def test_arrays_that_come_back_cannot_be_changed_by_accident(folder):
    with pytest.raises(ValueError, match="read-only"):
        read(folder)[1]["model"]["weights"][0, 0] = 9


# ---- writing -------------------------------------------------------------------------------------------------------


def files_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_write_leaves_one_manifest_and_the_arrays_it_names(folder):
    write(folder, note="new", extra=np.ones(3))
    named = {payload["file"] for payload in json.loads((folder / MANIFEST).read_text())["payloads"].values()}
    assert files_in(folder) == {MANIFEST, *named}
    assert note_in(folder) == "new"


def test_other_files_of_the_folder_are_left_alone(folder):
    others = {"notes.txt", "model.safetensors", "other-" + "0" * 64 + ".safetensors", "last.ckpt"}
    for name in others:
        (folder / name).write_text("mine")
    write(folder, note="new", extra=np.ones(3))
    assert others < files_in(folder)
    assert note_in(folder) == "new"


def failing_at(monkeypatch, name, turn):
    """Let os.`name` raise at one of its calls; returns the list of its calls so far."""
    true, calls = getattr(os, name), []

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == turn:
            raise OSError(28, "No space left on device")
        return true(*arguments, **options)

    monkeypatch.setattr(os, name, fails)
    return calls


@pytest.mark.parametrize("name", ["replace", "fsync", "chmod", "unlink", "open"])
def test_a_write_that_fails_at_any_step_says_so_and_keeps_the_previous_artifact(tmp_path, monkeypatch, name):
    write(tmp_path / "counted")
    with monkeypatch.context() as patch:
        calls = failing_at(patch, name, None)
        write(tmp_path / "counted", note="new", extra=np.ones(3))
    assert calls
    for turn in range(1, len(calls) + 1):
        folder = tmp_path / str(turn)
        write(folder)
        refused = ""
        with monkeypatch.context() as patch:
            failing_at(patch, name, turn)
            try:
                write(folder, note="new", extra=np.ones(3))
            except InputError as error:
                refused = str(error)
        assert not [file for file in files_in(folder) if file.startswith(".writing-")]
        # an error means that nothing was replaced, and no error that everything was
        assert note_in(folder) == ("old" if refused else "new"), f"call {turn} of os.{name}: {refused}"
        assert not refused or str(folder) in refused
        write(folder, note="newer", extra=np.ones(3))
        assert note_in(folder) == "newer"
        assert len(files_in(folder)) == 3


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_an_interrupt_at_any_step_leaves_a_whole_artifact_and_no_half_written_file(folder, monkeypatch, name):
    true = getattr(os, name)
    for turn in range(1, 7 if name == "fsync" else 4):
        calls = []

        def interrupted(*arguments, calls=calls, turn=turn, **options):
            calls.append(arguments)
            if len(calls) == turn:
                raise KeyboardInterrupt
            return true(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                write(folder, note="new", extra=np.full(3, float(turn)))
        assert note_in(folder) in ("old", "new")
        assert not [file for file in files_in(folder) if file.startswith(".writing-")]


KILLED = """
import os, sys
import numpy as np
from deepad.scoring.artifact import read_artifact, write_artifact

folder = sys.argv[1]

def write(note):
    arrays = {"model": {"w": np.full(3, float(len(note)))}, "calibration": {"s": np.full(2, float(len(note)))}}
    write_artifact(folder, "thing.json", {"format": "t", "note": note}, arrays)

def read():
    groups = frozenset({"model", "calibration"})
    document, arrays = read_artifact(folder, "thing.json", format="t", keys=frozenset({"note"}), groups=groups)
    note = document["note"]
    assert arrays["model"]["w"].tolist() == [len(note)] * 3 and arrays["calibration"]["s"].tolist() == [len(note)] * 2
    return note

write("old")
for name in ("replace", "fsync", "unlink"):
    for turn in range(1, 20):
        child = os.fork()
        if not child:
            true, left = getattr(os, name), [turn]
            def last(*arguments, **options):
                left[0] -= 1
                return true(*arguments, **options) if left[0] else os._exit(9)
            setattr(os, name, last)
            write("brand new")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(name, turn, status, read())
        write("old")
        assert read() == "old"
        if status == 0:
            break
"""


def test_a_process_killed_at_any_step_of_writing_leaves_a_whole_artifact(tmp_path):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLED, str(tmp_path / "artifact")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = [line.split(maxsplit=3) for line in run.stdout.splitlines()]
    assert {status for _, _, status, _ in lines} == {"9", "0"}
    assert {name for name, _, status, _ in lines if status == "0"} == {"replace", "fsync", "unlink"}
    assert {note for *_, note in lines} == {"old", "brand new"}
    assert all(note == "brand new" for _, _, status, note in lines if status == "0")


def test_writers_at_the_same_time_leave_one_whole_artifact(folder):
    def write_some(writer):
        for turn in range(5):
            write(folder, note=f"{writer}", extra=np.full(3, float(10 * writer + turn)))

    writers = [threading.Thread(target=write_some, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert note_in(folder) in {"0", "1", "2", "3"}
    assert len(files_in(folder)) == 3


def nested(depth):
    document = "end"
    for _ in range(depth):
        document = [document]
    return document


UNREADABLE = {
    "half precision": {"extra": np.ones(3, np.float16)},
    "short integers": {"extra": np.ones(3, np.int16)},
    "unsigned integers": {"extra": np.ones(3, np.uint64)},
    "a huge manifest": {"note": "x" * (MANIFEST_LIMIT + 1)},
    "a deep manifest": {"note": nested(40)},
    "nan in the manifest": {"note": float("nan")},
    "an object in the manifest": {"note": object()},
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_could_not_be_read_back_is_refused_and_the_previous_artifact_kept(folder, content):
    before = files_in(folder)
    with pytest.raises((DeepadError, ValueError, TypeError)):
        write(folder, **{"note": "new", **content})
    assert note_in(folder) == "old"
    assert files_in(folder) >= before
    assert not [file for file in files_in(folder) if file.startswith(".writing-")]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot write"):
            write(place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_the_place_of_the_manifest_is_refused(tmp_path):
    (tmp_path / MANIFEST / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path)
    assert (tmp_path / MANIFEST / "mine").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_refused_and_left_as_it_was(folder):
    folder.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot write"):
            write(folder, note="new")
        assert note_in(folder) == "old"
    finally:
        folder.chmod(0o755)


# ---- what is not there or was damaged ------------------------------------------------------------------------------


def test_a_missing_artifact_is_named_with_what_to_give(tmp_path):
    with pytest.raises(ArtifactError, match=f"give the folder that holds {MANIFEST}"):
        read(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=f"holds no {MANIFEST}"):
        read(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(folder):
    with pytest.raises(ArtifactCorruptError, match="is a file"):
        read(folder / MANIFEST)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_missing_payload_is_refused_by_name(folder, group):
    path = payload_in(folder, group)
    path.unlink()
    with pytest.raises(ArtifactCorruptError, match=f"{path.name} is missing"):
        read(folder)


def test_a_payload_cut_short_anywhere_is_refused(folder):
    path = payload_in(folder)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactCorruptError):
            read(folder)


def test_a_payload_with_something_behind_it_is_refused(folder):
    path = payload_in(folder)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactCorruptError):
        read(folder)


def test_a_payload_altered_in_any_byte_is_refused(folder):
    path = payload_in(folder)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArtifactCorruptError):
            read(folder)


def test_a_manifest_cut_short_anywhere_is_refused(folder):
    whole = (folder / MANIFEST).read_bytes()
    for length in range(len(whole.rstrip())):
        (folder / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(ArtifactCorruptError):
            read(folder)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_manifest_altered_in_any_byte_is_refused_or_still_whole(folder, flip):
    whole = (folder / MANIFEST).read_bytes()
    for place in range(len(whole)):
        (folder / MANIFEST).write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        try:
            note_in(folder)
        except ArtifactError:
            continue
    (folder / MANIFEST).write_bytes(whole)
    assert note_in(folder) == "old"


def test_payloads_of_two_artifacts_cannot_be_mixed(folder, tmp_path):
    write(tmp_path / "other", extra=np.ones(3))
    payload_in(folder).write_bytes(payload_in(tmp_path / "other").read_bytes())
    with pytest.raises(ArtifactCorruptError):
        read(folder)


# ---- formats that can carry code -----------------------------------------------------------------------------------


class Canary:
    """Unpickling it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def foreign(tmp_path):
    """Files of formats that can carry code, by name; each leaves the trace when opened as what it is."""
    canary = Canary(tmp_path / "executed")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"pickle protocol {protocol}", pickle.dumps(canary, protocol)
    torch.save(canary, tmp_path / "a.ckpt")
    yield "torch checkpoint", (tmp_path / "a.ckpt").read_bytes()
    torch.save(canary, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    yield "old torch checkpoint", (tmp_path / "b.ckpt").read_bytes()
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(canary))
    yield "zip", (tmp_path / "c.zip").read_bytes()
    np.save(tmp_path / "d.npy", np.array([canary], dtype=object), allow_pickle=True)
    yield "object array", (tmp_path / "d.npy").read_bytes()


@pytest.fixture(name="foreign")
def _foreign(tmp_path):
    return dict(foreign(tmp_path))


def test_the_canary_sings(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_a_format_that_can_carry_code_is_refused_in_place_of_the_folder(foreign, tmp_path):
    for name, data in foreign.items():
        (tmp_path / "given").write_bytes(data)
        recognised = name not in ("pickle protocol 0", "pickle protocol 1", "object array")
        with pytest.raises(ArtifactUnsafeError if recognised else ArtifactCorruptError):
            read(tmp_path / "given")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("how", ["in place of the manifest", "in place of arrays", "in place of arrays, with digest"])
def test_a_format_that_can_carry_code_is_refused_under_another_name(foreign, tmp_path, how):
    for number, data in enumerate(foreign.values()):
        folder = tmp_path / str(number)
        write(folder)
        if how == "in place of the manifest":
            (folder / MANIFEST).write_bytes(data)
        elif how == "in place of arrays":
            payload_in(folder).write_bytes(data)
        else:
            offer(folder, data)
        with pytest.raises(ArtifactError):
            read(folder)
    assert not (tmp_path / "executed").exists()


# ---- links, paths and devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["manifest", "payload"])
def test_a_link_inside_an_artifact_is_refused(folder, tmp_path, which):
    path = folder / MANIFEST if which == "manifest" else payload_in(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactUnsafeError, match="is a link"):
        read(folder)


@pytest.mark.parametrize("which", ["manifest", "payload"])
def test_a_link_to_nowhere_is_refused(folder, which):
    path = folder / MANIFEST if which == "manifest" else payload_in(folder)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(ArtifactError):
        read(folder)


@pytest.mark.parametrize("place", ["../{}", "/etc/passwd", "{}/../{}", "./{}", "{}\0", "{}\n", "sub/{}", "", ".", ".."])
def test_a_payload_name_that_leaves_the_folder_is_refused(folder, place):
    path = payload_in(folder)
    (folder.parent / path.name).write_bytes(path.read_bytes())
    payloads = json.loads((folder / MANIFEST).read_text())["payloads"]
    payloads["model"]["file"] = place.format(path.name, path.name)
    edit(folder, payloads=payloads)
    with pytest.raises(ArtifactUnsafeError, match="not the name of an array file"):
        read(folder)


@pytest.mark.parametrize("digest", ["../x", "../" + "0" * 61, "0" * 63, "G" * 64, None, 7, [], {}])
def test_a_digest_that_is_none_is_refused_even_if_the_name_fits_it(folder, digest):
    payloads = json.loads((folder / MANIFEST).read_text())["payloads"]
    payloads["model"].update(file=f"model-{digest}.safetensors", sha256=digest)
    edit(folder, payloads=payloads)
    with pytest.raises(ArtifactUnsafeError):
        read(folder)


@pytest.mark.parametrize("which", ["folder", "manifest", "payload"])
def test_a_pipe_is_refused_without_waiting_for_it(folder, which):
    path = {"folder": folder / "pipe", "manifest": folder / MANIFEST, "payload": payload_in(folder)}[which]
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with within(5), pytest.raises(ArtifactError):
        read(path if which == "folder" else folder)


@pytest.mark.parametrize("which", ["manifest", "payload"])
def test_a_folder_in_place_of_a_file_is_refused(folder, which):
    path = folder / MANIFEST if which == "manifest" else payload_in(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError):
        read(folder)


# ---- hostile manifests ---------------------------------------------------------------------------------------------


MANIFESTS = {
    "empty": b"",
    "not JSON": b"format: deepad.thing",
    "a list": b"[]",
    "a number": b"1",
    "a string": b'"deepad.thing"',
    "null": b"null",
    "two documents": b"{}{}",
    "not text": b"\xff\xfe{}",
    "with byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"note": NaN}',
    "infinity": b'{"note": Infinity}',
    "minus infinity": b'{"note": -Infinity}',
    "a key twice": b'{"note": 1, "note": 1}',
    "a key twice inside": b'{"note": [{"a": 1, "b": {"c": 2, "c": 3}}]}',
    "a key twice, escaped": rb'{"note": 1, "\u006eote": 1}',
    "a million digits": b'{"note": ' + b"9" * 1_000_000 + b"}",
    "a million lists deep": b"[" * 1_000_000,
    "a million objects deep": b'{"a":' * 200_000,
    "deep and closed": b'{"note": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "seventeen deep": b'{"note": ' + b"[" * 16 + b"]" * 16 + b"}",
    "closing brackets": b"]" * 1_000_000,
    "a million quotes": b'"' * 1_000_000,
    "quotes that never end": b'"' + b'\\"' * 500_000,
    "backslashes": b'"' + b"\\" * 1_000_000,
    "brackets after a broken string": b'{"note": "\\' + b"[" * 1_000_000,
    "a million commas": b"[" + b"," * 1_000_000,
    "a million keys": b"{" + b",".join(b'"%d":0' % i for i in range(90_000)) + b"}",
}


@pytest.mark.parametrize("data", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_hostile_manifest_is_refused_at_once(folder, data):
    (folder / MANIFEST).write_bytes(data)
    with within(5), pytest.raises(ArtifactCorruptError) as caught:
        read(folder)
    assert len(str(caught.value)) < 1000
    assert str(folder / MANIFEST) in str(caught.value)


@pytest.mark.parametrize("data", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_hostile_header_of_arrays_is_refused_at_once(folder, data):
    offer(folder, safetensors(data))
    with within(5), pytest.raises(ArtifactCorruptError) as caught:
        read(folder)
    assert len(str(caught.value)) < 1000


def test_an_oversized_manifest_is_refused_unread(folder):
    with (folder / MANIFEST).open("r+b") as file:
        file.truncate(1 << 40)
    with within(5), pytest.raises(ArtifactCorruptError, match=f"at most {MANIFEST_LIMIT} are expected"):
        read(folder)


def test_an_oversized_payload_is_refused_unread(folder):
    with payload_in(folder).open("r+b") as file:
        file.truncate(1 << 40)
    with within(5), pytest.raises(ArtifactCorruptError):
        read(folder)


def test_brackets_inside_strings_are_no_nesting(tmp_path):
    note = '["' + "[" * 100 + "\\" + '"' + "{" * 100
    write(tmp_path, note=note)
    assert note_in(tmp_path) == note


def test_an_unknown_key_is_refused_by_name(folder):
    edit(folder, surprise=1)
    with pytest.raises(ArtifactCorruptError, match="surprise"):
        read(folder)


@pytest.mark.parametrize("key", ["note", "payloads"])
def test_a_missing_key_is_refused_by_name(folder, key):
    edit(folder, **{key: None})
    with pytest.raises(ArtifactCorruptError, match=key):
        read(folder)


@pytest.mark.parametrize("declared", ["deepad.other", "", 7, [], None])
def test_another_format_is_refused(folder, declared):
    edit(folder, format=declared)
    with pytest.raises(ArtifactCorruptError, match=r"not 'deepad\.thing'"):
        read(folder)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 10**30])
def test_a_newer_schema_is_refused_with_both_versions_and_what_to_install(folder, schema):
    edit(folder, schema=schema, a_key_of_the_future=1)
    with pytest.raises(ArtifactVersionError, match=rf"schema {schema}, .*up to {SCHEMA}: install .*9\.8\.7"):
        read(folder)


@pytest.mark.parametrize("schema", [0, -1, True, "1", 1.0, [], None])
def test_a_schema_that_is_no_version_is_refused(folder, schema):
    edit(folder, schema=schema)
    with pytest.raises(ArtifactCorruptError, match="schema"):
        read(folder)


@pytest.mark.parametrize("payloads", [[], {}, "x", 7, {"model": {}}, {"model": {}, "calibration": {}, "more": {}}])
def test_another_list_of_payloads_is_refused(folder, payloads):
    edit(folder, payloads=payloads)
    with pytest.raises(ArtifactCorruptError, match="must list"):
        read(folder)


@pytest.mark.parametrize("change", [{"more": 1}, {"bytes": None}, {"bytes": -1}, {"bytes": 8.0}, {"bytes": "8"}])
def test_a_malformed_entry_of_a_payload_is_refused(folder, change):
    payloads = json.loads((folder / MANIFEST).read_text())["payloads"]
    payloads["model"].update(change)
    edit(folder, payloads=payloads)
    with pytest.raises(ArtifactCorruptError):
        read(folder)


@pytest.mark.parametrize("payload", [None, [], "x", 7, {}])
def test_an_entry_that_is_none_is_refused(folder, payload):
    payloads = json.loads((folder / MANIFEST).read_text())["payloads"]
    edit(folder, payloads={**payloads, "model": payload})
    with pytest.raises(ArtifactCorruptError):
        read(folder)


# ---- hostile array files, under their true digest ------------------------------------------------------------------

BODY = bytes(16)
PAYLOADS = {
    "empty": b"",
    "shorter than its length": b"1234567",
    "no header": struct.pack("<Q", 0),
    "a header longer than the file": struct.pack("<Q", 3) + b"{}",
    "a header of all memory": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header longer than allowed": safetensors(b"{}" + b" " * (1 << 20)),
    "a list": safetensors([]),
    "no entry": safetensors({"a": None}),
    "an entry with more": safetensors({"a": {**entry(), "code": "x"}}, bytes(8)),
    "an entry with less": safetensors({"a": {"dtype": "F64", "shape": [1]}}, bytes(8)),
    "metadata": safetensors({"__metadata__": {"format": "pt"}, "a": entry()}, bytes(8)),
    "unclaimed bytes": safetensors({}, BODY),
    "unclaimed bytes behind": safetensors({"a": entry()}, BODY),
    "unclaimed bytes before": safetensors({"a": entry(offsets=(8, 16))}, BODY),
    "a gap": safetensors({"a": entry(), "b": entry(offsets=(16, 24))}, bytes(24)),
    "an overlap": safetensors({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "the same place twice": safetensors({"a": entry(), "b": entry()}, bytes(8)),
    "beyond the end": safetensors({"a": entry(shape=(3,), offsets=(0, 24))}, BODY),
    "far beyond the end": safetensors({"a": entry(shape=(2**40,), offsets=(0, 2**43))}, BODY),
    "backwards": safetensors({"a": entry(offsets=(8, 0))}, bytes(8)),
    "a negative place": safetensors({"a": entry(offsets=(-8, 0))}, bytes(8)),
    "a negative shape": safetensors({"a": entry(shape=(-1, -1))}, bytes(8)),
    "a shape too small": safetensors({"a": entry(shape=(1,), offsets=(0, 16))}, BODY),
    "a shape too large": safetensors({"a": entry(shape=(3,), offsets=(0, 16))}, BODY),
    "a broken shape": safetensors({"a": entry(shape=(1.0,))}, bytes(8)),
    "a shape of truths": safetensors({"a": entry(shape=(True,))}, bytes(8)),
    "no shape": safetensors({"a": {"dtype": "F64", "shape": None, "data_offsets": [0, 8]}}, bytes(8)),
    "a nested shape": safetensors({"a": entry(shape=([1],))}, bytes(8)),
    "an empty array too wide for memory": safetensors({"a": entry(shape=(0, 2**63), offsets=(0, 0))}),
    "an empty array of too many bytes": safetensors({"a": entry(shape=(0, 2**40, 2**40), offsets=(0, 0))}),
    "too many dimensions": safetensors({"a": entry(shape=(1,) * 100)}, bytes(8)),
    "three offsets": safetensors({"a": entry(offsets=(0, 8, 8))}, bytes(8)),
    "no offsets": safetensors({"a": entry(offsets=())}, bytes(8)),
    "an unknown dtype": safetensors({"a": entry(dtype="F8")}, bytes(8)),
    "a dtype that is not allowed": safetensors({"a": entry(dtype="F16", shape=(4,))}, bytes(8)),
    "a NumPy dtype": safetensors({"a": entry(dtype="<f8")}, bytes(8)),
    "objects": safetensors({"a": entry(dtype="O")}, bytes(8)),
    "a dtype of another size": safetensors({"a": entry(dtype="F32")}, bytes(8)),
    "a number as dtype": safetensors({"a": entry(dtype=8)}, bytes(8)),
    "no dtype": safetensors({"a": entry(dtype=None)}, bytes(8)),
    "a list as dtype": safetensors({"a": entry(dtype=["F64"])}, bytes(8)),
    "an object as dtype": safetensors({"a": entry(dtype={})}, bytes(8)),
}


@pytest.mark.parametrize("data", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_hostile_array_file_is_refused(folder, data):
    offer(folder, data)
    with within(5), pytest.raises(ArtifactCorruptError) as caught:
        read(folder)
    assert len(str(caught.value)) < 1000


def test_the_name_of_an_array_cannot_flood_the_message(folder):
    offer(folder, safetensors({"a" * 500_000: None}))
    with pytest.raises(ArtifactCorruptError) as caught:
        read(folder)
    assert len(str(caught.value)) < 1000


def test_arrays_in_any_order_of_the_header_are_read_from_their_places(folder):
    header = {"b": entry(offsets=(8, 16)), "none": entry(shape=(0, 3), offsets=(8, 8)), "a": entry(offsets=(0, 8))}
    offer(folder, safetensors(header, struct.pack("<2d", 1.5, 2.5)))
    arrays = read(folder)[1]["model"]
    assert {name: array.tolist() for name, array in arrays.items()} == {"b": [2.5], "none": [], "a": [1.5]}


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """For many forgeries one after the other."""
    folder = tmp_path_factory.mktemp("shared")
    write(folder)
    return folder


@settings(derandomize=True, deadline=None, max_examples=300)
@given(data=st.data())
def test_a_header_altered_at_random_is_refused_or_read_and_never_fails_otherwise(shared_folder, data):
    good = safetensors({"a": entry(), "b": entry("F32", (2, 1), (8, 16))}, BODY)
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(good) - 1))
        changed[place] = data.draw(st.sampled_from(b'0123456789-.eE"[]{}:,FIUBOL \0'))
    offer(shared_folder, bytes(changed))
    try:
        arrays = read(shared_folder)[1]["model"]
    except ArtifactError:
        return
    assert sum(array.nbytes for array in arrays.values()) == len(BODY)
