"""Scores of steps: the same by a loop over windows, at once or in chunks, and never from the future."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.baselines import PCAResidual
from deepad.baselines.base import BLOCK
from deepad.data.windows import CAUSAL, RULES, StepRule
from deepad.detectors import DenseAutoencoder, LSTMAutoencoder
from deepad.scoring.blocks import score_block, score_steps_of_block
from deepad.scoring.steps import CHUNK, StepScorer, score_series

exhaustive = settings(derandomize=True, deadline=None, max_examples=25)
SIZE, CHANNELS = 6, 2


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, CHANNELS)).astype(np.float32)


def untrained(kind, **arguments):
    torch.manual_seed(0)
    return kind((SIZE, CHANNELS), **arguments).eval()


MODELS = {
    "baseline": PCAResidual(3).fit(np.lib.stride_tricks.sliding_window_view(noise(60), SIZE, 0).swapaxes(1, 2)),
    "dense": untrained(DenseAutoencoder, hidden_dims=(8,), latent_dim=2),
    "lstm": untrained(LSTMAutoencoder, hidden_size=4, score="squared"),
}


@pytest.fixture(params=MODELS, name="model")
def _model(request):
    return MODELS[request.param]


def naive_scores(model, rule, x):
    """Scores (N,) of steps, one window at a time."""
    found = [[] for _ in x]
    for start in range(0, len(x) - rule.window_size + 1, rule.stride):
        window = x[None, start : start + rule.window_size]
        if rule.whole:
            covered = range(start, start + rule.window_size) if rule.rule == "cover" else [start + rule.window_size - 1]
            for step in covered:
                found[step].append(score_block(model, window)[0])
            continue
        parts = score_steps_of_block(model, window)[0]
        for place, part in enumerate(parts):
            if rule.rule != "last" or place == rule.window_size - 1:
                found[start + place].append(part)
    combine = {"mean": np.mean, "median": np.median, "max": np.max, "cover": np.mean}.get(
        rule.rule, lambda values: values[0]
    )
    return np.array([combine(values) if values else np.nan for values in found])


@pytest.mark.parametrize("rule", RULES)
@exhaustive
@given(stride=st.integers(1, SIZE), n=st.integers(0, 30))
def test_scores_of_steps_equal_a_loop_over_windows(rule, stride, n):
    rule, x = StepRule(SIZE, rule, stride), noise(n)
    for model in MODELS.values():
        expected = naive_scores(model, rule, x)
        scores = score_series(model, rule, x)
        np.testing.assert_allclose(scores, expected, rtol=1e-12)
        assert np.isfinite(scores).sum() == rule.scored(n)


@pytest.mark.parametrize("rule", RULES)
@exhaustive
@given(st.integers(1, SIZE), st.lists(st.integers(0, 20), max_size=8))
def test_chunks_give_the_bits_of_the_whole(rule, stride, chunks):
    n = sum(chunks) + 3
    rule, x = StepRule(SIZE, rule, stride), noise(n)
    for model in (MODELS["baseline"], MODELS["dense"]):
        scorer, told, begin = StepScorer(model, rule), [], 0
        buffer = np.empty((n, CHANNELS), np.float32)
        for length in [*chunks, 3]:
            chunk = buffer[:length]  # one buffer, filled again and again
            chunk[:] = x[begin : begin + length]
            begin += length
            told.append(scorer.push(chunk))
            buffer[:] = 1e6
            if rule.causal:
                assert scorer.told == begin, "a causal rule decides each step at once"
            assert scorer.told == sum(map(len, told)) >= begin - 2 * SIZE
        told.append(scorer.close())
        assert np.concatenate(told).tobytes() == score_series(model, rule, x).tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_blocks_and_chunks_of_a_long_series_give_the_bits_of_short_ones(model, rule):
    rule, x = StepRule(SIZE, rule), noise(CHUNK + BLOCK + 7)
    if rule.rule not in ("last", "mean") and model is MODELS["lstm"]:
        pytest.skip("one causal rule and one that is not are enough for the slowest model")
    scores = score_series(model, rule, x)
    near = slice(CHUNK - 100, CHUNK + 100)
    inner = score_series(model, rule, x[near])[SIZE:-SIZE]
    assert inner.tobytes() == scores[near][SIZE:-SIZE].tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_causal_scores_never_depend_on_the_future(model, rule):
    rule, x = StepRule(SIZE, rule), noise(300)
    before = score_series(model, rule, x)
    for now in (SIZE, 120, 298):
        changed = x.copy()
        changed[now + 1 :] += 1e3
        after = score_series(model, rule, changed)
        sure = now + 1 if rule.rule in CAUSAL else now + 1 - (SIZE - 1)
        assert after[:sure].tobytes() == before[:sure].tobytes()
        assert after[now + 1] != before[now + 1]
        if rule.rule == "mean":
            assert after[now] != before[now], "which looks ahead"


@pytest.mark.parametrize("stride", [1, 4, 6])
@pytest.mark.parametrize("rule", RULES)
def test_what_no_window_scores_is_nan_and_nothing_else_is(model, rule, stride):
    scores = score_series(model, StepRule(SIZE, rule, stride), noise(40))
    ends = np.arange(SIZE - 1, 40, stride)
    expected = set(ends) if rule in CAUSAL else set(range(ends[-1] + 1))
    assert set(np.flatnonzero(~np.isnan(scores))) == expected
    if rule in CAUSAL and stride == 1:
        assert np.isnan(scores[: SIZE - 1]).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_series_shorter_than_a_window_has_no_scores(model, rule):
    assert np.isnan(score_series(model, StepRule(SIZE, rule), noise(SIZE - 1))).all()
    assert len(score_series(model, StepRule(SIZE, rule), noise(0))) == 0


@pytest.mark.parametrize("stride", [1, 3, 6])
@pytest.mark.parametrize("rule", RULES)
def test_a_stream_keeps_no_more_than_a_window_needs(rule, stride):
    scorer = StepScorer(MODELS["baseline"], StepRule(SIZE, rule, stride))
    kept = []
    for start in range(0, 2000, 7):
        scorer.push(noise(7, start))
        kept.append(len(scorer._errors))
        assert len(scorer._windows.context) <= SIZE + stride
    assert max(kept) <= SIZE
    assert scorer.push(noise(CHUNK)).size > CHUNK - 2 * SIZE
    assert len(scorer._errors) <= SIZE, "nor after a long chunk"


@pytest.mark.parametrize("rule", RULES)
def test_a_window_that_the_model_fails_to_score_counts_as_infinite(rule):
    class Silent(PCAResidual):
        def _contributions(self, x):
            parts = super()._contributions(x)
            parts[np.abs(x).max(1) > 1e6] = np.nan
            return parts

    model = Silent(3).fit(noise(50).reshape(-1, SIZE - 1, CHANNELS).repeat(2, 1)[:, :SIZE])
    x = noise(40)
    x[20] = 1e7
    scores = score_series(model, StepRule(SIZE, rule), x)
    assert np.isinf(scores[20])
    assert np.isnan(scores).sum() == (SIZE - 1 if rule in CAUSAL else 0), "NaN means that no window scores a step"


def test_an_overflow_scores_infinity_and_spoils_no_other_window():
    x = noise(40)
    x[20] = 3e38
    for model in (MODELS["dense"], MODELS["lstm"]):
        for rule in RULES:
            scores = score_series(model, StepRule(SIZE, rule), x)
            assert np.isinf(scores[20])
            clean = score_series(model, StepRule(SIZE, rule), noise(40))
            far = np.r_[0 : 20 - SIZE, 20 + SIZE : 40]
            assert scores[far].tobytes() == clean[far].tobytes()


def test_the_scores_of_the_steps_of_a_window_add_up_to_its_score(model):
    windows = np.lib.stride_tricks.sliding_window_view(noise(30), SIZE, 0).swapaxes(1, 2)
    steps, whole = score_steps_of_block(model, windows), score_block(model, windows)
    np.testing.assert_allclose(steps.sum(1), whole, rtol=1e-5)
