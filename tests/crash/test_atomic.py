"""Files under way: whose they are, and who may remove them."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading

import pytest
from conftest import within

from deepad.atomic import LOCKED, replacing

DEAD = f"{LOCKED}abcd_123"
"""What a killed writer of this host has left."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_dead_writer_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(tmp_path):
    (tmp_path / DEAD).write_bytes(b"half")
    with replacing(tmp_path / "slow") as slow:
        slow.write(b"all ")
        with replacing(tmp_path / "quick") as quick:
            quick.write(b"of it")
        assert DEAD not in names(tmp_path)
        assert len(names(tmp_path)) == 2
        slow.write(b"of it")
    assert names(tmp_path) == ["quick", "slow"]
    assert (tmp_path / "slow").read_bytes() == b"all of it"
    assert stat.S_IMODE((tmp_path / "slow").stat().st_mode) == 0o644


def test_writers_of_one_file_at_the_same_time_take_nothing_from_each_other(tmp_path):
    path, failed = tmp_path / "file", []

    def write(content):
        try:
            for _ in range(150):
                with replacing(path) as file:
                    file.write(content)
                read = path.read_bytes()
                assert len(read) == 5000
                assert len(set(read)) == 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(bytes([i]) * 5000,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert names(tmp_path) == ["file"]


def test_what_is_no_file_of_ours_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    users = [".writing-notes.md", ".writing-abcd_123", f"{DEAD}4", f"{DEAD}.md", DEAD[:-1], DEAD.upper()]
    for name in [*users, ".writing-00000000-abcd_123"]:  # the last is of another host
        (tmp_path / name).write_text("mine")
    (tmp_path / f"{LOCKED}folder_1").mkdir()
    (tmp_path / f"{LOCKED}link_123").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / f"{LOCKED}pipe_123")
    before = names(tmp_path)
    for _ in range(2):
        with within(5), replacing(tmp_path / "file") as file:
            file.write(b"x")
    assert names(tmp_path) == sorted([*before, "file"])
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_another_user_was_writing_is_left_alone(tmp_path):
    (tmp_path / DEAD).write_bytes(b"half")
    os.chown(tmp_path / DEAD, os.geteuid() + 1, -1)
    with replacing(tmp_path / "file") as file:
        file.write(b"x")
    assert names(tmp_path) == sorted([DEAD, "file"])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP], ids=os.strerror)
def test_a_writer_that_gets_no_lock_loses_nothing_to_one_that_does(tmp_path, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        slow = replacing(tmp_path / "slow")
        file = slow.__enter__()
    file.write(b"all ")
    command = "import pathlib, sys, deepad.atomic as a\nwith a.replacing(pathlib.Path(sys.argv[1])) as f: f.write(b'x')"
    subprocess.run([sys.executable, "-c", command, tmp_path / "quick"], check=True)
    file.write(b"of it")
    slow.__exit__(None, None, None)
    assert names(tmp_path) == ["quick", "slow"]
    assert (tmp_path / "slow").read_bytes() == b"all of it"


def test_a_write_whose_content_somebody_removed_is_one_error_and_the_older_file_kept(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"older")

    def write():
        with replacing(path) as file:
            file.write(b"newer")
            next(tmp_path.glob(".writing-*")).unlink()

    with pytest.raises(FileNotFoundError, match="removed before it was in place; what was there is kept") as refused:
        write()
    assert refused.value.filename == str(path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"older")]


@pytest.mark.parametrize("length", [1, 255])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, length):
    with replacing(tmp_path / ("n" * length)) as file:
        file.write(b"x")
    assert names(tmp_path) == ["n" * length]
