"""Files under way: whose they are, and who may remove them."""

import os
import stat
import threading

import pytest
from conftest import within

from deepad.atomic import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_dead_writer_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(tmp_path):
    (tmp_path / ".writing-dead").write_bytes(b"half")
    with replacing(tmp_path / "slow") as slow:
        slow.write(b"all ")
        with replacing(tmp_path / "quick") as quick:
            quick.write(b"of it")
        assert ".writing-dead" not in names(tmp_path)
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
    (tmp_path / ".writing-folder").mkdir()
    (tmp_path / ".writing-link").symlink_to(tmp_path / "mine")
    with within(5), replacing(tmp_path / "file") as file:
        os.mkfifo(tmp_path / ".writing-pipe")
        file.write(b"x")
    with within(5), replacing(tmp_path / "file") as file:
        file.write(b"y")
    assert {".writing-folder", ".writing-link", "mine"} <= set(names(tmp_path))
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("length", [1, 255])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, length):
    with replacing(tmp_path / ("n" * length)) as file:
        file.write(b"x")
    assert names(tmp_path) == ["n" * length]
