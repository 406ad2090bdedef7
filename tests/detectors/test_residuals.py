"""Errors of reconstructions, and the Gaussian of the errors of windows."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import oas

from deepad.detectors.residuals import (
    ENERGY_FLOOR,
    GaussianErrors,
    ReconstructionError,
    bernoulli_divergence,
    energy,
    require_unit_range,
)

ERRORS = ["squared", "absolute", "bernoulli"]


def naive_error(kind, u, v):
    """The error of one part, by the definition."""
    if kind == "squared":
        return (u - v) ** 2
    if kind == "absolute":
        return abs(u - v)
    w, p = min(max(u, 0.0), 1.0), 1 / (1 + math.exp(-v))
    return float(scipy.stats.entropy([w, 1 - w], [p, 1 - p])) + abs(u - w)


def values(shape, low=-2.0, high=2.0):
    return hnp.arrays(np.float64, shape, elements=st.floats(low, high))


shapes = st.one_of(
    st.tuples(st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
)


@st.composite
def pairs(draw):
    shape = (draw(st.integers(1, 3)), *draw(shapes))
    return torch.from_numpy(draw(values(shape))), torch.from_numpy(draw(values(shape, -6, 6)))


@pytest.mark.parametrize("kind", ERRORS)
@settings(deadline=None)
@given(pair=pairs())
def test_an_error_is_what_its_definition_says(kind, pair):
    u, v = pair
    errors = ReconstructionError(kind, "error").errors(u, v)
    naive = [naive_error(kind, a, b) for a, b in zip(u.flatten().tolist(), v.flatten().tolist(), strict=True)]
    np.testing.assert_allclose(errors.flatten().numpy(), naive, rtol=1e-9, atol=1e-12)
    assert (ReconstructionError(kind, "error").errors(u.float(), v.float()) >= 0).all()


@pytest.mark.parametrize("kind", ERRORS)
@settings(deadline=None)
@given(pair=pairs())
def test_the_loss_is_the_mean_error_whichever_the_score(kind, pair):
    u, v = pair
    for score in ("error", "relative"):
        error = ReconstructionError(kind, score)
        torch.testing.assert_close(error.loss(u, v), error.errors(u, v).mean())
        torch.testing.assert_close(error.log_mean(u, v).exp(), error.errors(u, v).flatten(1).mean(1).clamp_min(1e-12))


@pytest.mark.parametrize("kind", ERRORS)
@settings(deadline=None)
@given(pair=pairs())
def test_a_relative_score_is_the_error_over_the_energy_of_the_sample(kind, pair):
    u, v = pair
    plain = ReconstructionError(kind, "error").contributions(u, v)
    relative = ReconstructionError(kind, "relative").contributions(u, v)
    for row, part, whole in zip(u, relative, plain, strict=True):
        size = sum(abs(a) if kind == "absolute" else a * a for a in row.flatten().tolist())
        floor = ENERGY_FLOOR * row.numel()
        np.testing.assert_allclose(part, whole / max(size, floor), rtol=1e-9, atol=1e-15)


def test_an_empty_sample_has_the_least_energy_for_its_size():
    u = torch.zeros(2, 3, 4)
    assert torch.equal(energy(u), torch.full((2,), ENERGY_FLOOR * 12))
    assert torch.equal(energy(u, absolute=True), torch.full((2,), ENERGY_FLOOR * 12))
    relative = ReconstructionError("squared", "relative").contributions(u, torch.ones_like(u))
    torch.testing.assert_close(relative.sum((1, 2)), torch.full((2,), 1 / ENERGY_FLOOR))


def test_the_divergence_is_zero_exactly_where_the_probability_is_the_value():
    u = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
    v = torch.logit(u, eps=1e-15)
    torch.testing.assert_close(bernoulli_divergence(u, v), torch.zeros_like(u), rtol=0, atol=1e-14)
    for other in (v + 0.3, v - 0.3):
        assert (bernoulli_divergence(u, other)[1:3] > 0.001).all()


def test_rounding_makes_no_divergence_negative():
    u = torch.linspace(0, 1, 10_001)
    assert (bernoulli_divergence(u, torch.logit(u, eps=1e-7)) >= 0).all()


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(0, 5))
def test_the_divergence_of_a_value_outside_grows_by_its_distance(v, beyond):
    v = torch.tensor(v, dtype=torch.float64)
    for end, out in ((0.0, -beyond), (1.0, 1 + beyond)):
        at_end, outside = (bernoulli_divergence(torch.tensor(u, dtype=torch.float64), v) for u in (end, out))
        torch.testing.assert_close(outside, at_end + beyond)


def test_the_mean_of_a_decoder_output_is_in_scaled_units():
    v = torch.linspace(-3, 3, 7)
    assert torch.equal(ReconstructionError("bernoulli", "error").mean(v), v.sigmoid())
    assert torch.equal(ReconstructionError("squared", "error").mean(v), v)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="loss must be squared, absolute or bernoulli, got 'huber'"):
        ReconstructionError("huber", "error")
    with pytest.raises(ValueError, match="score must be error or relative, got 'percent'"):
        ReconstructionError("squared", "percent")


@pytest.mark.parametrize("scaling", ["standard", "robust", "quantile"])
def test_bernoulli_is_refused_for_every_scaling_that_leaves_the_unit_range(scaling):
    with pytest.raises(ValueError, match=f"needs values in \\[0, 1\\], which scaling='{scaling}' does not give"):
        require_unit_range("loss", scaling)
    for good in ("range", "none"):
        require_unit_range("loss", good)


# ---- the Gaussian of the errors of windows


def naive_gaussian(errors):
    """Mean (C,), scale of each step (T,) and covariance (C, C) of errors (N, T, C), step by step in numpy."""
    n, steps, channels = errors.shape
    mean = errors.reshape(-1, channels).mean(0)
    centred = errors - mean
    size = np.array([math.sqrt(np.square(centred[:, t]).mean()) for t in range(steps)])
    step = np.maximum(size / size.mean(), 0.01)
    rows = (centred / step[:, None]).reshape(-1, channels)
    covariance = rows.T @ rows / len(rows)
    spread = np.sqrt(np.diag(covariance))
    s, p = covariance / np.outer(spread, spread), channels
    if p == 1:
        return mean, step, covariance
    square, trace = np.trace(s @ s), np.trace(s)
    below = (n + 1 - 2 / p) * (square - trace**2 / p)
    rho = 1.0 if below <= 0 else min(1.0, ((1 - 2 / p) * square + trace**2) / below)  # OAS, equation 23
    rho = max(rho, 1e-4)
    return mean, step, ((1 - rho) * s + rho * trace / p * np.eye(p)) * np.outer(spread, spread)


def some_errors(n, steps, channels, seed=0):
    """Correlated errors, with channels of very different sizes and steps that grow less sure."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(channels, channels)) + 2 * np.eye(channels)
    size = 10.0 ** rng.uniform(-2, 2, channels)
    return (
        (rng.normal(size=(n, steps, channels)) @ mix + rng.normal(size=channels))
        * size
        * (1 + np.arange(steps)[:, None])
    )


