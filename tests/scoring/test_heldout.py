"""Stretches that trained a model are refused for calibration, and a series that only repeats itself is not."""

import numpy as np
import pytest

from deepad.baselines import PCAResidual
from deepad.channels import SeriesSchema
from deepad.data.windows import RULES, StepRule
from deepad.errors import DataLeakError, InputError, NonFiniteScoreError
from deepad.fingerprint import fingerprint_rows
from deepad.scoring.heldout import check_not_replayed, fingerprint_windows, score_samples, score_stretches
from deepad.scoring.steps import score_series

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


def test_a_stretch_that_trained_is_refused_however_often_or_in_which_pieces_it_comes():
    x = noise(240)
    for stride in (1, 3):
        for stretches in ([x, x], [x, x[::-1].copy(), x, x]):
            with pytest.raises(DataLeakError, match="the steps"):
                check(prints(x, stride), *stretches)
        pieces = [x[start : start + 60] for start in range(0, 240, 60)]
        with pytest.raises(DataLeakError, match="trained or selected this model"):
            check(prints(x, stride), *pieces)
        with pytest.raises(DataLeakError):
            check(prints(x, stride), *pieces, *pieces, noise(300, seed=1))


@pytest.mark.parametrize("size", [16, 24, 48])
def test_pieces_little_longer_than_a_window_are_evidence_together(size):
    x = noise(900)
    trained = fingerprint_windows([x], size)[0]
    pieces = fingerprint_windows([x[start : start + 60] for start in range(0, 900, 60)], size)
    for piece in pieces:
        check_not_replayed(trained, [piece], size)
    with pytest.raises(DataLeakError, match=r"15 of 15 stretches trained or selected this model"):
        check_not_replayed(trained, pieces, size)
    fresh = noise(900, seed=1)
    check_not_replayed(trained, fingerprint_windows([fresh[i : i + 60] for i in range(0, 900, 60)], size), size)


def test_events_that_come_again_in_long_stretches_add_up_to_nothing():
    """A level that changes once in training and once in each stretch: the windows over the change are known."""
    size = 64

    def steps(levels):
        return np.repeat(np.array(levels, np.float32)[:, None], 300, axis=0)

    trained = np.concatenate(fingerprint_windows([steps([0, 1, 2, 3, 4, 5, 6])], size))
    stretches = [steps([level, level + 1]) for level in (3, 0, 5, 2)]
    check_not_replayed(trained, fingerprint_windows(stretches, size), size)


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
    assert [len(part) for part in scores] == [50, 3, 30]
    assert [np.isfinite(part).sum() for part in scores] == [rule.scored(len(stretch)) for stretch in stretches]
    assert len(rows) == 43 + 23


def test_what_trained_is_refused_before_anything_is_scored(model):
    with pytest.raises(DataLeakError):
        score_stretches(model, noise(60), None, StepRule(SIZE))


class Part:
    """What has steps and says which of them count."""

    def __init__(self, values, scored):
        self.values, self.scored = values, scored


@pytest.mark.parametrize("rule", RULES)
def test_only_the_steps_that_are_scored_calibrate(model, rule):
    rule = StepRule(SIZE, rule)
    x = [noise(50, seed=1), noise(30, seed=2), noise(5, seed=3)]
    masks = [np.arange(len(values)) >= context for values, context in zip(x, (SIZE - 1, 3, 0), strict=True)]
    scores, rows = score_stretches(model, [Part(*part) for part in zip(x, masks, strict=True)], None, rule)
    expected = [score_series(model, rule, values)[mask] for values, mask in zip(x, masks, strict=True)]
    for part, scored, mask in zip(scores, expected, masks, strict=True):
        np.testing.assert_array_equal(part[mask], scored)
        assert np.isnan(part[~mask]).all()
    assert len(rows) == 43 + 23
    (one,), _ = score_stretches(model, Part(x[0], masks[0]), None, rule)
    assert one[SIZE - 1 :].tolist() == score_series(model, rule, x[0])[SIZE - 1 :].tolist()


def test_stretches_that_say_nonsense_about_their_steps_are_refused(model):
    x = noise(50, seed=1)
    with pytest.raises(InputError, match="with and without `scored`"):
        score_stretches(model, [Part(x, np.ones(50, bool)), x], None, StepRule(SIZE))
    for scored in (np.ones(49, bool), np.ones(50)):
        with pytest.raises(InputError, match="must say true or false of each of 50 steps"):
            score_stretches(model, [Part(x, scored)], None, StepRule(SIZE))


def test_windows_of_a_series_may_recur_where_samples_may_not():
    wave = np.round(np.sin(np.arange(600) / 25 * 2 * np.pi), 2)[:, None].repeat(2, 1).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(wave, SIZE, 0).swapaxes(1, 2)
    model, schema = PCAResidual(3).fit(windows[:300]), SeriesSchema(("a", "b"))
    with pytest.raises(DataLeakError, match="calibration rows trained"):
        score_samples(model, windows[350:], None)
    assert len(score_samples(model, windows[350:], schema)[0]) == len(windows) - 350
    x = noise(300)
    windows = np.lib.stride_tricks.sliding_window_view(x, SIZE, 0).swapaxes(1, 2)
    with pytest.raises(DataLeakError, match="the steps 0 to"):
        score_samples(PCAResidual(3).fit(windows), windows[100:], schema)


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
