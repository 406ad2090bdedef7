"""Checkpoints to resume from: written whole or not at all, read as tensors and plain values, at home where they lie.

Lightning's own writer moves a whole file into place but does not flush it, so a power cut can leave an empty
one; torch's reader does not look at the checksums of what it reads.
"""

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from deepad.atomic import replacing
from deepad.errors import ArtifactUnsafeError, InputError

BEST, LAST = "best.ckpt", "last.ckpt"
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""What Lightning's callback remembers of its files."""
STOPPING = ("patience", "min_delta", "stopping_threshold", "divergence_threshold", "check_finite")
"""Arguments of early stopping that say when it stops."""


class LastCheckpoint(ModelCheckpoint):
    """The checkpoint of every epoch, `last.ckpt`: Lightning's `save_last` keeps one only where the best has changed."""


def best_checkpoint(folder: str | Path | None = None) -> ModelCheckpoint:
    """Keeps `best.ckpt` by validation loss; in the logger's folder if none is given."""
    return ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False)


def best_and_last(folder: str | Path | None = None) -> list[ModelCheckpoint]:
    """Keep `best.ckpt`, and `last.ckpt` to resume from; in the logger's folder if none is given."""
    return [best_checkpoint(folder), LastCheckpoint(folder, filename="last", enable_version_counter=False)]


def newest(folder: Path) -> Path | None:
    """The checkpoint in a folder to resume from, if there is one."""
    return next((folder / name for name in (LAST, BEST) if (folder / name).is_file()), None)


def same_training(checkpoint: str | Path) -> list[Path]:
    """The checkpoint to resume from, and what it can be resumed from as well: the best lies beside the last."""
    given = Path(checkpoint)
    return [given, given.with_name(BEST)] if given.name == LAST else [given]


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """What a Lightning checkpoint on this machine holds: tensors and plain values alone.

    Raises:
        InputError: no such file.
        ArtifactUnsafeError: the file is cut short, altered, or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on foreign files before it refuses them
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as parts:
                    if (altered := parts.testzip()) is not None:
                        raise zipfile.BadZipFile(altered)
            return dict(torch.load(path, map_location=map_location, weights_only=True))
    except FileNotFoundError:
        raise InputError(f"no checkpoint at {path}") from None
    except Exception as error:  # torch and the unpickler raise what they like on what they do not know
        raise unreadable(path, error) from None


def unreadable(path: str | Path, error: Exception) -> ArtifactUnsafeError:
    """What is said of a file that is no checkpoint of ours."""
    return ArtifactUnsafeError(
        f"{path} is not a whole checkpoint of a deepad detector, or holds more than tensors and plain values "
        f"({type(error).__name__}): nothing in it was run"
    )


class DurableCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files, which survive a kill, a power cut and a full disk, and are never unpickled.

    After a crash at any point of `save_checkpoint` the file is the old one or the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save to a local path, whole or not at all; to a remote one as Lightning does.

        Raises:
            OSError: the file cannot be written; what was there is kept.
        """
        if storage_options is not None or _remote(path):
            return super().save_checkpoint(checkpoint, path, storage_options)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read tensors and plain values alone, whatever `weights_only` says.

        Raises:
            InputError: no such file.
            ArtifactUnsafeError: the file is cut short, altered, or holds anything else.
        """
        if _remote(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        return _at_home(read_checkpoint(path, map_location), path)


def make_durable(trainer: Any) -> None:
    """Let a Trainer's checkpoints survive a crash, unless it was given another way to keep them."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = DurableCheckpoints()


def stopping_arguments(trainer: Any) -> dict[str, dict[str, float | None]]:
    """What says when the early stopping of a Trainer stops, for a checkpoint; Lightning keeps its patience alone."""
    return {stop.state_key: _arguments(stop) for stop in trainer.early_stopping_callbacks}


def _arguments(stop: Any) -> dict[str, float | None]:
    given = {name: getattr(stop, name) for name in STOPPING}
    return {name: None if value is None else float(value) for name, value in given.items()}


def resume_stopping(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Make the state of early stopping in a checkpoint that of the arguments which it is given now.

    Lightning would go on with the patience of before. With the same arguments nothing changes. Epochs that were counted
    by another measure than `patience` count no more, and a stop that the arguments of now would not make is none.
    """
    for stop in trainer.early_stopping_callbacks:
        state = checkpoint.get("callbacks", {}).get(stop.state_key)
        if state is None:
            continue
        now = _arguments(stop)
        before = now | {"patience": state["patience"]} | checkpoint.get("stopping", {}).get(stop.state_key, {})
        changed = {name for name in STOPPING if now[name] != before[name]}
        state["patience"] = stop.patience
        if changed - {"patience"}:
            state["wait_count"] = 0
        if changed and state["wait_count"] < stop.patience:
            state["stopped_epoch"] = 0


def has_stopped(trainer: Any) -> bool:
    """Whether early stopping had ended the training that a Trainer resumes."""
    return any(stop.stopped_epoch or stop.wait_count >= stop.patience for stop in trainer.early_stopping_callbacks)


def ended_before(trainer: Any) -> str:
    """What is said of a resumed training that took no step because early stopping had ended it before, if it had."""
    said = "early stopping had ended this training before, so no epoch was added; to go on, resume it with a higher "
    said += "--model.patience, or with another EarlyStopping if trainer.callbacks names one"
    return said if has_stopped(trainer) else ""


def _remote(path: Any) -> bool:
    return "://" in os.fspath(path)


def _at_home(checkpoint: dict[str, Any], path: Any) -> dict[str, Any]:
    """Checkpoints name each other by absolute paths: in a folder that was moved, by those that they have now."""
    folder, name = os.path.split(os.path.realpath(path))
    states = [state for state in checkpoint.get("callbacks", {}).values() if isinstance(state, dict)]
    elsewhere = [state for state in states if state.get("dirpath") not in (None, folder) and "best_model_path" in state]
    names = {os.path.basename(state[key]) for state in elsewhere for key in PATHS if state.get(key)}
    best = [os.path.basename(state["best_model_path"]) for state in elsewhere if state.get("monitor")]
    if name not in names or not any(one and Path(folder, one).is_file() for one in best):
        return checkpoint  # a copy that was saved by hand elsewhere, with no best one beside it
    for state in elsewhere:
        before = state["dirpath"]
        state["dirpath"] = folder
        state.update({key: _moved(state[key], before, folder) for key in PATHS if key in state})
        state["best_k_models"] = {_moved(old, before, folder): score for old, score in state["best_k_models"].items()}
    return checkpoint


def _moved(path: str, before: str, folder: str) -> str:
    return os.path.join(folder, os.path.relpath(path, before)) if path else path
