"""`deepad fit`: Lightning's command line with a run folder at the end.

The parser is `LightningCLI`'s: `--config`, `--print_config`, dotted overrides, and `optimizer`, `lr_scheduler`,
`trainer`, `model` and `data` sections. Added are `run`, `calibration`, `ckpt_path` and `overwrite`.
"""

import json
import re
import sys
import time
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger
from tqdm import tqdm

from deepad import run
from deepad.atomic import is_temporary, replacing
from deepad.data.base import DataModule
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector, plain_values
from deepad.detectors.checkpoints import BEST, LAST, best_and_last, ended_before, newest, read_checkpoint, same_training
from deepad.errors import DeepadError, InputError, LearningError
from deepad.quiet import quiet_lightning
from deepad.report import pages
from deepad.rooms import members
from deepad.scoring.heldout import check_disjoint, check_not_replayed, fingerprint_windows
from deepad.scoring.manifest import MANIFEST
from deepad.scoring.promise import guaranteed_rank

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
ROOMS = {"data": "DataModule", "detectors": "Detector"}


class _Parser(LightningArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line instead of the usage, exit status 2."""
        sys.stderr.write(f"deepad fit: error: {plain_reason(str(message))} (see deepad fit --help)\n")
        raise SystemExit(2)


def plain_reason(message: str) -> str:
    """What is wrong, out of jsonargparse's account of every type it has tried."""
    tried = message.partition("Errors:")[2].partition("Given value type:")[0]
    reasons = [part.strip() for part in re.split(r"^\s*- ", tried, flags=re.MULTILINE) if "NoneType" not in part]
    reason = " ".join("; ".join(filter(None, reasons)).split()) or " ".join(message.split())
    if "import path" in reason and re.search(r'Parser key "(data|model)"', message):
        known = [f"{room}: {', '.join(members(room, contract))}" for room, contract in ROOMS.items()]
        reason += f" is not one of ours ({'; '.join(known)})"
    return reason[:500]


class StepBar(ProgressBar):
    """One bar over all steps of the training, with the losses of the last epoch; it shows on terminals only.

    Lightning's bars redraw by the number of steps, which costs more than a short step; this one redraws by the clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[NoReturn] | None = None

    def disable(self) -> None:  # noqa: D102
        self._enabled = False

    def on_train_start(self, trainer: Any, *_: Any) -> None:  # noqa: D102
        if trainer.is_global_zero:
            steps = trainer.estimated_stepping_batches
            total = int(steps) if 0 < steps < float("inf") else None
            self._bar = tqdm(desc="training", unit=" steps", total=total, initial=trainer.global_step, disable=None)

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.update()

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:  # noqa: D102
        if self._bar is not None:
            losses = {name: f"{float(value):.4g}" for name, value in trainer.callback_metrics.items()}
            self._bar.set_postfix({"epoch": trainer.current_epoch + 1, **losses}, refresh=False)

    def on_train_end(self, *_: Any) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.close()


class FitCLI(LightningCLI):
    """Builds data module, detector and trainer from a configuration; `fit_and_finish` does the work."""

    model: Detector
    datamodule: DataModule

    def __init__(self, args: list[str]) -> None:
        for room, contract in ROOMS.items():
            members(room, contract)  # imported, so that a config can name them without their module
        super().__init__(
            Detector,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"max_epochs": 50, "enable_model_summary": False},
            parser_class=_Parser,
            parser_kwargs={"prog": "deepad fit", "description": "Train, calibrate and test; write a run folder."},
            load_from_checkpoint_support=False,
            run=False,
            args=args,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the arguments after `fit`; Lightning's own version warns when they are handed over."""
        self.config = parser.parse_args(args)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The arguments that Lightning does not have."""
        parser.link_arguments("data.shape", "model.init_args.shape", apply_on="instantiate")
        parser.add_argument(
            "--run", type=str | None, default=None, help="run folder (default: runs/<data>-<model>-<time>)"
        )
        parser.add_argument("--overwrite", action="store_true", help="replace a finished run in that folder")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="checkpoint to resume from")
        parser.add_argument("--calibration.alpha", type=float, default=0.05, help="false-alarm rate, in (0, 1)")
        parser.add_argument(
            "--calibration.kind", type=str | None, default=None, help="guarantee (default: marginal; for a series none)"
        )
        parser.add_argument(
            "--calibration.rule", type=str | None, default=None, help="how steps of a series are scored (default: last)"
        )
        parser.add_argument("--calibration.delta", type=float | None, default=None, help="for pac, in (0, 1)")
        parser.add_argument(
            "--calibration.reference", type=int, default=256, help="calibration samples kept to explain with"
        )
        parser.add_argument("--json", action="store_true", help="print metrics.json instead of the summary")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The Trainer, logging into the run folder, with a progress bar that does not slow it down."""
        self.folder = self._claim_folder()
        given = self.config_init["trainer"]
        callbacks = list(given.get("callbacks") or [])
        if given.get("logger") is None:
            resumed = [self.folder / f"training-{i}" for i in range(1, 100)] if self.config["ckpt_path"] else []
            free = next((log for log in resumed if not log.exists()), self.folder / "training")
            # written every epoch, so that a kill does not take the beginning of the curve
            kwargs["logger"] = CSVLogger(self.folder, name=free.name, version="", flush_logs_every_n_steps=1)
        if given.get("enable_progress_bar") is not False:
            callbacks.append(StepBar())
        if given.get("enable_checkpointing") is not False and not any(isinstance(c, Checkpoint) for c in callbacks):
            callbacks += best_and_last(self.folder / CHECKPOINTS)
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def _claim_folder(self) -> Path:
        """The run folder: a new or empty one, that of the run to resume, or one whose run is to be replaced."""
        wanted, checkpoint = self.config["run"], self.config["ckpt_path"]
        if checkpoint is not None:
            if not any(path.is_file() for path in same_training(checkpoint)):
                raise InputError(f"no checkpoint at {checkpoint}")
            home = Path(checkpoint).absolute().parent.parent
            if wanted is not None and Path(wanted).absolute() != home:
                raise InputError(f"{checkpoint} belongs to the run in {home}: resume there, with --run={home}")
            return Path(wanted or home)
        if wanted is None:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            wanted = f"runs/{type(self.datamodule).__name__}-{type(self.model).__name__}-{stamp}".lower()
        folder = Path(wanted)
        if not folder.is_dir() or all(is_temporary(path.name) for path in folder.iterdir()):
            return folder  # or one in which a kill has left nothing but what was being written
        if not (folder / CONFIG).exists():
            raise InputError(f"{folder} holds other files than those of a run: give another --run")
        if not self.config["overwrite"]:
            state = "a finished run" if (folder / "metrics.json").exists() else "a run that was cut off"
            kept = newest(folder / CHECKPOINTS)
            resume = f", --ckpt_path={kept} to go on" if kept else ""
            raise InputError(f"{folder} holds {state}: give another --run, or --overwrite to replace it{resume}")
        return folder

    def _prepare_folder(self) -> None:
        """Make the run folder, clear of an earlier run unless that is resumed, and keep the configuration in it."""
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").unlink(missing_ok=True)
            if self.config["ckpt_path"] is None:
                for name in (LAST, BEST):
                    (folder / CHECKPOINTS / name).unlink(missing_ok=True)
                old = (*folder.glob("training*/metrics.csv"), folder / "scorer" / MANIFEST)
                for path in (*old, folder / "scores.parquet", folder / "report.html"):
                    path.unlink(missing_ok=True)
            repeatable = self.config.clone()
            repeatable["overwrite"], repeatable["ckpt_path"] = False, None
            with replacing(folder / CONFIG) as file:
                file.write(self.parser.dump(repeatable).encode())
        except OSError as error:
            raise InputError(f"cannot write the run folder {folder}: {error.strerror}") from None

    def _resumed(self) -> tuple[str, Detector]:
        """The checkpoint to go on from, and the detector in it: where the last cannot be read, the best before it."""
        refused: list[DeepadError] = []
        for path in same_training(self.config["ckpt_path"]):
            try:
                resumed = Detector.from_checkpoint(str(path))
            except DeepadError as error:
                refused.append(error)
                continue
            if refused:
                sys.stderr.write(f"deepad fit: warning: {refused[0]}; going on from {path}, which is earlier\n")
            return str(path), resumed
        why = "; ".join(map(str, refused))
        raise InputError(f"{why}: give another checkpoint, or train anew with --overwrite in place of --ckpt_path")

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """A file system that fails ends the run in one line, which says how to go on."""
        try:
            yield
        except (OSError, InputError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError):
                raise
            said = f"cannot write {cause.filename or self.folder}: {cause.strerror or cause}"
            kept = newest(self.folder / CHECKPOINTS)
            go_on = f"go on with --run={self.folder} --ckpt_path={kept}" if kept else "run it again with --overwrite"
            raise InputError(f"{said if error is cause else error}; when that is mended, {go_on}") from error

    def _require_same_model(self, resumed: Detector) -> None:
        if type(resumed) is not type(self.model):
            raise InputError(
                f"the checkpoint holds a {type(resumed).__name__}, the config a {type(self.model).__name__}"
            )
        before, now = (plain_values(model.hparams) for model in (resumed, self.model))
        now.pop("patience", None)  # it changes no step; lr and weight_decay are in the optimizer's state, and stay
        changed = [f"{name}={before.get(name)} (config: {now[name]})" for name in now if before.get(name) != now[name]]
        if changed:
            raise InputError(f"the checkpoint was trained with {', '.join(changed)}: resume with the same arguments")

    def _require_possible(self, decision: Any) -> None:
        """Refuse a promise that cannot be made, or steps that cannot be scored."""
        data = self.datamodule
        n = len(data.splits.calibration)
        if data.sequential:
            rule = StepRule(data.shape[0], decision["rule"] or "last")
            n = sum(int(rule.reached(len(s.values))[s.scored].sum()) for s in data.stretches("calibration"))
            if decision["kind"] not in (None, "none") or decision["delta"] is not None:
                raise InputError(
                    f"kind={decision['kind'] or 'pac'!r} cannot be promised for a series, whose steps are dependent: "
                    "leave it out (the level is nominal then)"
                )
        elif decision["rule"] is not None:
            raise InputError(f"rule={decision['rule']!r} is for steps of a series, {data.title} has none: leave it out")
        kind = decision["kind"] or ("marginal" if decision["delta"] is None else "pac")
        guaranteed_rank(decision["alpha"], n, kind=kind, delta=decision["delta"])

    def _require_unseen(self, resumed: Detector) -> None:
        """Refuse calibration data that the training to resume has seen."""
        data, seen = self.datamodule, resumed.fit_rows
        if seen is None:
            return
        if data.sequential:
            size = data.shape[0]
            values = [stretch.values for stretch in data.stretches("calibration")]
            check_not_replayed(seen, fingerprint_windows(values, size), size)
        else:
            held = data.splits.calibration
            check_disjoint(seen, held.fingerprints(), held.recurring)

    def fit_and_finish(self) -> dict[str, Any]:
        """Train, calibrate, test, and write the run folder; returns what `metrics.json` holds."""
        decision, checkpoint = self.config["calibration"], self.config["ckpt_path"]
        # what can be refused is refused before training starts and before anything is written
        self._require_possible(decision)
        if checkpoint is not None:
            checkpoint, resumed = self._resumed()
            self._require_same_model(resumed)
            self._require_unseen(resumed)
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined] # a trial of the configuration: nothing is kept
            self.trainer.fit(self.model, datamodule=self.datamodule, weights_only=True)
            return {}
        if self.trainer.is_global_zero:
            self._prepare_folder()
        with self._resumable():
            return self._train_and_finish(checkpoint, decision)

    def _train_and_finish(self, checkpoint: str | None, decision: Any) -> dict[str, Any]:
        first = read_checkpoint(checkpoint)["global_step"] if checkpoint is not None else 0
        started = time.perf_counter()
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)
        seconds = time.perf_counter() - started
        if not self.model.trained:
            raise LearningError("no training step was taken: raise trainer.max_epochs (or max_steps)")
        if not self.trainer.is_global_zero:
            return {}
        if self.trainer.global_step == first and (said := ended_before(self.trainer)):
            sys.stderr.write(f"deepad fit: {said}\n")
        return run.finish(
            self.model,
            self.datamodule,
            self.folder,
            alpha=decision["alpha"],
            kind=decision["kind"],
            delta=decision["delta"],
            rule=decision["rule"],
            reference=decision["reference"],
            training={
                "epochs": self.trainer.fit_loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
                "seconds": round(seconds, 1),
                "threads": torch.get_num_threads(),
                "seed": self.config["seed_everything"],
            },
        )


def _build(args: list[str]) -> FitCLI:
    try:
        return FitCLI(args)
    except DeepadError:
        raise
    except (ArgumentError, ValueError, TypeError) as error:  # a value that a class refused when it was built
        raise InputError(plain_reason(str(error))) from None


def main(args: list[str]) -> None:
    """Run `deepad fit` with command line arguments."""
    with quiet_lightning():
        try:
            cli = _build(args)
            metrics = cli.fit_and_finish()
        except MisconfigurationException as error:  # what the Trainer refuses
            raise InputError(str(error)) from None
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # which the Trainer turns into a silent exit
                raise error.__context__ from None
            raise
    if metrics:  # else another process of the same training tells
        print(json.dumps(metrics, indent=1) if cli.config["json"] else pages.summary(metrics, cli.folder))
