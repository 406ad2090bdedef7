"""Checkpoints that are missing, cut short, altered or moved, and where a training goes on from then."""

import copy
import json
import shutil

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import train
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from deepad.cli import main
from deepad.detectors import DenseAutoencoder
from deepad.detectors.checkpoints import DurableCheckpoints, best_and_last, read_checkpoint
from deepad.errors import ArtifactUnsafeError, InputError

FIT = ["fit", "--data=Digits", "--model=DenseAutoencoder", "--model.hidden_dims=[8]", "--model.latent_dim=3"]
FIT += ["--model.noise=0.2", "--model.dropout=0.2", "--trainer.max_epochs=4", "--json"]
# the best epoch is not the last, so the two checkpoints are of different epochs
SPOILT = "--trainer.callbacks+=deepad_spoil.SpoilLast"
SPOIL = """
import pytorch_lightning as pl
import torch
class SpoilLast(pl.Callback):
    def __init__(self, stop: bool = False): self.stop = stop
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            with torch.no_grad():
                module.decoder[-1].bias += 3
    def on_train_epoch_end(self, trainer, module):
        if self.stop and trainer.current_epoch == 3:
            raise SystemExit("killed")
class Interrupt(pl.Callback):
    def on_train_epoch_end(self, trainer, module):
        raise KeyboardInterrupt
"""


