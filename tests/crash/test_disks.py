"""Disks that are full, fail or may not be written: one line says so, and nothing that was there is lost."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from deepad import Scorer
from deepad.cli import main

FIT = ["fit", "--data=Digits", "--model=DenseAutoencoder", "--model.hidden_dims=[8]", "--model.latent_dim=3"]
FIT += ["--trainer.max_epochs=2"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(capsys, *arguments):
    """The one line with which a command fails."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith("deepad: error: ")
    return said


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*FIT, f"--run={folder}"]) == 0
    return folder


@pytest.fixture(name="files")
def _files(run, digits, tmp_path):
    """A folder with the results of earlier commands, and the commands that would replace them."""
    folder = tmp_path / "files"
    shutil.copytree(run, folder / "run")
    shutil.copytree(run / "scorer", folder / "scorer")
    held = digits.splits.calibration
    np.save(tmp_path / "x.npy", held.x[held.index].numpy())
    score = ["score", "--scorer", run / "scorer", tmp_path / "x.npy", "--output"]
    for kind in ("csv", "parquet"):
        (folder / f"scores.{kind}").write_text("older")
    commands = {kind: [*score, folder / f"scores.{kind}"] for kind in ("csv", "parquet")}
    commands["report"] = ["report", folder / "run"]
    commands["calibrate"] = ["calibrate", "--checkpoint", run / "checkpoints" / "best.ckpt", tmp_path / "x.npy"]
    commands["calibrate"] += ["--alpha", "0.2", "--output", folder / "scorer"]
    return folder, commands


@contextmanager
def no_file_beyond(size):
    """What the system refuses to let grow: for every user what a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def failing(call, turn):
    """The disk answers a call with an error of the hardware, once, and from then on always."""
    true, calls = getattr(os, call), []

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) >= turn:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return true(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fails)
        yield calls


VERBS = ["csv", "parquet", "report", "calibrate"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_cannot_grow_is_told_in_one_line_and_the_older_one_kept(files, verb, capsys):
    folder, commands = files
    before = contents(folder)
    with no_file_beyond(1000):
        assert "File too large" in refused(capsys, *commands[verb])
    assert contents(folder) == before
    assert Scorer.load(folder / "scorer")


@pytest.mark.parametrize(
    ("verb", "call"), [(verb, "fsync") for verb in VERBS] + [("csv", "replace"), ("calibrate", "replace")]
)
def test_a_disk_that_fails_is_told_in_one_line_and_the_older_file_kept(files, verb, call, capsys):
    folder, commands = files
    before = contents(folder)
    with failing(call, 1):
        assert "Input/output error" in refused(capsys, *commands[verb])
    assert contents(folder) == before


def mounted(folder, size, capsys):
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode:
        pytest.skip("a file system of its own takes root")


def changed(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture(name="disk")
def _disk(tmp_path, capsys):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    mounted(folder, "1m", capsys)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill_up(folder, left):
    """Leave so many KiB of a file system."""
    free = os.statvfs(folder)
    (folder / "ballast").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - left * 1024)))


def test_a_training_that_ends_on_a_full_disk_goes_on_to_the_same_model_when_there_is_room(disk, run, capsys):
    fill_up(disk, left=120)  # KiB: the first checkpoints fit, what follows them does not
    folder = disk / "run"
    said = refused(capsys, *FIT, f"--run={folder}")
    assert "No space left on device" in said
    assert not list(disk.rglob(".writing-*"))
    (disk / "ballast").unlink()
    changed(disk, "size=32m")
    goes_on_as(run, folder, said)


def goes_on_as(run, folder, said):
    """What was said of a run is done, and it ends with the model of the other."""
    go_on = re.search(r"go on with --run=\S+ (--ckpt_path=\S+)$", said.strip())
    assert main([*FIT, f"--run={folder}", go_on[1]]) == 0
    assert len({json.loads((one / "metrics.json").read_text())["id"] for one in (folder, run)}) == 1


def test_a_comparison_on_a_full_disk_keeps_what_is_done_and_goes_on_when_there_is_room(disk, tmp_path, capsys):
    models = {"z": "ZScore", "forest": {"class_path": "IsolationForest", "init_args": {"n_estimators": 5}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"data": {"digits": "Digits"}, "models": models}))
    command = ["compare", "--config", tmp_path / "c.yaml", "--output", disk / "out", "--jobs", "1"]
    fill_up(disk, 70)
    assert "the cells that are done are kept" in refused(capsys, *command)
    done = {path: path.read_bytes() for path in disk.glob("out/cells/*/*/*.json")}
    assert done
    assert not list(disk.rglob(".writing-*"))
    (disk / "ballast").unlink()
    changed(disk, "size=32m")
    assert main([str(argument) for argument in command]) == 0
    assert all(path.read_bytes() == data for path, data in done.items())


def test_a_folder_that_may_not_be_written_is_told_in_one_line_and_untouched(files, disk, run, tmp_path, capsys):
    folder, _ = files
    changed(disk, "size=32m")
    shutil.copytree(folder, disk / "files")
    commands = {name: [str(part).replace(str(folder), str(disk / "files")) for part in command]
                for name, command in files[1].items()}  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"data": {"digits": "Digits"}, "models": {"z": "ZScore"}}))
    commands["compare"] = ["compare", "--config", tmp_path / "c.yaml", "--output", disk / "out"]
    commands["fit"] = [*FIT, f"--run={disk / 'new'}"]
    commands["overwrite"] = [*FIT, f"--run={disk / 'files' / 'run'}", "--overwrite"]
    commands["resume"] = [*FIT, f"--ckpt_path={disk / 'files' / 'run' / 'checkpoints' / 'last.ckpt'}"]
    before = contents(disk)
    changed(disk, "ro")
    for command in commands.values():
        assert "Read-only file system" in refused(capsys, *command)
    changed(disk, "rw")
    assert contents(disk) == before


def test_a_training_whose_disk_fails_goes_on_to_the_same_model(run, tmp_path, capsys):
    folder = tmp_path / "run"
    with failing("fsync", 5):  # the configuration and the first checkpoint are written
        said = refused(capsys, *FIT, f"--run={folder}")
    assert "Input/output error" in said
    assert not list(folder.rglob(".writing-*"))
    goes_on_as(run, folder, said)