def learned(errors, batch=1000):
    gaussian = GaussianErrors(errors.shape[1:])
    gaussian.learn(torch.split(torch.from_numpy(errors).float(), batch))
    return gaussian


CASES = [(400, 6, 3), (40, 1, 5), (7, 3, 4), (200, 5, 1), (2, 2, 2)]


@pytest.mark.parametrize(("n", "steps", "channels"), CASES)
def test_the_gaussian_is_that_of_its_definition(n, steps, channels):
    errors = some_errors(n, steps, channels).astype(np.float32)
    mean, step, covariance = naive_gaussian(errors.astype(np.float64))
    gaussian = learned(errors)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(gaussian.mean.numpy() / scale, mean / scale, atol=1e-5)
    np.testing.assert_allclose(gaussian.step, step, rtol=1e-5)
    whiten = gaussian.whiten.double().numpy()
    np.testing.assert_allclose(whiten @ covariance @ whiten.T, np.eye(channels), atol=1e-4)
    np.testing.assert_allclose(
        whiten * scale, (whiten * scale).T, atol=1e-4
    )  # of all roots the one most like the errors
    assert (np.linalg.eigvalsh(whiten * scale) > 0).all()


@pytest.mark.parametrize(("n", "steps", "channels"), CASES)
def test_the_score_is_the_squared_mahalanobis_distance_over_all_steps(n, steps, channels):
    errors = some_errors(n, steps, channels).astype(np.float32)
    mean, step, covariance = naive_gaussian(errors.astype(np.float64))
    inverse = np.linalg.inv(covariance)
    new = some_errors(20, steps, channels, seed=1).astype(np.float32)
    parts = learned(errors).contributions(torch.from_numpy(new))
    assert parts.shape == new.shape
    assert (parts >= 0).all()
    for window, part in zip(new.astype(np.float64), parts, strict=True):
        naive = [mahalanobis(window[t], mean, inverse) ** 2 / step[t] ** 2 for t in range(steps)]
        np.testing.assert_allclose(part.double().sum(1), naive, rtol=1e-3)


