import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import train

from deepad import Calibration, Scorer
from deepad.atomic import LOCKED
from deepad.baselines import PCAResidual
from deepad.baselines.base import BLOCK
from deepad.detectors import DenseAutoencoder
from deepad.errors import (
    ArtifactCorruptError,
    CalibrationMismatchError,
    DataLeakError,
    InputError,
    InsufficientCalibrationError,
    NonFiniteScoreError,
)
from deepad.scoring.artifact import canonical_json, sealed


@pytest.fixture(scope="module")
def test_images(digits):
    return digits.splits.test.x[digits.splits.test.index].numpy()


@pytest.fixture(scope="module", params=["detector", "baseline"])
def any_scorer(request, scorer, digits):
    if request.param == "detector":
        return scorer
    rows = digits.splits.train
    return Scorer.calibrate(PCAResidual(6).fit(rows.x[rows.index].numpy()), digits.calibration_dataloader())


def test_a_verdict_agrees_with_itself(any_scorer, test_images):
    verdict = any_scorer(test_images)
    assert np.array_equal(verdict.flagged, verdict.p_value <= verdict.alpha)
    assert np.array_equal(verdict.flagged, any_scorer.threshold.flag(verdict.score))
    assert np.array_equal(verdict.p_value, any_scorer.calibration.p_values(verdict.score))
    assert verdict.threshold == any_scorer.threshold.value
    assert len(verdict) == len(test_images)
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.alpha = 0.5


def test_what_is_saved_loads_and_scores_the_same(any_scorer, test_images, tmp_path):
    any_scorer.save(tmp_path / "a")
    again = Scorer.load(tmp_path / "a")
    before, after = any_scorer(test_images), again(test_images)
    assert again.id == any_scorer.id
    assert np.array_equal(before.score, after.score)
    assert np.array_equal(before.p_value, after.p_value)
    assert np.array_equal(before.flagged, after.flagged)
    assert before.guarantee == after.guarantee
    assert again.provenance == any_scorer.provenance
    again.save(tmp_path / "b")
    payloads = [{p.name for p in (tmp_path / name).glob("*.safetensors")} for name in "ab"]
    assert payloads[0] == payloads[1]


def test_a_row_scores_the_same_alone_and_in_any_company(any_scorer, test_images):
    whole = any_scorer(test_images).score
    assert np.array_equal(np.concatenate([any_scorer(x[None]).score for x in test_images[:50]]), whole[:50])
    batches = (test_images[i : i + 37] for i in range(0, len(test_images), 37))
    assert np.array_equal(any_scorer(batches).score, whole)
    assert np.array_equal(any_scorer(test_images[::-1]).score, whole[::-1])


