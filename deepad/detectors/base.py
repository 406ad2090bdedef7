"""The contract of every detector, and the training loop, once.

A detector sees batches of raw x from normal data. A member says what its loss is, how its score falls on the parts of
x and what its latent features are; everything else (scaling from training data, optimizer, early stopping, best
weights, the check that it learned) is here.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from deepad.detectors import checkpoints
from deepad.detectors.learned import require_spread, require_touched
from deepad.errors import DeepadError, InputError, LearningError, NotFittedError
from deepad.fingerprint import Fingerprints, united
from deepad.loaders import fingerprint_loader, in_order, only_x
from deepad.nn import RunningMean, Scaling, ScalingKind
from deepad.rooms import members


class Detector(pl.LightningModule, ABC):
    """A LightningModule that learns what normal looks like and scores how far a sample is from it.

    Constructor arguments are plain values, stored unchanged in `hparams`, so a checkpoint rebuilds without a config.

    Args:
        shape: shape of one sample, `(D,)`, `(C, H, W)` or `(T, C)`.
        scaling: how raw units become model units, see `deepad.nn.Scaling`.
        lr: peak learning rate of AdamW, > 0: a tenth of the steps warm up to it, a cosine goes down from it.
        weight_decay: of AdamW, >= 0.
        patience: epochs without a better validation loss before training stops, >= 1.
    """

    scaling: Scaling
    trained: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        scaling: ScalingKind = "standard",
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.shape = check_shape(shape)
        if not lr > 0 or not weight_decay >= 0 or patience < 1:
            raise ValueError(f"need lr > 0, weight_decay >= 0 and patience >= 1, got {lr}, {weight_decay}, {patience}")
        self.lr, self.weight_decay, self.patience = lr, weight_decay, patience
        self.scaling = Scaling(self.shape, scaling)
        self.fit_rows: Fingerprints | None = None
        """Fingerprints of every row that trained or selected this model; None before training and after loading."""
        self.inputs: dict[str, Any] | None = None
        """What the columns or channels of raw input are, as the data module of the training described them."""
        self.register_buffer("trained", torch.tensor(False))
        self._train_loss, self._val_loss = RunningMean(), RunningMean()
        self._before: dict[str, Tensor] = {}
        self._resumed_rng: Tensor | None = None
        self._first_step = 0
        self._run = ""  # tells the checkpoints of this training from those of another

    # ---- what a member says ------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, x: Tensor) -> Tensor:
        """Training loss, a scalar, of raw x (B, *shape)."""

    @abstractmethod
    def contributions(self, x: Tensor) -> Tensor:
        """How much each part of raw x (B, *shape) adds to its score: (B, *shape), >= 0 unless the member says so."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Latent code of raw x (B, *shape) and a summary of its residual: (B, F), for any density to be fitted on."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """What the model would have expected in place of raw x: (B, *shape) in raw units."""

    def learn_residuals(self, batches: Iterable[Tensor]) -> None:
        """Learn what residuals to expect from raw normal validation rows, batches (B, *shape), into buffers.

        Called after every validation epoch, so that each checkpoint holds what belongs to its weights.
        """

    # ---- scoring -----------------------------------------------------------------------------------------------

    def score(self, x: Tensor) -> Tensor:
        """Anomaly score (B,) of finite raw x (B, *shape): the sum of its contributions, in float64.

        The unit is the member's; higher is more anomalous. An input so large that its reconstruction overflows
        scores +inf.
        """
        parts = self.contributions(x).flatten(1)
        return torch.nan_to_num(parts.sum(1, dtype=torch.float64), nan=torch.inf, posinf=torch.inf)

    def forward(self, x: Tensor) -> Tensor:
        """Same as `score`."""
        return self.score(x)

    # ---- training ----------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: D102
        x = only_x(batch)
        loss = self.loss(x)
        self._train_loss.add(loss, len(x))
        return loss

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self._log_mean("train_loss", self._train_loss.take())

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: D102
        x = only_x(batch)
        self._val_loss.add(self.loss(x), len(x))

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        self._log_mean("val_loss", self._val_loss.take())
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:  # Trainer.validate changes no score
            self.learn_residuals(self._val_batches())

    def _log_mean(self, name: str, mean: Tensor) -> None:
        """Log once an epoch, which costs less than at every step; a loss that is not finite ends the training."""
        if not torch.isfinite(mean) and not self.trainer.sanity_checking:
            raise LearningError(
                f"{name} became {mean.item()} in epoch {self.current_epoch}: lower lr, or look for extreme values in "
                "the data"
            )
        self.log(name, mean, prog_bar=True, sync_dist=True)

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Scores of a batch of x, or of the x in a labelled batch (x, y)."""
        with torch.autocast(self.device.type, enabled=False):  # whatever the Trainer's precision
            return {"score": self.score(batch if isinstance(batch, Tensor) else batch[0])}

    def configure_optimizers(self) -> Any:  # noqa: D102
        fused = not self.trainer.gradient_clip_val  # a fused step under mixed precision cannot be clipped
        optimizer = torch.optim.AdamW(self.parameters(), self.lr, weight_decay=self.weight_decay, fused=fused)
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            return optimizer
        warmup = steps / 10

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 + 0.5 * math.cos(math.pi * min((step - warmup) / (steps - warmup), 1.0))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[Callback]:
        """Early stopping and checkpoints by normal validation loss, unless the Trainer brings its own.

        The checkpoints survive a crash: a subclass that overrides this calls it too.
        """
        # here and not in `setup`, which subclasses override for ends of their own
        checkpoints.make_durable(self.trainer)
        present = self.trainer.callbacks  # type: ignore[attr-defined]
        chosen: list[Callback] = []
        if not any(isinstance(callback, EarlyStopping) for callback in present):
            chosen.append(EarlyStopping("val_loss", patience=self.patience, strict=False))
        keepers = [callback for callback in present if isinstance(callback, ModelCheckpoint)]
        if keepers and not any(callback.monitor == "val_loss" for callback in keepers):
            # what is returned replaces callbacks of its type: so the Trainer's own are returned too, less its default
            own = [c for c in keepers if c.monitor or c.dirpath or c.filename or c.save_top_k != 1]
            chosen += [*checkpoints.best_and_last(), *own]
        return chosen

    def on_fit_start(self) -> None:
        """Learn scaling from the training rows and remember every row that fits or selects."""
        loop = self.trainer.fit_loop
        if self._resumed_rng is not None:  # what was to stop when the checkpoint was made does not take an epoch more
            self.trainer.should_stop |= checkpoints.has_stopped(self.trainer)
        # not `trainer.datamodule`, which a fit with loaders leaves as an earlier fit set it
        schema = getattr(loop._data_source.instance, "schema", None)
        if schema is not None:
            self.inputs = schema.to_dict()
        loop.setup_data()
        loop.epoch_loop.val_loop.setup_data()
        train, val = self.trainer.train_dataloader, self.trainer.val_dataloaders
        if val is None:
            raise InputError("no validation data: training stops on the loss of normal ones, give val_dataloaders")
        loaders = [train, *(val if isinstance(val, list) else [val])]
        rows = [fingerprint_loader(loader, self.shape) for loader in loaders]
        if len(rows[0]) < 2:
            raise InputError(f"{type(self).__name__} needs at least 2 training rows, got {len(rows[0])}")
        seen = np.sort(np.concatenate(rows))
        self.fit_rows = seen if self.fit_rows is None else united(self.fit_rows, seen)
        if not bool(self.scaling.fitted):
            self.scaling.fit(in_order(train), indicators=getattr(schema, "indicators", ()))

    def on_train_start(self) -> None:  # noqa: D102
        trained = ((name, weight) for name, weight in self.named_parameters() if weight.requires_grad)
        self._before = {name: weight.detach().clone() for name, weight in trained}
        self._first_step = self.trainer.global_step
        if self._resumed_rng is not None:  # noise and dropout go on where the checkpoint left them
            torch.set_rng_state(self._resumed_rng)
            self._resumed_rng = None
        else:
            self._run = uuid4().hex

    def on_fit_end(self) -> None:
        """Refuse a model that has not learned, and go back to the best weights of this training."""
        stepped = bool(self._before) and self.trainer.global_step > self._first_step
        if stepped and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            x = next(self._val_batches())
            require_touched(self._before, dict(self.named_parameters()), x)
            best = self._load_best()
            self.trained.fill_(False)  # checkpoints say True: not so before the last check has passed
            self.float().eval()  # whatever the precision of training, scoring is in float32
            with torch.inference_mode():
                if not best:  # the last weights may be younger than the last validation
                    self.learn_residuals(self._val_batches())
                require_spread(self.score(x), x)
            self.trained.fill_(True)
        elif self._resumed_rng is not None:  # a resumed training with nothing left to do
            self._load_best()
        self._before, self._resumed_rng = {}, None
        self.eval()

    def _load_best(self) -> bool:
        """Whether there were any to go back to."""
        kept = [c for c in self.trainer.checkpoint_callbacks if getattr(c, "monitor", None) == "val_loss"]
        best = getattr(kept[0], "best_model_path", "") if kept else ""
        try:
            checkpoint = checkpoints.read_checkpoint(best, self.device) if best else {}
        except DeepadError as error:  # a training is not lost for that
            warnings.warn(f"{error}; the weights of the last epoch are kept, not the best", stacklevel=2)
            return False
        if checkpoint.get("run") != self._run:  # of another model that this Trainer has fitted before
            return False
        self.load_state_dict(checkpoint["state_dict"])
        return True

    def _val_batches(self) -> Iterator[Tensor]:
        """All rows, on the device, of the loader whose loss chooses the weights."""
        val = self.trainer.val_dataloaders
        return (x.to(self.device) for x in in_order(val[0] if isinstance(val, list) else val))

    # ---- state -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        checkpoint["detector"] = type(self).__name__
        checkpoint["run"] = self._run
        checkpoint["state_dict"]["trained"] = torch.tensor(True)  # of a training that went well so far
        if self.fit_rows is not None:
            checkpoint["fit_rows"] = torch.from_numpy(self.fit_rows)
        checkpoint["inputs"] = self.inputs
        checkpoint["rng_state"] = torch.get_rng_state()
        checkpoint["stopping"] = checkpoints.stopping_arguments(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        rows = checkpoint.get("fit_rows")
        self.fit_rows = None if rows is None else rows.numpy()
        self.inputs = checkpoint.get("inputs")
        self._run, self._resumed_rng = checkpoint["run"], checkpoint["rng_state"]
        if self._trainer is not None:
            checkpoints.resume_stopping(checkpoint, self._trainer)

    @classmethod
    def from_checkpoint(cls, path: str) -> "Detector":
        """Rebuild a trained detector of any kind from a Lightning checkpoint, without its config.

        Only tensors and plain values are read, and the class is one of ours, found by its tag. Still, a checkpoint is
        a format for resuming on the machine that trained; to pass a model on, save a `Scorer`.

        Raises:
            InputError: no such file.
            ArtifactUnsafeError: the file is cut short, altered, or holds anything but tensors and plain values.
        """
        checkpoint = checkpoints.read_checkpoint(path)
        try:
            tag, hparams = checkpoint["detector"], checkpoint["hyper_parameters"]
            detector: Detector = members("detectors", "Detector")[tag](**hparams)
            detector.on_load_checkpoint(checkpoint)
            detector.load_state_dict(checkpoint["state_dict"])
        except Exception as error:  # whatever stands in it
            raise checkpoints.unreadable(path, error) from None
        detector._resumed_rng = None  # this is no resumption: a later training starts where the caller is
        return detector.eval()

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Weights and buffers as arrays, for the artifact; bfloat16, which NumPy has not, as float32."""
        state = {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}
        return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in state.items()}

    @classmethod
    def from_state(cls, hparams: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> Self:
        """Rebuild from constructor arguments and `state_arrays`.

        The module is laid out on the meta device first, so shapes are compared before memory is taken.

        Raises:
            ValueError: arguments or arrays that do not belong to this class.
        """
        lengths = [len(value) for value in hparams.values() if isinstance(value, list | tuple)]
        if max([*lengths, hparams.get("num_layers", 0)], default=0) > len(arrays):
            raise ValueError("more layers are described than there are arrays")
        with torch.device("meta"):
            detector = cls(**hparams)
        expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in detector.state_dict().items()}
        given = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        if expected != {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in given.items()}:
            raise ValueError(f"the arrays are not those of a {cls.__name__} with these arguments")
        detector.load_state_dict(given, assign=True)
        return detector.to("cpu").eval()


def plain_values(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments as JSON would hold them: tuples become lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one sample as a tuple.

    Raises:
        ValueError: not one to three positive whole numbers.
    """
    sizes = tuple(shape)
    if not 1 <= len(sizes) <= 3 or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f"shape must be (D,), (T, C) or (C, H, W) in positive whole numbers, got {shape!r}")
    return sizes


def require_fitted(detector: Detector) -> None:
    """Raise `NotFittedError` for a detector that has not been trained."""
    if not detector.trained:
        raise NotFittedError(f"this {type(detector).__name__} has not been trained: run Trainer.fit first")
