"""Keeps a scorer of every model, as this version writes it: in all versions to come it must judge as it does now.

    PYTHONPATH=tests:tests/scoring python tests/keep_artifacts.py

Run it when the schema has changed. A folder that is there is never written again.
"""

import json
import warnings
from pathlib import Path

import everymodel
import numpy as np
import pyarrow as pa

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.schema import TableSchema
from deepad.scoring.artifact import SCHEMA
from deepad.scoring.eventrule import EventRule

ARTIFACTS = Path(__file__).parent / "artifacts"


def keep(name, scorer, x, groups=None):
    """Keep a scorer with what it judged and what it said."""
    folder = ARTIFACTS / f"schema-{SCHEMA}-{name}"
    if folder.exists():
        return
    scorer.save(folder / "scorer")
    np.save(folder / "x.npy", x)
    given = {}
    if groups is not None:
        np.save(folder / "groups.npy", groups)
        given = {"groups": groups}
    verdict = scorer(x, **given)
    score = [repr(value) for value in verdict.score.tolist()]
    told = {"score": score, "flagged": verdict.flagged.tolist(), "guarantee": str(verdict.guarantee)}
    (folder / "verdict.json").write_text(json.dumps(told) + "\n")


def main():
    """One of each model, and one of each kind of decision and of input."""
    for name in everymodel.NAMES:
        keep(name.lower(), everymodel.scorer(name), everymodel.unseen(name)[:60])
    fit, held, new = (everymodel.rows(split, (4,)) for split in ("train", "calibration", "test"))
    model, letters = PCAResidual(2).fit(fit), np.array(["a", "b"])
    keep("tiers", Scorer.calibrate(model, held, tiers={"warning": 0.3, "critical": 0.1}), new[:60])
    keep("groups", Scorer.calibrate(model, held, groups=letters[np.arange(len(held)) % 2], alpha=0.1), new[:60],
         letters[np.arange(60) % 2])  # fmt: skip
    keep("rule", Scorer.calibrate(model, held, threshold_rule="sigma:3", delta=0.1), new[:60])
    schema = TableSchema.learn(pa.table({name: fit[:, place] for place, name in enumerate("abcd")}))
    keep("table", Scorer.calibrate(model, held, alpha=0.1, inputs=schema), new[:60])
    events = EventRule(standardize=20, persistence=(2, 3), block=20, slot=5)
    series = np.sin(np.arange(360)[:, None] / 2 + np.arange(2)) + 0.2 * np.random.default_rng(3).normal(size=(360, 2))
    steps = Scorer.calibrate(model_of_windows(), series[:280], steps="last", events=events, alpha=1.0)
    series[340:] += 1
    keep("events", steps, series[280:])


def model_of_windows():
    """Principal components of windows of a series."""
    return PCAResidual(3).fit(everymodel.rows("train", (8, 2)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
