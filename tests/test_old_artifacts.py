"""Scorers that earlier versions wrote are read, decide the same, and can be saved again.

A folder of `tests/artifacts` holds a scorer, what it judged (`x.npy`, and `groups.npy` where there are groups) and what
was said then (`verdict.json`); `tests/keep_artifacts.py` writes those of a new schema.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from deepad import Scorer
from deepad.rooms import members
from deepad.scoring.artifact import SCHEMA
from deepad.scoring.models import COMPOSED

pytestmark = pytest.mark.filterwarnings("ignore:all 60 calibration scores equal 0")  # of ConstantScore
ARTIFACTS = sorted(path.parent for path in Path(__file__).parent.glob("artifacts/*/verdict.json"))
every = pytest.mark.parametrize("folder", ARTIFACTS, ids=lambda folder: folder.name)


def manifest(folder):
    return json.loads((folder / "scorer.json").read_text())


def judged(scorer, folder):
    groups = folder / "groups.npy"
    return scorer(np.load(folder / "x.npy"), groups=np.load(groups) if groups.exists() else None)


def test_scorers_of_every_schema_since_the_third_are_kept():
    assert {manifest(folder / "scorer")["schema"] for folder in ARTIFACTS} == set(range(3, SCHEMA + 1))


def test_a_scorer_of_every_model_is_kept_as_this_version_writes_it():
    kept = {manifest(folder / "scorer")["model"]["tag"] for folder in ARTIFACTS if f"schema-{SCHEMA}-" in folder.name}
    every = {**members("detectors", "Detector"), **members("baselines", "Baseline"), **COMPOSED}
    assert kept == set(every), "run tests/keep_artifacts.py"


@every
def test_a_scorer_of_an_earlier_version_decides_as_it_did(folder):
    told = json.loads((folder / "verdict.json").read_text())
    verdict = judged(Scorer.load(folder / "scorer"), folder)
    np.testing.assert_allclose(verdict.score, np.array(told["score"], float), rtol=1e-6)
    assert verdict.flagged.tolist() == told["flagged"]
    assert str(verdict.guarantee) == told["guarantee"]


@every
def test_a_scorer_of_an_earlier_version_is_saved_again_as_one_of_this(folder, tmp_path):
    scorer = Scorer.load(folder / "scorer")
    scorer.save(tmp_path)
    again = Scorer.load(tmp_path)
    assert manifest(tmp_path)["schema"] == SCHEMA
    assert again.id == manifest(tmp_path)["id"] == scorer.id
    assert again.describe() == scorer.describe()
    assert again.provenance == manifest(folder / "scorer")["data"]
    before, after = judged(scorer, folder), judged(again, folder)
    assert before.score.tobytes() == after.score.tobytes()
    assert before.flagged.tolist() == after.flagged.tolist()
    assert before.guarantee == after.guarantee
