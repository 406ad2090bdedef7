"""Scores are made in float32 whatever the caller has set, and in smaller blocks on a device without much memory."""

from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from everymodel import DETECTORS, NAMES, fit_detector, rows, same, scorer, unseen
from torch.utils.data import DataLoader

from deepad import Scorer
from deepad.baselines.base import BLOCK
from deepad.detectors import DenseAutoencoder
from deepad.errors import CalibrationMismatchError, DeepadError, InputError
from deepad.scoring.blocks import contributions_of_block, rebuilt_of_block, scaled_of_block
from deepad.scoring.conformal import TIE_RTOL

deep = pytest.mark.parametrize("name", DETECTORS)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


AROUND = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "double": lambda: default_dtype(torch.float64),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:all 60 calibration scores equal 0")  # of ConstantScore
def test_what_is_set_around_scoring_changes_no_bit(name, around):
    x, expected = unseen(name), scorer(name)(unseen(name))
    with AROUND[around]():
        assert same(scorer(name)(x), expected)
        again = Scorer.calibrate(scorer(name).model, rows("calibration", x.shape[1:]), alpha=0.1)
    assert again.id == scorer(name).id
    assert again.calibration.scores.tobytes() == scorer(name).calibration.scores.tobytes()


@deep
def test_explanations_are_in_full_precision_under_autocast(name):
    model, block = scorer(name).model, unseen(name)[:20].astype(np.float32)
    for told in (contributions_of_block, rebuilt_of_block, scaled_of_block):
        expected = told(model, block)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert told(model, block).tobytes() == expected.tobytes()


@deep
def test_a_detector_left_in_training_scores_as_in_evaluation_and_is_left_as_it_was(name):
    model = deepcopy(scorer(name).model)
    judge, expected = Scorer(model, scorer(name).calibration, scorer(name).decision), scorer(name)(unseen(name))
    whole, part = [True] * len(list(model.modules())), [False] * len(list(model.modules()))
    part[-1] = True
    for modes in (whole, part):
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
        assert same(judge(unseen(name)), expected)
        assert [module.training for module in model.modules()] == modes


@deep
@pytest.mark.parametrize("width", ["half", "bfloat16", "double"])
def test_a_detector_of_another_width_is_refused_with_what_to_do(name, width):
    model = getattr(deepcopy(scorer(name).model), width)()
    judge, held_out = Scorer.calibrate(scorer(name).model, rows("calibration", model.shape)), unseen(name)
    object.__setattr__(judge, "model", model)  # what changes its width under a scorer
    for refused in (lambda: Scorer.calibrate(model, rows("calibration", model.shape)), lambda: judge(held_out)):
        with pytest.raises(InputError, match=f"^this {name} has weights in torch.* call float") as caught:
            refused()
        assert "\n" not in str(caught.value)
    model.float()
    Scorer.calibrate(model, rows("calibration", model.shape))


def test_a_buffer_of_ones_own_may_have_any_width():
    model = deepcopy(scorer("DenseAutoencoder").model)
    model.register_buffer("seen", torch.zeros(3, dtype=torch.float64))
    expected = scorer("DenseAutoencoder")(unseen("DenseAutoencoder"))
    found = Scorer.calibrate(model, rows("calibration", model.shape), alpha=0.1)(unseen("DenseAutoencoder"))
    assert same(found, expected)


@deep
@pytest.mark.parametrize("width", ["half", "bfloat16"])
def test_a_detector_whose_width_changed_after_calibration_is_not_saved(name, width, tmp_path):
    model = deepcopy(scorer(name).model)
    judge = Scorer(model, scorer(name).calibration)
    getattr(model, width)()
    with pytest.raises(CalibrationMismatchError):
        judge.save(tmp_path / "scorer")
    assert not (tmp_path / "scorer").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_after_training_in_any_precision_scores_are_those_of_float32_and_are_kept(precision, tmp_path):
    shape = (4,)
    x = [rows(split, shape).astype(np.float32) for split in ("train", "val")]
    model = fit_detector("DenseAutoencoder", shape, *x, epochs=2, precision=precision)
    assert {value.dtype for value in model.state_dict().values()} <= {torch.float32, torch.bool}
    judge = Scorer.calibrate(model, rows("calibration", shape), alpha=0.1)
    verdict = judge(rows("test", shape))
    exact = deepcopy(model).double()
    with torch.no_grad():
        score = exact.score(torch.tensor(rows("test", shape))).numpy()
    np.testing.assert_allclose(verdict.score, score, rtol=TIE_RTOL)
    judge.save(tmp_path / "scorer")
    assert same(Scorer.load(tmp_path / "scorer")(rows("test", shape)), verdict)


@deep
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_predicts_in_full_precision(name, precision, tmp_path):
    x = torch.tensor(unseen(name)[:BLOCK], dtype=torch.float32)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", precision=precision, **options)
    predicted = trainer.predict(deepcopy(scorer(name).model), DataLoader(x, BLOCK))
    np.testing.assert_allclose(predicted[0]["score"], scorer(name)(x).score, rtol=TIE_RTOL)


# ---- no memory -----------------------------------------------------------------------------------------------------


class Cramped(DenseAutoencoder):
    """Has memory for some rows at once, and counts how many each call had."""

    most = BLOCK

    def contributions(self, x):
        self.asked.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no room")
        return super().contributions(x)


@pytest.fixture
def cramped():
    model = deepcopy(scorer("DenseAutoencoder").model)
    model.__class__ = Cramped
    model.asked = []
    return model


@pytest.mark.parametrize("most", [BLOCK, 255, 100, 7, 1])
def test_a_block_without_room_goes_in_halves_with_the_same_decisions(cramped, most):
    shape, x = cramped.shape, unseen("DenseAutoencoder")
    cramped.most = most
    judge = Scorer.calibrate(cramped, rows("calibration", shape), alpha=0.1)
    for n in (1, 3, BLOCK, len(x)):
        cramped.asked.clear()
        verdict, expected = judge(x[:n]), scorer("DenseAutoencoder")(x[:n])
        np.testing.assert_allclose(verdict.score, expected.score, rtol=TIE_RTOL)
        assert np.array_equal(verdict.flagged, expected.flagged)
        assert np.array_equal(verdict.p_value, expected.p_value)
        room = 2 ** int(np.log2(most))  # halves of a block are powers of 2
        done = [size for size in cramped.asked if size <= most]
        assert set(done) == {room}
        assert len(done) == sum(-(-min(BLOCK, n - start) // room) for start in range(0, n, BLOCK))


def test_a_sample_without_room_is_refused_in_one_line_and_the_detector_left_as_it_was(cramped):
    cramped.most = 0
    cramped.train()
    with pytest.raises(
        DeepadError, match=r"^one sample of shape \(4,\) does not fit into the memory of cpu: "
    ) as caught:
        Scorer.calibrate(cramped, rows("calibration", cramped.shape))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert cramped.training
    assert min(cramped.asked) == 1