def test_batches_do_not_matter_to_what_is_learned():
    errors = some_errors(100, 4, 3)
    whole, parts = learned(errors), learned(errors, batch=7)
    for one, other in zip(whole.buffers(), parts.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n", "channels"), [(30, 60), (100, 40)])
def test_the_shrinkage_is_that_of_scikit_learn_up_to_its_leaving_out_of_small_terms(n, channels):
    """scikit-learn drops 2 / p from the formula of the source, which matters less the more channels there are."""
    errors = some_errors(n, 1, channels).astype(np.float32)
    rows = errors[:, 0].astype(np.float64)
    expected, _ = oas((rows - rows.mean(0)) / rows.std(0), assume_centered=True)
    spread = rows.std(0)
    inverse = np.linalg.inv(learned(errors).whiten.double().numpy())
    found = inverse @ inverse.T / np.outer(spread, spread)
    np.testing.assert_allclose(found, expected, atol=0.01)
    plain = np.corrcoef(rows.T)
    assert np.abs(expected - plain).max() > 0.1, "there is something to shrink"


def test_normal_windows_score_their_number_of_errors_on_average():
    """The mean squared Mahalanobis distance of the rows a covariance was taken from is the number of dimensions."""
    errors = some_errors(2000, 6, 3).astype(np.float32)
    score = learned(errors).contributions(torch.from_numpy(errors)).double().sum((1, 2)).mean()
    assert abs(score / 18 - 1) < 0.01


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda e: np.concatenate([e, e[:, :, :1]], 2), id="duplicated"),
        pytest.param(lambda e: np.concatenate([e, 3 - 2 * e[:, :, :1]], 2), id="mirrored"),
        pytest.param(lambda e: np.concatenate([e, np.full_like(e[:, :, :1], 0.7)], 2), id="constant"),
        pytest.param(np.zeros_like, id="no error at all"),
        pytest.param(lambda e: e[:1], id="one window"),
        pytest.param(lambda e: e[:, :1], id="one step"),
        pytest.param(lambda e: e[:, :, :1], id="one channel"),
        pytest.param(lambda e: e[:1, :1, :1], id="one number"),
        pytest.param(lambda e: e * np.array([0.0, 1, 1, 1, 1])[:, None], id="a step without error"),
        pytest.param(lambda e: e * 1e-6, id="small"),
        pytest.param(lambda e: e * 1e6, id="large"),
    ],
)
def test_whatever_the_errors_the_covariance_is_positive_definite_and_scores_are_finite(spoil):
    errors = spoil(some_errors(50, 5, 3)).astype(np.float32)
    gaussian = learned(errors)
    assert all(torch.isfinite(buffer).all() for buffer in gaussian.buffers())
    assert (gaussian.whiten.diagonal() > 0).all()
    assert (gaussian.step > 0).all()
    assert torch.isfinite(gaussian.contributions(torch.from_numpy(errors))).all()


def test_channels_that_are_the_same_are_never_taken_for_exactly_the_same():
    """However many windows agree, a difference between them must not count for infinitely much."""
    channel = torch.randn(1000, 4, 1, generator=torch.Generator().manual_seed(0))
    gaussian = GaussianErrors((4, 2))
    gaussian.learn(channel.expand(-1, -1, 2) for _ in range(300))
    correlation = gaussian.whiten.double().inverse()
    correlation = correlation @ correlation.T
    correlation = correlation / correlation.diagonal().mean()
    np.testing.assert_allclose(torch.linalg.eigvalsh(correlation), [1e-4, 2 - 1e-4], rtol=1e-2)


def test_a_constant_offset_of_the_errors_is_not_counted_as_spread():
    """In one pass, variances must not drown in the square of a large mean."""
    errors = some_errors(300, 4, 2)
    errors /= errors.std((0, 1))
    near, far = learned(errors), learned(errors + 1000)
    torch.testing.assert_close(far.mean - 1000, near.mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(far.whiten, near.whiten, rtol=1e-3, atol=1e-3)
