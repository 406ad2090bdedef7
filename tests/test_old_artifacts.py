"""Scorers that earlier versions wrote are read, decide the same, and can be saved again.

A folder of `tests/artifacts` holds a scorer, what it judged (`x.npy`) and what was said then (`verdict.json`).
"""

import json
from pathlib import Path

import numpy as np
import pytest

from deepad import Scorer
from deepad.scoring.artifact import SCHEMA

ARTIFACTS = sorted(path.parent for path in Path(__file__).parent.glob("artifacts/*/verdict.json"))
every = pytest.mark.parametrize("folder", ARTIFACTS, ids=lambda folder: folder.name)


def manifest(folder):
    return json.loads((folder / "scorer.json").read_text())


def test_scorers_of_every_schema_since_the_third_are_kept():
    assert {manifest(folder / "scorer")["schema"] for folder in ARTIFACTS} >= {3}


@every
def test_a_scorer_of_an_earlier_version_decides_as_it_did(folder):
    x, told = np.load(folder / "x.npy"), json.loads((folder / "verdict.json").read_text())
    verdict = Scorer.load(folder / "scorer")(x)
    np.testing.assert_allclose(verdict.score, np.array(told["score"], float), rtol=1e-6)
    assert verdict.flagged.tolist() == told["flagged"]
    assert str(verdict.guarantee) == told["guarantee"]


@every
def test_a_scorer_of_an_earlier_version_is_saved_again_as_one_of_this(folder, tmp_path):
    x, scorer = np.load(folder / "x.npy"), Scorer.load(folder / "scorer")
    scorer.save(tmp_path)
    again = Scorer.load(tmp_path)
    assert manifest(tmp_path)["schema"] == SCHEMA
    assert again.id == manifest(tmp_path)["id"] == scorer.id
    assert again.describe() == scorer.describe()
    assert again.provenance == manifest(folder / "scorer")["data"]
    before, after = scorer(x), again(x)
    assert before.score.tobytes() == after.score.tobytes()
    assert before.flagged.tolist() == after.flagged.tolist()
    assert before.guarantee == after.guarantee
