"""One cell of a comparison: train, calibrate, judge and measure one model on one data set with one seed.

Cells of one data set and seed share what was trained: a hybrid takes the detector of the cell beside it. Everything is
seeded and runs in one thread, so a cell that is run again, alone or after a crash, gives the same bits on one machine.
"""

import contextlib
import hashlib
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deepad import protocol
from deepad.baselines.base import Baseline
from deepad.comparison.plan import Cell, Plan
from deepad.comparison.spec import checked
from deepad.data.base import DataModule
from deepad.detectors.base import Detector, best_checkpoint
from deepad.errors import InsufficientCalibrationError
from deepad.evaluation.bootstrap import Metric, interval
from deepad.evaluation.metrics import evaluate
from deepad.evaluation.series_metrics import evaluate_series
from deepad.evaluation.vus import buffer_from
from deepad.quiet import quiet_lightning
from deepad.run import versions
from deepad.scoring.blocks import Model
from deepad.scoring.composed import Ensemble, Hybrid
from deepad.scoring.scorer import Scorer

METRICS: tuple[Metric, ...] = ("auroc", "average_precision")
"""Metrics that a bootstrap interval is given for, of so many draws:"""
DRAWS = 200


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
        self.seconds: dict[str, float] = {}
        self.epochs: dict[str, int] = {}
        self._data: DataModule | None = None

    @property
    def data(self) -> DataModule:
        """The data module, read on first use."""
        if self._data is None:
            kind, arguments = checked(DataModule, self.plan.data[self.name], f"data {self.name!r}")
            data: DataModule = kind(**{**arguments, "seed": self.seed})
            data.prepare_data()
            data.setup()
            self._data = data
        return self._data

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
        reset_peak_memory()
        for name in cell.needs:
            if name not in self.models:
                started = time.perf_counter()
                self.models[name] = self._fit(name)
                self.seconds[name] = time.perf_counter() - started
        started = time.perf_counter()
        decision = dict(self.plan.calibration)
        if not data.sequential:
            decision.pop("rule", None)
        scorer, refused = _calibrated(self.models[cell.model], data, decision)
        tested = protocol.judge(scorer, data)
        score_seconds = time.perf_counter() - started
        verdict, y = tested.verdict, tested.y
        judged = ~np.isnan(verdict.score)
        metrics = evaluate(verdict, y)
        enough = np.bincount(y[judged], minlength=2).min() >= 2
        for metric in METRICS if enough else ():
            around = interval(y[judged], verdict.score[judged], metric, draws=DRAWS)
            metrics["ranking"][f"{metric}_95"] = [around.low, around.high]
        if refused:
            metrics |= {"at_threshold": None, "refused": refused}
        if data.sequential:
            metrics["series"] = self._series(tested)
            if self.plan.whole_series:
                metrics["whole_series"] = self._series(protocol.judge(scorer, data, "all"))["ranking"]
        found: dict[str, Any] = {
            "plan": self.plan.part(cell.data, cell.model, cell.seed),
            "splits": data.describe(),
            "id": scorer.id,
            "scores_digest": hashlib.sha256(verdict.score.tobytes()).hexdigest(),
            "guarantee": {**verdict.guarantee.to_dict(), "text": str(verdict.guarantee)},
            "metrics": metrics,
            "epochs": self.epochs.get(cell.model),
            "error": None,
            "cost": {
                "fit_seconds": round(sum(self.seconds[name] for name in cell.needs), 3),
                "score_seconds": round(score_seconds, 3),
                "peak_memory_mib": peak_memory(),
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
        kind, arguments = checked(Baseline, spec, f"model {name!r}")
        if "seed" in arguments and "seed" not in spec.get("init_args", {}):
            arguments["seed"] = self.seed
        baseline: Baseline = kind(**arguments)
        if "features_of" not in spec:
            return protocol.fit(baseline, self.data)
        detector = self.models[spec["features_of"]]
        assert isinstance(detector, Detector)  # the plan has seen to it
        return Hybrid(detector, baseline).fit(protocol.samples(self.data.splits.train))

    def _train(self, name: str, spec: dict[str, Any]) -> Detector:
        kind, arguments = checked(Detector, spec, f"model {name!r}")
        options = {"max_epochs": 50, "devices": 1, "logger": False, "enable_progress_bar": False,
                   "enable_model_summary": False, **self.plan.trainer, **spec.get("trainer", {})}  # fmt: skip
        with torch.random.fork_rng(), TemporaryDirectory() as folder:
            torch.manual_seed(self.seed)
            detector: Detector = kind(self.data.shape, **arguments)
            trainer = pl.Trainer(default_root_dir=folder, callbacks=[best_checkpoint(folder, last=False)], **options)
            trainer.fit(detector, self.data)
        self.epochs[name] = trainer.current_epoch
        return detector.cpu()


def _calibrated(model: Model, data: DataModule, decision: dict[str, Any]) -> tuple[Scorer, str | None]:
    """The scorer, and why its level is refused if it is: its scores still rank, its flags count for nothing."""
    try:
        return protocol.calibrate(model, data, **decision), None
    except InsufficientCalibrationError as error:
        return protocol.calibrate(model, data, rule=decision.get("rule"), alpha=1 / (error.n + 1)), str(error)


def reset_peak_memory() -> None:
    """Let the peak memory of this process begin anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """Most memory in MiB that this process had since `reset_peak_memory`; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), None)
