"""Being asked to end: what `deepad` does with SIGTERM, and with the handling of it that a caller has."""

import os
import signal
import threading

import pytest

from deepad.cli import main


@pytest.fixture(name="generate")
def _generate(tmp_path):
    (tmp_path / "x.csv").write_text("older")
    return ["generate", "sensors", "--rows", "50", "--output", str(tmp_path / "x.csv")]


@pytest.fixture(name="asked")
def _asked(monkeypatch):
    """SIGTERM arrives while a file is written."""
    true = os.fsync

    def asked(handle):
        os.kill(os.getpid(), signal.SIGTERM)
        return true(handle)

    monkeypatch.setattr(os, "fsync", asked)


def test_sigterm_ends_in_one_line_with_nothing_half_written_and_leaves_the_process_as_it_was(
    generate, asked, tmp_path, capsys
):
    assert main(generate) == 143
    assert capsys.readouterr() == ("", "deepad: error: terminated\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.csv", "older")]


def test_one_more_sigterm_does_not_break_off_the_cleaning(generate, asked, tmp_path, monkeypatch, capsys):
    true_fsync, true_unlink, handlers = os.fsync, os.unlink, []

    def remember(handle):
        handlers.append(signal.getsignal(signal.SIGTERM))
        return true_fsync(handle)

    def again(path):
        signal.signal(signal.SIGTERM, handlers[0])  # as the Trainer puts back what it has found
        os.kill(os.getpid(), signal.SIGTERM)
        true_unlink(path)

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(os, "unlink", again)
    assert main(generate) == 143
    assert capsys.readouterr() == ("", "deepad: error: terminated\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.csv", "older")]


def test_a_callers_own_handling_of_sigterm_is_kept(generate, asked, tmp_path):
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        assert main(generate) == 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert heard
    assert (tmp_path / "x.csv").read_text() != "older"


def test_outside_the_main_thread_commands_run_as_well(generate):
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main(generate)))
    thread.start()
    thread.join()
    assert statuses == [0]
