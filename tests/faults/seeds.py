"""Small scorers of every kind of entry that a manifest may have, fitted here or kept from earlier versions."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from deepad import Scorer
from deepad.baselines import IsolationForest, KNearestNeighbors, PCAResidual
from deepad.channels import SeriesSchema
from deepad.data.windows import windows_of
from deepad.rooms import members
from deepad.schema import TableSchema
from deepad.scoring.composed import Ensemble
from deepad.scoring.eventrule import EventRule

KEPT = Path(__file__).parents[1] / "artifacts"


def _forest(x):
    return Scorer.calibrate(IsolationForest(n_estimators=5).fit(x[:100]), x[100:], alpha=0.1)


def _tiers(x):
    return Scorer.calibrate(PCAResidual(2).fit(x[:100]), x[100:], tiers={"warning": 0.2, "critical": 0.02}, delta=0.2)


def _rule(x):
    return Scorer.calibrate(PCAResidual(2).fit(x[:100]), x[100:], threshold_rule="sigma:3", reference=5)


def _budget(x):
    return Scorer.calibrate(PCAResidual(2).fit(x[:100]), x[100:], budget="2 per day", volume="50 per day", reference=0)


def _groups(x):
    names = np.where(np.arange(len(x) - 100) % 2, "a", "b")
    return Scorer.calibrate(PCAResidual(2).fit(x[:100]), x[100:], alpha=0.1, groups=names, reference=5)


def _ensemble(x):
    models = {"near": KNearestNeighbors(3).fit(x[:50]), "flat": PCAResidual(2).fit(x[:50])}
    return Scorer.calibrate(Ensemble(models).fit(x[50:100]), x[100:], alpha=0.1, reference=5)


def _table(x):
    frame = pa.table({"amount": x[:, 0], "kind": np.where(x[:, 1] > 0, "a", "b"), "rate": x[:, 2]})
    schema = TableSchema.learn(frame, missing="median")
    model = PCAResidual(2).fit(schema.encode(frame.slice(0, 100)))
    return Scorer.calibrate(model, frame.slice(100), alpha=0.1, inputs=schema, reference=5)


def _series(x):
    channels = SeriesSchema(("flow", "heat"), "time", "hold", "mean", 5.0, 60.0, None)
    model = PCAResidual(3).fit(windows_of(x[:200, :2], 4))
    events = EventRule(standardize=20, persistence=(2, 4), block=25, slot=5, interval=60.0)
    held_out = [x[200:, :2], x[200:, 2:4]]
    return Scorer.calibrate(model, held_out, steps="last", inputs=channels, events=events, alpha=1.0, reference=5)


FITTED = {
    "forest": _forest,
    "tiers": _tiers,
    "rule": _rule,
    "budget": _budget,
    "groups": _groups,
    "ensemble": _ensemble,
    "table": _table,
    "series": _series,
}


def _member(kind, x):
    """A baseline of any kind with its defaults, on samples or, if it takes those alone, on windows."""
    model = kind()
    rows = windows_of(x, model.least_steps + 2) if model.least_steps else x
    half = len(rows) // 2
    return Scorer.calibrate(model.fit(rows[:half]), rows[half:], alpha=0.1, reference=0)


def save_seeds(folder):
    """Save all of them below a folder, those of an earlier schema as this version does; their folders by name."""
    x = np.random.default_rng(0).normal(size=(600, 5))
    scorers = {name: make(x) for name, make in FITTED.items()}
    kinds = {name: kind for name, kind in members("baselines", "Baseline").items() if name != "ConstantScore"}
    scorers |= {name: _member(kind, x[:120, :3]) for name, kind in kinds.items()}
    scorers |= {path.name.split("-")[-1]: Scorer.load(path / "scorer") for path in sorted(KEPT.glob("schema-3-*"))}
    for name, scorer in scorers.items():
        scorer.save(Path(folder) / name)
    return {name: Path(folder) / name for name in scorers}
