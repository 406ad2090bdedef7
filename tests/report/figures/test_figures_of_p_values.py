"""Figures of p-values: bands are exact laws, curves are counts."""

from typing import Any

import numpy as np
import pytest
from gallery import line, marked, outline, p_values, told
from hypothesis import settings
from matplotlib.patches import StepPatch
from scipy import stats

from deepad.errors import InputError
from deepad.report.figures import calibration_curve, p_value_histogram, p_value_qq

exhaustive = settings(derandomize=True, deadline=None, max_examples=30)


def edges_of(area: Any) -> dict[float, tuple[float, float]]:
    """Lowest and highest value of an area at each of its places."""
    return {x: (area[area[:, 0] == x, 1].min(), area[area[:, 0] == x, 1].max()) for x in np.unique(area[:, 0])}


@pytest.mark.parametrize(("n", "m", "level"), [(19, 40, 0.99), (50, 7, 0.9), (7, 200, 0.95)])
def test_the_band_of_a_calibration_is_the_beta_binomial_law(n: int, m: int, level: float) -> None:
    p = np.random.default_rng(0).integers(1, n + 2, m) / (n + 1)
    figure = calibration_curve(p, n, level=level)
    drawn = edges_of(outline(figure, f"{100 * level:g} % band"))
    floor = figure.axes[0].get_ylim()[0]
    assert floor < 1 / m
    k = np.arange(1, n + 1)
    assert list(drawn) == pytest.approx(k / (n + 1))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])[:, None]
    expected = stats.betabinom.ppf(tails, m, k, n + 1 - k) / m
    np.testing.assert_allclose(list(drawn.values()), expected.T.clip(floor), rtol=1e-12)


def test_the_share_found_is_the_share_flagged_at_each_level() -> None:
    p, y = p_values(400, 39)
    figure = calibration_curve(p, 39, y, alpha=0.05)
    nominal, found = line(figure, "found of 360 normal")
    assert nominal.tolist() == (np.arange(1, 40) / 40).tolist()
    assert found == pytest.approx([(p[y == 0] <= level).mean() for level in nominal])
    at, share = line(figure, f"{(p[y == 0] <= 0.05).mean():.3g} at 0.05")
    assert (at.item(), share.item()) == pytest.approx((0.05, (p[y == 0] <= 0.05).mean()))
    assert [scale for scale in (figure.axes[0].get_xscale(), figure.axes[0].get_yscale())] == ["log", "log"]


def test_a_level_at_which_nothing_is_found_lies_on_the_lower_edge() -> None:
    figure = calibration_curve(np.ones(50), 200)
    assert set(line(figure, "found")[1]) == {figure.axes[0].get_ylim()[0]} == {0.01}


@pytest.mark.parametrize("n", [None, 30])
def test_bands_of_sorted_p_values_are_exact(n: int | None) -> None:
    m = 25
    p = np.random.default_rng(0).integers(1, 32, m) / 31
    figure = p_value_qq(p, n=n)
    rank = np.arange(1, m + 1)
    for name, level in (("99 % band", 0.99), ("95 % band", 0.95)):
        drawn = edges_of(outline(figure, name))
        tails = np.array([(1 - level) / 2, (1 + level) / 2])[:, None]
        expected = (
            stats.beta.ppf(tails, rank, m + 1 - rank)
            if n is None
            else (1 + stats.betabinom.ppf(tails, n, rank, m + 1 - rank)) / (n + 1)
        )
        assert list(drawn) == pytest.approx(rank / (m + 1))
        np.testing.assert_allclose(list(drawn.values()), expected.T, rtol=1e-9)
    expected_p, found = line(figure, "normal (25)")
    assert expected_p == pytest.approx(rank / (m + 1))
    assert found.tolist() == sorted(p)


def test_sorted_p_values_of_many_samples_are_thinned_but_true() -> None:
    p, y = p_values(5000, 199)
    expected, found = line(p_value_qq(p, y, n=199), "normal (4500)")
    rank = np.rint(expected * 4501).astype(int)
    assert 50 < len(rank) <= 120
    assert (rank[0], rank[-1]) == (1, 4500)
    assert found.tolist() == np.sort(p[y == 0])[rank - 1].tolist()


def test_bins_hold_the_level_at_their_upper_end() -> None:
    p = np.arange(1, 101) / 100
    figure = p_value_histogram(p, bins=20)
    (drawn,) = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    assert drawn.get_data()[0] == pytest.approx(np.full(20, 0.05))
    assert set(line(figure, "uniform")[1]) == {0.05}
    assert told(figure) == ["samples (100)", "uniform"]


def test_p_values_that_are_missing_are_counted() -> None:
    p = [0.5, np.nan, 1.0, np.nan]
    assert marked(p_value_histogram(p), "x") == "p-value (2 not finite, left out)"
    assert marked(p_value_qq(p), "x") == "p-value expected (2 not finite, left out)"
    assert marked(calibration_curve(p, 1), "y") == "false-alarm rate found (2 not finite, left out)"


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: p_value_histogram([]), "at least one, got 0 of them"),
        (lambda: p_value_histogram([np.nan]), "at least one, got 0 of them"),
        (lambda: p_value_histogram([0.5, 1.5]), "from 0.5 to 1.5: scores are no p-values"),
        (lambda: p_value_histogram([-0.1]), r"must lie in \[0, 1\]"),
        (lambda: p_value_qq([0.5], [1]), "all 1 samples with a p-value are anomalies"),
        (lambda: p_value_qq([0.0, 0.5]), "must be above 0"),
        (lambda: p_value_qq([0.01], n=9), r"at least 1/\(n \+ 1\) = 0.1 of n = 9"),
        (lambda: calibration_curve([0.5], 0), "at least 1, got 0"),
        (lambda: calibration_curve([0.01], 9), "the smallest p-value is 0.01"),
        (lambda: calibration_curve([[0.5]], 9), "one number a sample"),
    ],
)
def test_what_is_no_p_value_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()
