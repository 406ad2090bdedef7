"""One cell of a comparison: train, calibrate, judge and measure one model on one data set with one seed.

Cells of one data set and seed share what was trained, and what could not be: a hybrid takes the detector of the cell
beside it, or its error. Everything is seeded and runs in one thread, so a cell that is run again, alone or after a
crash, gives the same bits on one machine; where the plan trains on a GPU that is not promised.
"""

import contextlib
import hashlib
import inspect
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deepad import protocol
from deepad.baselines.base import Baseline
from deepad.comparison.plan import Cell, Plan
from deepad.comparison.spec import class_of
from deepad.data.base import DataModule
from deepad.detectors.base import Detector
from deepad.detectors.checkpoints import best_checkpoint
from deepad.errors import InsufficientCalibrationError
from deepad.evaluation.bootstrap import intervals
from deepad.evaluation.metrics import evaluate
from deepad.evaluation.series_metrics import evaluate_series
from deepad.evaluation.vus import buffer_from
from deepad.quiet import quiet_lightning
from deepad.run import versions
from deepad.scoring.blocks import Model
from deepad.scoring.composed import Ensemble, Hybrid
from deepad.scoring.scorer import Scorer

DRAWS = 200
"""Resamples of a bootstrap interval."""


class Bench:
    """One data set with one seed, and the models that were fitted on it.

    Args:
        plan: what is compared.
        data: name of the data set.
        seed: of splits, weights and draws.
    """

    def __init__(self, plan: Plan, data: str, seed: int) -> None:
        self.plan, self.name, self.seed = plan, data, seed
        self.models: dict[str, Model] = {}
        self.costs: dict[str, Meter] = {}
        self.epochs: dict[str, int] = {}
        self._data: DataModule | None = None
        self._errors: dict[str | None, Exception] = {}
        """What a model could not be fitted for, or the data set (None) not read."""

    @property
    def data(self) -> DataModule:
        """The data module, read on first use."""
        if self._data is None:
            with self._remembering(None):
                spec = self.plan.data[self.name]
                data: DataModule = class_of(DataModule, spec)(**spec.get("init_args", {}), seed=self.seed)
                data.prepare_data()
                data.setup()
                self._data = data
        return self._data

    @contextlib.contextmanager
    def _remembering(self, name: str | None) -> Iterator[None]:
        """What failed once is not tried again by each cell that needs it: its error is raised again."""
        if name in self._errors:
            raise self._errors[name]
        try:
            yield
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # which hold on to the data
            self._errors[name] = error
            raise

    def measure(self, cell: Cell) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What is kept of a cell: plain values, and the test scores with their labels."""
        with threadpool_limits(1), warnings.catch_warnings(), quiet_lightning():
            warnings.simplefilter("ignore")  # of constant columns and the like, in every one of many cells
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                return self._measure(cell)
            finally:
                torch.set_num_threads(threads)

    def _measure(self, cell: Cell) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        data = self.data
        for name in cell.needs:
            if name not in self.models:
                with self._remembering(name), Meter() as self.costs[name]:
                    self.models[name] = self._fit(name)
        decision = dict(self.plan.calibration)
        if not data.sequential:
            decision.pop("rule", None)
        with Meter() as judging:
            scorer, refused = _calibrated(self.models[cell.model], data, decision)
            tested = protocol.judge(scorer, data)
        verdict, y = tested.verdict, tested.y
        metrics = evaluate(verdict, y)
        if not data.sequential:  # steps depend on each other
            around = intervals(y, verdict.score, draws=DRAWS)
            metrics["ranking"] |= {f"{name}_95": [one.low, one.high] for name, one in around.items()}
        else:
            metrics["series"] = self._series(tested)
            if self.plan.whole_series:
                metrics["whole_series"] = self._series(protocol.judge(scorer, data, "all"))["ranking"]
        guarantee: dict[str, Any] | None = {**verdict.guarantee.to_dict(), "text": str(verdict.guarantee)}
        if refused:
            guarantee = None
            metrics |= {"at_threshold": None, "refused": refused}
            if data.sequential:
                metrics["series"]["at_threshold"] = None
        meters = [judging, *(self.costs[name] for name in cell.needs)]
        added = [meter.added_mib for meter in meters if meter.added_mib is not None]
        found: dict[str, Any] = {
            "plan": self.plan.part(cell.data, cell.model, cell.seed),
            "splits": data.describe(),
            "id": scorer.id,
            "scores_digest": hashlib.sha256(verdict.score.tobytes()).hexdigest(),
            "guarantee": guarantee,
            "metrics": metrics,
            "epochs": self.epochs.get(cell.model),
            "error": None,
            "cost": {
                "fit_seconds": round(sum(self.costs[name].seconds for name in cell.needs), 3),
                "score_seconds": round(judging.seconds, 3),
                "added_memory_mib": max(added, default=None),
            },
            "versions": versions(),
        }
        return found, {"score": verdict.score, "y": y.astype(np.int8)}

    def _series(self, tested: protocol.Tested) -> dict[str, Any]:
        """Metrics of events and ranges; the buffers of VUS are the periods of the whole recordings."""
        verdict, ends = tested.verdict, np.cumsum(tested.lengths)
        whole: dict[str, Any] = {}
        for part in self.data.stretches("all"):
            if len(part.values) > len(whole.get(part.source, ())):
                whole[part.source] = part.values
        return evaluate_series(
            *(np.split(column, ends[:-1]) for column in (verdict.score, verdict.flagged, tested.y)),
            seconds=self.data.schema.interval,
            buffer=[buffer_from(whole[tested.source[end - 1]]) for end in ends],
        )

    def _fit(self, name: str) -> Model:
        spec = self.plan.models[name]
        if "members" in spec:
            members = {part: self.models[part] for part in spec["members"]}
            chosen = {key: value for key, value in spec.items() if key != "members"}
            return Ensemble(members, **chosen).fit(protocol.samples(self.data.splits.val))
        if self.plan.kind(name) == "deep":
            return self._train(name, spec)
        kind = class_of(Baseline, spec)
        seeded = {"seed": self.seed} if "seed" in inspect.signature(kind).parameters else {}
        baseline: Baseline = kind(**{**seeded, **spec.get("init_args", {})})
        if "features_of" not in spec:
            return protocol.fit(baseline, self.data)
        detector = self.models[spec["features_of"]]
        assert isinstance(detector, Detector)  # the plan has seen to it
        return Hybrid(detector, baseline).fit(protocol.samples(self.data.splits.train))

    def _train(self, name: str, spec: dict[str, Any]) -> Detector:
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, **spec["trainer"]}
        with torch.random.fork_rng(), TemporaryDirectory() as folder:
            torch.manual_seed(self.seed)
            detector: Detector = class_of(Detector, spec)(self.data.shape, **spec.get("init_args", {}))
            trainer = pl.Trainer(default_root_dir=folder, callbacks=[best_checkpoint(folder)], **options)
            trainer.fit(detector, self.data)
        self.epochs[name] = trainer.current_epoch
        return detector.cpu()


def _calibrated(model: Model, data: DataModule, decision: dict[str, Any]) -> tuple[Scorer, str | None]:
    """The scorer, and why its level is refused if it is: its scores still rank, its flags count for nothing."""
    try:
        return protocol.calibrate(model, data, **decision), None
    except InsufficientCalibrationError as error:
        return protocol.calibrate(model, data, rule=decision.get("rule"), alpha=1 / (error.n + 1)), str(error)


class Meter:
    """What the block inside costs.

    Attributes:
        seconds: that it took.
        added_mib: most memory in MiB beyond what the process held before, rounded down: less than it used where it
            fits into what others left; None where the system does not say.
    """

    seconds: float
    added_mib: int | None

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._before, self._started = _peak_kib(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, peak = time.perf_counter() - self._started, _peak_kib()
        self.added_mib = None if peak is None or self._before is None else (peak - self._before) // 1024


def _peak_kib() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
