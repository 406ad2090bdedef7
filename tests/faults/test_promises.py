"""What a scorer says of scores of any sign, and what it does not say without a calibration."""

import json

import numpy as np
import pytest

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.errors import ArtifactCorruptError, ArtifactError
from deepad.rooms import members
from deepad.scoring.artifact import canonical_json, sealed

CODE = ["os.system", "deepad.detectors.dense.DenseAutoencoder", "${PATH}", "__import__('os').system('touch sung')"]


def rows(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, 4))


class Shifted(PCAResidual):
    """A score below 0, as bounds of a likelihood may be."""

    def _score(self, x):
        return super()._score(x) - 64


def test_scores_below_zero_are_judged_as_those_above():
    fit, held, new = rows(200, 0), rows(300, 1), 1.5 * rows(500, 2)
    plain, shifted = (Scorer.calibrate(kind(1).fit(fit), held, alpha=0.1) for kind in (PCAResidual, Shifted))
    assert shifted.threshold.value < 0
    one, other = plain(new), shifted(new)
    assert (other.score < 0).all()
    assert one.flagged.tolist() == other.flagged.tolist()
    assert one.p_value.tolist() == other.p_value.tolist()
    assert one.guarantee == other.guarantee


def test_there_is_no_threshold_without_a_calibration():
    model = PCAResidual(1).fit(rows(100, 0))
    with pytest.raises(TypeError, match="calibration"):
        Scorer(model)
    for kind in (*members("detectors", "Detector").values(), *members("baselines", "Baseline").values()):
        assert not {"threshold", "predict", "flag"} & {name for name in vars(kind) if not name.startswith("_")}, kind


@pytest.mark.parametrize("code", CODE)
def test_a_name_of_code_anywhere_in_a_manifest_runs_nothing(code, tmp_path, monkeypatch):
    """In the place of each value, and as a further key of each object."""
    monkeypatch.chdir(tmp_path)
    Scorer.calibrate(PCAResidual(1).fit(rows(100, 0)), rows(100, 1)).save("scorer")
    path = tmp_path / "scorer" / "scorer.json"
    whole = json.loads(path.read_text())
    refused = 0
    for changed in (
        *replaced(whole, code),
        *extended(whole, "_instantiator", code),
        *extended(whole, "__reduce__", [code]),
    ):
        path.write_bytes(canonical_json(sealed(changed) if isinstance(changed, dict) else changed))
        try:
            scorer = Scorer.load("scorer")
        except ArtifactError:
            refused += 1
            continue
        assert scorer(rows(10, 2)).score.shape == (10,)
    assert refused > 20
    assert not (tmp_path / "sung").exists()
    path.write_bytes(canonical_json(sealed({**whole, "_instantiator": code})))
    with pytest.raises(ArtifactCorruptError, match="unknown keys"):
        Scorer.load("scorer")


def replaced(value, other):
    """The document with one value replaced, for each."""
    yield other
    if isinstance(value, dict):
        yield from (
            {**value, key: changed} for key in value for changed in replaced(value[key], other) if key != "sha256"
        )
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from ([*value[:place], changed, *value[place + 1 :]] for changed in replaced(part, other))


def extended(value, key, other):
    """The document with a further key in one of its objects, for each."""
    if isinstance(value, dict):
        yield {**value, key: other}
        yield from ({**value, name: changed} for name in value for changed in extended(value[name], key, other))
