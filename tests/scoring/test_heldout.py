"""Stretches that trained a model are refused for calibration, and a series that only repeats itself is not."""

import numpy as np
import pytest

from deepad.baselines import PCAResidual
from deepad.data.windows import RULES, StepRule
from deepad.errors import DataLeakError, InputError, NonFiniteScoreError
from deepad.fingerprint import fingerprint_rows
from deepad.scoring.heldout import check_not_replayed, fingerprint_windows, score_stretches

SIZE = 8


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)


def prints(x, stride=1):
    return fingerprint_windows([x], SIZE)[0][::stride]


def check(trained, *stretches):
    check_not_replayed(trained, fingerprint_windows(stretches, SIZE), SIZE)


@pytest.mark.parametrize("stride", [1, 2, 3, SIZE // 2 + 1, SIZE])
def test_a_stretch_that_trained_is_refused_whatever_the_training_stride(stride):
    x = noise(200)
    with pytest.raises(DataLeakError, match=r"the steps \d+ to \d+ trained or selected this model"):
        check(prints(x, stride), x)
    with pytest.raises(DataLeakError):
        check(prints(x, stride), noise(200, seed=1), np.concatenate([noise(50, seed=2), x[60:140]]))
    check(prints(x, stride), noise(200, seed=1))


def test_the_steps_that_are_refused_are_named():
    x = noise(200)
    with pytest.raises(DataLeakError, match="the steps 50 to 129 trained"):
        check(prints(x), np.concatenate([noise(50, seed=1), x[100:180], noise(50, seed=2)]))


def test_training_and_validation_windows_of_other_strides_are_found_together():
    x = noise(200)
    fitted = np.concatenate([prints(x[:100], 3), prints(x[100:])])
    for stretch in (x[:100], x[100:], x):
        with pytest.raises(DataLeakError):
            check(fitted, stretch)


def test_a_stretch_that_shares_little_is_not_refused():
    x = noise(200)
    for shared in (2 * SIZE, 50):
        check(prints(x), np.concatenate([noise(50, seed=1), x[:shared], noise(50, seed=2)]))


@pytest.mark.parametrize("period", [3, SIZE, 25, 60])
def test_a_series_that_repeats_itself_without_noise_is_not_refused(period):
    x = np.tile(noise(period), (20, 1))
    check(prints(x), x[: 2 * period + SIZE])
    check(prints(x, 3), x)
    pieces = [x[start : start + period] for start in range(0, 5 * period, period)]
    check(prints(x), *pieces)


def test_constant_stretches_are_not_refused():
    check(prints(np.zeros((100, 2), np.float32)), np.zeros((300, 2), np.float32))


def test_single_events_on_a_quiet_line_are_not_refused():
    """Each window around an event is one that trained, but the events never followed each other like this."""

    def line(events, n=400):
        x = np.zeros((n, 2), np.float32)
        for place, height in events:
            x[place] = height
        return x

    trained = prints(line([(50, 1), (150, 2), (250, 3), (350, 4)]))
    for distance in range(SIZE + 1, 3 * SIZE):
        check(trained, line([(100 + i * distance, height) for i, height in enumerate((3, 1, 4, 2))]))
    busy = line([(place, place) for place in range(100, 200, 3)])
    with pytest.raises(DataLeakError):
        check(prints(busy), busy)


def test_fingerprints_of_windows_are_those_of_each_alone():
    x = noise(20)
    (found,) = fingerprint_windows([x], SIZE)
    expected = [fingerprint_rows(x[None, start : start + SIZE])[0] for start in range(20 - SIZE + 1)]
    assert found.tolist() == expected
    assert [len(part) for part in fingerprint_windows([x[:3], x[:SIZE], x[:0]], SIZE)] == [0, 1, 0]


# ---- scores of stretches -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="model")
def _model():
    windows = np.lib.stride_tricks.sliding_window_view(noise(60), SIZE, 0).swapaxes(1, 2)
    return PCAResidual(3).fit(windows)


@pytest.mark.parametrize("rule", RULES)
def test_every_step_that_a_window_scores_calibrates(model, rule):
    rule = StepRule(SIZE, rule)
    stretches = [noise(50, seed=1), noise(3, seed=2), noise(30, seed=3)]
    scores, rows = score_stretches(model, stretches, None, rule)
    assert len(scores) == sum(rule.scored(len(stretch)) for stretch in stretches)
    assert np.isfinite(scores).all()
    assert len(rows) == 43 + 23


def test_what_trained_is_refused_before_anything_is_scored(model):
    with pytest.raises(DataLeakError):
        score_stretches(model, noise(60), None, StepRule(SIZE))


def test_stretches_without_a_window_are_refused_with_the_longest(model):
    with pytest.raises(InputError, match=r"a window of 8 steps does not fit .* at most 7 steps: give longer ones"):
        score_stretches(model, [noise(7), noise(3)], None, StepRule(SIZE))


@pytest.mark.parametrize("rule", ["last", "window", "mean"])
def test_a_normal_step_that_the_model_fails_to_score_does_not_calibrate_silently(rule):
    from deepad import Scorer

    class Silent(PCAResidual):
        def _contributions(self, x):
            return np.where(np.abs(x).max(1, keepdims=True) > 1e6, np.nan, super()._contributions(x))

    windows = np.lib.stride_tricks.sliding_window_view(noise(60), SIZE, 0).swapaxes(1, 2)
    x = noise(100, seed=1)
    x[50] = 1e7
    with pytest.raises(NonFiniteScoreError):
        Scorer.calibrate(Silent(3).fit(windows), x, steps=rule)