@pytest.fixture(scope="module", name="spoiling")
def _spoiling(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoiling")
    (folder / "deepad_spoil.py").write_text(SPOIL)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module", name="whole")
def _whole(spoiling):
    """What an uninterrupted run ends with."""
    assert main([*FIT, SPOILT, f"--run={spoiling / 'whole'}"]) == 0
    return json.loads((spoiling / "whole" / "metrics.json").read_text())


@pytest.fixture(scope="module", name="broken_off")
def _broken_off(spoiling):
    """A run that was broken off in its fourth epoch."""
    with pytest.raises(SystemExit):
        main([*FIT, SPOILT, "--trainer.callbacks.stop=true", f"--run={spoiling / 'cut'}"])
    folder = spoiling / "cut"
    epochs = [read_checkpoint(folder / "checkpoints" / name)["epoch"] for name in ("best.ckpt", "last.ckpt")]
    assert epochs == [1, 2]
    return folder


@pytest.fixture(name="cut")
def _cut(broken_off, tmp_path):
    """A copy of it at another place, which is now the only one."""
    away = broken_off.rename(broken_off.with_name("away"))
    yield shutil.copytree(away, tmp_path / "moved")
    away.rename(broken_off)


def damage(path, how):
    if how == "missing":
        return path.unlink()
    data = bytearray(path.read_bytes())
    if how == "altered":  # one bit of a weight, of which torch says nothing
        weight = next(iter(torch.load(path, weights_only=True)["state_dict"].values()))
        data[data.index(weight.numpy().tobytes()) + 2] ^= 1
    path.write_bytes(data[: len(data) // 2] if how == "cut short" else data if how == "altered" else b"")


def go_on(folder, *arguments):
    return main([*FIT, SPOILT, f"--run={folder}", f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", *arguments])


def test_a_run_that_was_moved_goes_on_to_the_same_weights_and_takes_nothing_from_its_old_place(cut, whole, capsys):
    assert go_on(cut) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["id"] == whole["id"]
    assert said.err == ""
    assert read_checkpoint(cut / "checkpoints" / "best.ckpt")["epoch"] == 1


@pytest.mark.parametrize("how", ["missing", "altered"])
def test_a_last_checkpoint_that_cannot_be_read_is_replaced_by_the_one_before_to_the_same_end(cut, whole, how, capsys):
    damage(cut / "checkpoints" / "last.ckpt", how)
    assert go_on(cut) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["id"] == whole["id"]
    assert said.err.count("\n") == 1
    assert f"going on from {cut / 'checkpoints' / 'best.ckpt'}, which is earlier" in said.err


def test_where_no_checkpoint_can_be_read_that_is_said_and_nothing_is_lost(cut, capsys):
    for name in ("last.ckpt", "best.ckpt"):
        damage(cut / "checkpoints" / name, "cut short")
    before = {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()}
    assert go_on(cut) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "last.ckpt is not a whole checkpoint" in said
    assert "best.ckpt is not a whole checkpoint" in said
    assert "train anew with --overwrite" in said
    assert {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()} == before
    for name in ("last.ckpt", "best.ckpt"):
        (cut / "checkpoints" / name).unlink()
    assert go_on(cut) == 1
    assert "no checkpoint at" in capsys.readouterr().err


def test_an_interrupted_training_says_so(spoiling, tmp_path, capsys):
    interrupted = [*FIT, "--trainer.callbacks+=deepad_spoil.Interrupt", f"--run={tmp_path / 'run'}"]
    assert main(interrupted) == 130
    assert capsys.readouterr() == ("", "deepad: error: interrupted\n")


def test_a_log_that_a_kill_cut_off_does_not_keep_the_page_from_being_made(whole, spoiling, capsys):
    with open(spoiling / "whole" / "training" / "metrics.csv", "a") as log:
        log.write("4,0.")
    assert main(["report", str(spoiling / "whole")]) == 0


@pytest.mark.parametrize("how", ["missing", "cut short", "altered"])
def test_a_best_checkpoint_that_is_gone_when_the_training_ends_leaves_the_last_weights_and_a_warning(
    tmp_path, how, rows
):
    class Lose(pl.Callback):
        def on_train_end(self, trainer, module):
            self.last = copy.deepcopy(dict(module.named_parameters()))
            damage(tmp_path / "best.ckpt", how)

    lose, detector = Lose(), DenseAutoencoder((6,), hidden_dims=(8,), latent_dim=2)
    with pytest.warns(UserWarning, match=r"best\.ckpt; the weights of the last epoch|best\.ckpt is not a whole"):
        train(detector, rows, tmp_path, val=rows, max_epochs=2, callbacks=[lose, *best_and_last(tmp_path)])
    assert detector.trained
    assert all(torch.equal(weight, lose.last[name]) for name, weight in detector.named_parameters())


@pytest.fixture(name="rows")
def _rows():
    t = np.random.default_rng(0).uniform(-1, 1, (200, 1))
    return DataLoader(torch.from_numpy(np.sin(t * np.arange(1, 7)).astype(np.float32)), 32)


def stopping(folder, *, stop=None, **options):
    """A detector that stops early, and what trains it."""
    torch.manual_seed(0)
    detector = DenseAutoencoder((6,), hidden_dims=(8,), latent_dim=2, lr=0.5, **{"patience": 2, **options})
    callbacks = [*best_and_last(folder), *([stop] if stop else [])]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return detector, pl.Trainer(callbacks=callbacks, max_epochs=99, **quiet)


@pytest.fixture(name="stopped")
def _stopped(tmp_path, rows):
    detector, trainer = stopping(tmp_path)
    trainer.fit(detector, rows, rows)
    assert 2 < trainer.current_epoch < 99
    return detector, trainer


def test_a_training_that_was_stopped_early_takes_no_epoch_more_when_it_is_resumed(tmp_path, rows, stopped):
    detector, trainer = stopped
    again, resumed = stopping(tmp_path)
    resumed.fit(again, rows, rows, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.global_step == trainer.global_step
    assert again.trained
    assert all(torch.equal(*pair) for pair in zip(detector.parameters(), again.parameters(), strict=True))


def test_a_training_that_was_stopped_early_goes_on_with_more_patience_as_if_it_had_had_it(tmp_path, rows, stopped):
    more, whole = stopping(tmp_path / "whole", patience=4)
    whole.fit(more, rows, rows)
    again, resumed = stopping(tmp_path, patience=4)
    resumed.fit(again, rows, rows, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.global_step == whole.global_step > stopped[1].global_step
    assert all(torch.equal(*pair) for pair in zip(more.parameters(), again.parameters(), strict=True))
    last, once_more = stopping(tmp_path, patience=4)
    once_more.fit(last, rows, rows, ckpt_path=tmp_path / "last.ckpt")
    assert once_more.global_step == whole.global_step


def test_a_cut_off_after_more_patience_was_given_is_not_taken_for_the_stop_before(tmp_path, rows, stopped):
    class Cut(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == stopped[1].current_epoch + 1:
                raise RuntimeError("cut off")

    cut, broken = stopping(tmp_path, patience=4)
    broken.callbacks.append(Cut())
    with pytest.raises(RuntimeError, match="cut off"):
        broken.fit(cut, rows, rows, ckpt_path=tmp_path / "last.ckpt")
    again, resumed = stopping(tmp_path, patience=4)
    resumed.fit(again, rows, rows, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.current_epoch > broken.current_epoch


@pytest.mark.parametrize("min_delta", [1e-9, 1e9])
def test_a_training_that_was_stopped_early_goes_on_by_another_measure_and_counts_anew(
    tmp_path, rows, stopped, min_delta
):
    stop = EarlyStopping("val_loss", patience=2, min_delta=min_delta)
    again, resumed = stopping(tmp_path, stop=stop)
    resumed.fit(again, rows, rows, ckpt_path=tmp_path / "last.ckpt")
    added = resumed.current_epoch - stopped[1].current_epoch
    assert added == 2 if min_delta > 1 else added >= 2  # nothing is that much better


def test_a_run_that_was_stopped_early_says_so_when_it_is_resumed_and_what_lets_it_go_on(tmp_path, capsys):
    run = [*FIT, "--model.lr=0.5", "--trainer.max_epochs=60", f"--run={tmp_path / 'run'}"]
    assert main([*run, "--model.patience=1"]) == 0
    first = json.loads(capsys.readouterr().out)
    run.append(f"--ckpt_path={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}")
    assert main([*run, "--model.patience=1"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["id"] == first["id"]
    assert said.err.count("\n") == 1
    assert "early stopping had ended this training before, so no epoch was added" in said.err
    assert "--model.patience" in said.err
    assert main([*run, "--model.patience=2"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["training"]["epochs"] > first["training"]["epochs"]
    assert main([*run, "--model.patience=2", "--model.lr=0.1"]) == 1
    assert "trained with lr=0.5 (config: 0.1)" in capsys.readouterr().err


def test_every_trainer_keeps_checkpoints_that_survive_unless_it_was_given_another_way(tmp_path, rows):
    class Own(TorchCheckpointIO):
        pass

    class SetUp(DenseAutoencoder):
        def setup(self, stage):
            """Of a user, who does not call ours."""

    kinds = [(None, DurableCheckpoints, DenseAutoencoder), (None, DurableCheckpoints, SetUp), (Own(), Own, SetUp)]
    for plugin, kind, model in kinds:
        detector = model((6,), hidden_dims=(8,), latent_dim=2)
        trainer = train(detector, rows, tmp_path, val=rows, max_epochs=1, plugins=plugin)
        assert type(trainer.strategy.checkpoint_io) is kind
        assert read_checkpoint(trainer.checkpoint_callback.best_model_path)["detector"] == model.__name__


def test_a_checkpoint_that_holds_more_than_tensors_is_refused_whatever_the_trainer_says(tmp_path, rows):
    torch.save({"state_dict": {}, "trap": Trap()}, tmp_path / "trap.ckpt")
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=1)
    detector = DenseAutoencoder((6,), hidden_dims=(8,), latent_dim=2)
    with pytest.raises(ArtifactUnsafeError, match="nothing in it was run"):
        trainer.fit(detector, rows, rows, ckpt_path=tmp_path / "trap.ckpt", weights_only=False)
    with pytest.raises(InputError, match="no checkpoint at"):
        trainer.fit(detector, rows, rows, ckpt_path=tmp_path / "none.ckpt")


class Trap:
    def __reduce__(self):
        raise_if_run = exec
        return raise_if_run, ("raise SystemError('code of a checkpoint was run')",)
