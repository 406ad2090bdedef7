"""The law of false alarms among new samples, against its definition and at sizes where that cannot be summed."""

import tracemalloc

import numpy as np
import pytest
from conftest import within
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepad.scoring.counts import cdf, central_range, quantiles

exhaustive = settings(derandomize=True, deadline=None, max_examples=60)
LEVELS = (0.005, 0.025, 0.5, 0.975, 0.995)


@exhaustive
@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_law_is_the_beta_binomial_one(m, n, data):
    k = data.draw(st.integers(1, n))
    f = np.arange(m + 1)
    np.testing.assert_allclose(cdf(f, m, k, n), stats.betabinom.cdf(f, m, k, n + 1 - k), atol=1e-10)
    reached = np.array(LEVELS) - 1e-7  # scipy rounds a level that is reached exactly either way
    assert quantiles(LEVELS, m, k, n)[:, 0].tolist() == stats.betabinom.ppf(reached, m, k, n + 1 - k).tolist()


def test_laws_side_by_side_are_those_one_by_one():
    m, k, n = np.array([5, 500, 50_000]), np.array([1, 7, 300]), np.array([9, 99, 5000])
    together = quantiles(LEVELS, m, k, n)
    assert together.shape == (5, 3)
    for place in range(3):
        assert together[:, place].tolist() == quantiles(LEVELS, m[place], k[place], n[place])[:, 0].tolist()


def test_dealing_scores_at_random_gives_the_law():
    n, k, m, draws = 20, 3, 30, 20_000
    rng = np.random.default_rng(0)
    ranks = rng.permuted(np.broadcast_to(np.arange(n + m), (draws, n + m)), axis=1)
    threshold = np.sort(ranks[:, :n], axis=1)[:, n - k]
    counts = (ranks[:, n:] > threshold[:, None]).sum(1)
    found = np.searchsorted(np.sort(counts), np.arange(m + 1), side="right") / draws
    assert np.abs(found - cdf(np.arange(m + 1), m, k, n)).max() < 4.5 * 0.5 / np.sqrt(draws)


@exhaustive
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(12, 40)), min_size=2, max_size=4))
def test_the_range_of_several_groups_is_that_of_their_sum(groups):
    total = np.ones(1)
    for m, k, n in groups:
        total = np.convolve(total, stats.betabinom.pmf(np.arange(m + 1), m, k, n + 1 - k))
    low, high = central_range(groups, 0.025)
    assert total[:low].sum() <= 0.025 + 1e-8 < total[: low + 1].sum() + 2e-8
    assert total[high + 1 :].sum() <= 0.025 + 1e-8 < total[high:].sum() + 2e-8


@pytest.mark.parametrize(
    "groups",
    [
        [(60_000, 10, 200), (30_000, 40, 400), (200_000, 5, 99)],
        [(200, 5, 99)] * 100,
        [(100, 5, 99)] * 2000,
        [(1, 1, 1), (100_000, 50, 10_000)],
        [(50, 3, 60), (1, 1, 9), (700, 40, 41)],
    ],
    ids=["three large", "a hundred", "two thousand", "one of one", "three"],
)
@pytest.mark.parametrize("tail", [0.005, 0.025])
def test_the_range_of_several_groups_is_exact_whatever_their_number(groups, tail):
    """Against the power of transforms of the whole laws."""
    size = sum(m for m, *_ in groups) + 1
    spectrum = np.ones(size // 2 + 1, complex)
    for group in set(groups):
        m, k, n = group
        law = stats.betabinom.pmf(np.arange(m + 1), m, k, n + 1 - k)
        spectrum *= np.fft.rfft(law, size) ** groups.count(group)
    reached = np.cumsum(np.fft.irfft(spectrum, size))
    exact = np.searchsorted(reached, (tail, 1 - tail))
    assert np.abs(np.subtract(central_range(groups, tail), exact)).max() <= 1  # a level that is met to 1e-8 or so


def test_counts_that_are_taken_together_make_the_range_a_step_wider_for_each_group(monkeypatch):
    from deepad.scoring import counts

    groups = [(60_000, 10, 200), (30_000, 40, 400), (200_000, 5, 99)]
    low, high = central_range(groups, 0.025)
    monkeypatch.setattr(counts, "LIKELY", 1 << 14)
    monkeypatch.setattr(counts, "GRID", 1 << 12)
    below, above = central_range(groups, 0.025)
    step = 3 * -(-290_000 // (1 << 14))
    assert low - step <= below <= low
    assert high <= above <= high + step


@pytest.mark.parametrize("groups", [[(10**10, 50, 1000)], [(10**9, 50, 1000), (10**10, 3, 99)]], ids=["one", "two"])
def test_ten_thousand_million_samples_need_no_more_memory(groups):
    central_range([(100, 5, 99), (100, 5, 99)], 0.025)  # imports
    tracemalloc.start()
    with within(60):
        low, high = central_range(groups, 0.025)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 512 << 20
    m = sum(m for m, *_ in groups)
    rate = sum(m * k / (n + 1) for m, k, n in groups) / m
    assert 0.2 * rate < low / m < rate < high / m < 4 * rate