def test_input_may_come_in_any_numeric_form(any_scorer, test_images, tmp_path):
    expected = any_scorer(test_images).score
    locked = test_images.copy()
    locked.flags.writeable = False
    np.save(tmp_path / "x.npy", test_images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    forms = [locked, mapped, torch.from_numpy(test_images), test_images[:, 0], test_images.astype(">f8")]
    forms += [test_images.astype(kind) for kind in ("float64", "float32", "int16", "uint64")]
    forms += [np.asfortranarray(test_images), test_images.tolist(), torch.from_numpy(test_images).bfloat16()]
    for form in forms:
        assert np.array_equal(any_scorer(form).score, expected)


def test_the_level_can_change_by_call_but_never_beyond_what_can_be_promised(any_scorer, test_images):
    strict, loose = any_scorer(test_images, alpha=0.01), any_scorer(test_images, alpha=0.2)
    assert (strict.flagged <= loose.flagged).all()
    assert strict.threshold > loose.threshold
    careful = any_scorer(test_images, alpha=0.05, kind="pac", delta=0.05)
    assert careful.threshold > any_scorer(test_images, alpha=0.05).threshold
    assert careful.guarantee.kind == "pac"
    with pytest.raises(InsufficientCalibrationError, match="needs at least 9999"):
        any_scorer(test_images, alpha=1e-4)


def test_the_realised_false_alarm_rate_follows_the_law(any_scorer, digits, test_images):
    y = digits.test_labels()
    verdict = any_scorer(test_images)
    low, high = verdict.guarantee.future_alarms(int((y == 0).sum()), level=0.999)
    assert low <= (verdict.flagged & (y == 0)).sum() <= high


def test_a_model_without_a_score_flags_and_says_so(digits, test_images):
    class Silent(PCAResidual):
        def _score(self, x):
            return np.where(x.sum(1) > 1e6, np.nan, super()._score(x))

    rows = digits.splits.train
    scorer = Scorer.calibrate(Silent(6).fit(rows.x[rows.index].numpy()), digits.calibration_dataloader())
    x = test_images[:5].astype(float)
    x[3] = 1e6
    verdict = scorer(x)
    assert verdict.invalid.tolist() == [False, False, False, True, False]
    assert verdict.flagged[3]
    assert np.isnan(verdict.p_value[3])
    with pytest.raises(NonFiniteScoreError, match="1 of 6 calibration scores"):
        Scorer.calibrate(scorer.model, np.concatenate([x, x[:1]]))


def test_calibration_and_model_must_belong_together(scorer, trained, digits, tmp_path):
    loose = Calibration.fit(scorer.calibration.scores)
    with pytest.raises(CalibrationMismatchError, match="unknown"):
        Scorer(scorer.model, loose)
    torch.manual_seed(1)
    other = DenseAutoencoder(digits.shape, hidden_dims=(64,), latent_dim=6)
    train(other, digits, tmp_path, max_epochs=1)
    with pytest.raises(CalibrationMismatchError, match="calibrate this model"):
        Scorer(other, scorer.calibration)


def test_a_model_trained_on_after_calibration_is_not_saved(digits, tmp_path):
    torch.manual_seed(1)
    detector = DenseAutoencoder(digits.shape, hidden_dims=(16,), latent_dim=4)
    train(detector, digits, tmp_path, max_epochs=1)
    scorer = Scorer.calibrate(detector, digits.calibration_dataloader())
    with torch.no_grad():
        detector.encoder[0].weight += 0.1
    with pytest.raises(CalibrationMismatchError):
        scorer.save(tmp_path / "scorer")
    assert not (tmp_path / "scorer").exists()


def test_a_baseline_refuses_its_own_training_rows(digits):
    rows = digits.splits.train
    x = rows.x[rows.index].numpy()
    with pytest.raises(DataLeakError, match=f"{len(x)} of {len(x)}"):
        Scorer.calibrate(PCAResidual(6).fit(x), x.astype(np.float64))


def test_nothing_to_judge_is_refused(any_scorer):
    for nothing in (np.empty((0, 1, 8, 8)), iter([])):
        with pytest.raises(InputError, match="no samples"):
            any_scorer(nothing)
    with pytest.raises(InputError, match="got none"):
        Scorer.calibrate(any_scorer.model, np.empty((0, 1, 8, 8)))


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"room": "detectors", "tag": "os.system", "arguments": {}, "shape": [1]}},
        {"model": {"room": "os", "tag": "DenseAutoencoder", "arguments": {}, "shape": [1]}},
        {
            "model": {
                "room": "detectors",
                "tag": "DenseAutoencoder",
                "arguments": {"_instantiator": "os.system"},
                "shape": [1],
            }
        },
        {
            "model": {
                "room": "detectors",
                "tag": "DenseAutoencoder",
                "arguments": {"shape": [10**9, 10**9]},
                "shape": [1],
            }
        },
        {"model": None},
        {"calibration": {"n": 3, "tie_rtol": 1e-5, "scorer_id": "0"}},
        {"calibration": None},
        {"decision": {"alpha": "0.05", "kind": "marginal", "delta": None}},
        {"decision": {"alpha": 0.05, "kind": "certain", "delta": None}},
        {"id": "0" * 64},
    ],
)
def test_a_manifest_that_describes_something_else_is_refused(saved, tmp_path, change):
    shutil.copytree(saved, tmp_path / "scorer")
    path = tmp_path / "scorer" / "scorer.json"
    path.write_bytes(canonical_json(sealed({**json.loads(path.read_text()), **change})))
    with pytest.raises((ArtifactCorruptError, CalibrationMismatchError)):
        Scorer.load(tmp_path / "scorer")


def test_blocks_hide_no_row(any_scorer, test_images):
    for n in (1, BLOCK - 1, BLOCK, BLOCK + 1):
        repeated = np.resize(test_images, (n, *test_images.shape[1:]))
        assert len(any_scorer(repeated)) == n


def test_scorer_is_safe_to_share_between_threads(any_scorer, test_images):
    from concurrent.futures import ThreadPoolExecutor

    expected = any_scorer(test_images).score
    with ThreadPoolExecutor(4) as pool:
        for verdict in pool.map(any_scorer, [test_images] * 8):
            assert np.array_equal(verdict.score, expected)


@pytest.mark.parametrize("tie_rtol", [-1e-3, 0.5, "0", None, 1e999])
def test_a_tie_tolerance_that_no_calibration_has_is_refused(saved, tmp_path, tie_rtol):
    shutil.copytree(saved, tmp_path / "scorer")
    path = tmp_path / "scorer" / "scorer.json"
    document = json.loads(path.read_text())
    document["calibration"]["tie_rtol"] = tie_rtol
    path.write_text(
        json.dumps(sealed(document)) if tie_rtol != math.inf else path.read_text().replace("1e-05", "1e999")
    )
    with pytest.raises(ArtifactCorruptError):
        Scorer.load(tmp_path / "scorer")


def test_what_a_kill_left_behind_is_cleared_by_the_next_save(scorer, tmp_path):
    scorer.save(tmp_path)
    (tmp_path / f"{LOCKED}abcd_123").write_bytes(b"half")
    scorer.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_contamination_is_refused_with_what_to_give(scorer, digits):
    with pytest.raises(InputError, match=r"contamination=0.1 .* give alpha"):
        Scorer.calibrate(scorer.model, digits.calibration_dataloader(), contamination=0.1)
