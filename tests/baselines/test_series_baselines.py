"""Classical models of series: each against a loop that goes step by step, and what they find and do not find."""

import math
import sys

import numpy as np
import pytest
import stumpy

from deepad.baselines import ControlChart, MatrixProfile, MovingVariance, Persistence, SeasonalResidual
from deepad.baselines.base import BLOCK
from deepad.data.windows import StepRule, windows_of
from deepad.errors import IncompatibleInstallError
from deepad.rooms import members
from deepad.scoring.scorer import Scorer
from deepad.scoring.steps import score_series

STEPS, CHANNELS = 16, 2


def season(t, period=24):
    """A sharp morning peak and a flat one in the evening."""
    phase = t % period / period
    return np.exp(-200 * (phase - 0.3) ** 2) + 0.5 * np.exp(-30 * (phase - 0.7) ** 2)


def series(n=400, seed=0, noise=0.05, period=24):
    """Two channels in units of their own, with a season, a slow trend and noise."""
    rng, t = np.random.default_rng(seed), np.arange(n)
    shape = np.stack([season(t, period), season(t + 5, period)], 1) + 0.2 * np.sin(t / 150)[:, None]
    return (shape + noise * rng.normal(size=shape.shape)) * [3.0, 200.0] + [10.0, -50.0]


@pytest.fixture(scope="module")
def train():
    return windows_of(series(), STEPS)


@pytest.fixture(scope="module")
def new():
    return np.concatenate([windows_of(series(60, seed=1), STEPS), series(64, seed=2, noise=1).reshape(4, STEPS, 2)])


def standardised(model, x):
    """By the mean and deviation of each channel over all training windows."""
    return (x - model.shift_) / model.scale_


def test_channels_are_scaled_by_all_values_of_all_training_windows(train):
    model = MovingVariance().fit(train)
    np.testing.assert_allclose(model.shift_, train.reshape(-1, CHANNELS).mean(0)[None], rtol=1e-12)
    np.testing.assert_allclose(model.scale_, train.reshape(-1, CHANNELS).std(0)[None], rtol=1e-12)


# ---- each against a loop -------------------------------------------------------------------------------------------


def shewhart(window):
    found = []
    for channel in window.T.tolist():
        *before, last = channel
        mean = sum(before) / len(before)
        variance = sum((value - mean) ** 2 for value in before) / len(before)
        found.append(abs(last - mean) / math.sqrt(variance + 1e-2))
    return max(found)


def ewma(window, weight):
    found = []
    for channel in window.T.tolist():
        z = 0.0
        for value in channel:
            z = weight * value + (1 - weight) * z
        variance = weight / (2 - weight) * (1 - (1 - weight) ** (2 * len(channel)))
        found.append(abs(z) / math.sqrt(variance))
    return max(found)


def cusum(window, slack):
    found = []
    for channel in window.T.tolist():
        high = low = 0.0
        for value in channel:
            high, low = max(0.0, high + value - slack), max(0.0, low - value - slack)
        found.append(max(high, low))
    return max(found)


@pytest.mark.parametrize(
    ("model", "by_hand"),
    [
        (ControlChart(), shewhart),
        (ControlChart("ewma"), lambda window: ewma(window, 0.2)),
        (ControlChart("ewma", weight=1.0), lambda window: np.abs(window[-1]).max()),
        (ControlChart("ewma", weight=0.01), lambda window: ewma(window, 0.01)),
        (ControlChart("cusum"), lambda window: cusum(window, 0.5)),
        (ControlChart("cusum", slack=0), lambda window: cusum(window, 0.0)),
    ],
    ids=["shewhart", "ewma", "ewma of the last alone", "ewma of all", "cusum", "cusum without slack"],
)
def test_control_charts_follow_the_textbook(train, new, model, by_hand):
    expected = [by_hand(window) for window in standardised(model.fit(train), new)]
    np.testing.assert_allclose(model.score(new), expected, rtol=1e-9)


def test_the_smallest_weight_counts_all_steps_alike(train, new):
    model = ControlChart("ewma", weight=1e-12).fit(train)
    mean = np.abs(standardised(model, new).mean(1)).max(1)
    np.testing.assert_allclose(model.score(new), mean * math.sqrt(STEPS), rtol=1e-6)


def test_the_weighted_mean_of_noise_has_variance_one():
    x = np.random.default_rng(0).normal(size=(4000, 10, 1))
    for weight in (0.1, 0.5, 1.0):
        assert abs(np.square(ControlChart("ewma", weight=weight).fit(x).score(x)).mean() - 1) < 0.1


def test_the_variance_of_a_window_is_summed_over_channels(train, new):
    model = MovingVariance().fit(train)
    expected = [sum(np.var(channel) for channel in window.T) for window in standardised(model, new)]
    np.testing.assert_allclose(model.score(new), expected, rtol=1e-9)


@pytest.mark.parametrize("lag", [1, 5, STEPS - 1])
def test_persistence_compares_each_step_with_the_one_a_lag_before(train, new, lag):
    model = Persistence(lag).fit(train)
    changes = [
        [later - earlier for earlier, later in zip(w, w[lag:], strict=False)] for w in standardised(model, train)
    ]
    variance = np.square(changes).mean((0, 1))
    expected = [
        sum(((w[t] - w[t - lag]) ** 2 / variance).sum() for t in range(lag, STEPS)) for w in standardised(model, new)
    ]
    np.testing.assert_allclose(model.score(new), expected, rtol=1e-9)


def nearest_window(window, known):
    return min(math.sqrt(np.square(window - other).sum()) for other in known)


def standard(window):
    """Each channel with mean 0 and deviation 1; of one that never varies, zeros."""
    spread = window.std(0)
    return (window - window.mean(0)) / np.where(spread > 0, spread, 1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("broken", [False, True])
def test_the_matrix_profile_is_the_distance_to_the_nearest_training_window(train, new, normalize, broken):
    known = np.concatenate([train[:100], train[200:]]) if broken else train
    model = MatrixProfile(normalize).fit(known)
    assert len(model.ends_) == 1 + broken
    form = standard if normalize else np.array
    shapes = [form(window) for window in standardised(model, known)]
    expected = [nearest_window(form(window), shapes) for window in standardised(model, new)]
    np.testing.assert_allclose(model.score(new), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.score(train[40:50]), 0, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("spike", [1e3, 1e9, 1e12])
def test_one_enormous_training_value_costs_no_digits(normalize, spike):
    x = series()
    x[200, 1] = spike
    known = windows_of(x, STEPS)
    model = MatrixProfile(normalize).fit(known)
    assert model.score(known[::7]).tolist() == [0.0] * len(known[::7])
    others = windows_of(series(80, seed=1), STEPS)
    form = standard if normalize else np.array
    shapes = [form(window) for window in standardised(model, known)]
    expected = [nearest_window(form(window), shapes) for window in standardised(model, others)]
    np.testing.assert_allclose(model.score(others), expected, rtol=1e-2)


@pytest.mark.parametrize("normalize", [True, False])
def test_no_window_reaches_over_a_break(normalize):
    x = series()
    known = windows_of(x, STEPS)
    model = MatrixProfile(normalize).fit(np.concatenate([known[:50], known[200:250]]))
    before, after = x[50 + STEPS // 2 : 50 + STEPS - 1], x[200 : 200 + STEPS // 2 + 1]
    for over in ([before, after], [before, model.shift_, after[:-1]]):  # with what is 0 when it is scaled between them
        assert model.score(np.concatenate(over)[None]) > 1e-3


def test_the_matrix_profile_of_one_channel_is_that_of_stumpy():
    known, other = (part[..., :1] for part in (series(), series(120, seed=1)))
    model = MatrixProfile().fit(windows_of(known, STEPS))
    profile = [stumpy.mass(other[start : start + STEPS, 0], known[:, 0]).min() for start in range(120 - STEPS + 1)]
    np.testing.assert_allclose(model.score(windows_of(other, STEPS)), profile, rtol=1e-6, atol=1e-6)


def test_windows_in_no_order_are_each_compared_with(new):
    known = np.random.default_rng(0).normal(size=(60, STEPS, CHANNELS))
    model = MatrixProfile().fit(known)
    assert len(model.ends_) == 60
    shapes = [standard(window) for window in standardised(model, known)]
    expected = [nearest_window(standard(window), shapes) for window in standardised(model, new)]
    np.testing.assert_allclose(model.score(new), expected, rtol=1e-6, atol=1e-6)


def test_flat_windows_are_like_flat_windows_and_unlike_all_others():
    flat, wave = np.full((40, 1), 3.0), np.sin(np.arange(40) / 2)[:, None]
    windows = [windows_of(part, 8) for part in (flat, wave)]
    assert MatrixProfile().fit(windows[0]).score(windows[0] + 5).tolist() == [0.0] * 33
    np.testing.assert_allclose(MatrixProfile().fit(windows[0]).score(windows[1]), math.sqrt(8))
    np.testing.assert_allclose(MatrixProfile().fit(windows[1]).score(windows[0]), math.sqrt(8))


def test_without_stumpy_one_line_says_how_to_install_it(train, monkeypatch):
    model = MatrixProfile().fit(train)
    monkeypatch.setitem(sys.modules, "stumpy", None)
    for action in (lambda: MatrixProfile().fit(train), lambda: model.score(train)):
        with pytest.raises(IncompatibleInstallError, match=r"pip install 'deepad\[matrixprofile\]'") as refusal:
            action()
        assert "\n" not in str(refusal.value)


# ---- seasons -------------------------------------------------------------------------------------------------------


def spoiled(x):
    """Windows whose peaks are turned upside down."""
    level = np.median(x, axis=1, keepdims=True)
    return 2 * level - x


@pytest.fixture(scope="module")
def days():
    return windows_of(series(30 * 24), 24)


@pytest.mark.parametrize("periods", [24, None, [24], (24,)], ids=str)
def test_a_broken_season_is_found_and_a_clean_one_is_not(days, periods):
    model = SeasonalResidual(periods).fit(days)
    assert model.profile_.shape == (24, 2)
    clean = windows_of(series(10 * 24, seed=1), 24)
    scorer = Scorer.calibrate(model, clean[:120], alpha=0.05)
    assert scorer(clean[144:]).flagged.mean() < 0.2
    assert scorer(spoiled(clean[144:])).flagged.all()
    assert model.score(spoiled(clean)).min() > 3 * model.score(clean).max()


def test_the_profile_is_the_season_of_the_training_series(days):
    model, t = SeasonalResidual(24).fit(days), np.arange(24)
    for channel, phase in enumerate((0, 5)):
        planted = season(t + phase)
        planted = (planted - planted.mean()) * [3.0, 200.0][channel] / model.scale_[0, channel]
        np.testing.assert_allclose(model.profile_[:, channel], planted, atol=0.15)


def test_a_pattern_at_another_hour_is_no_anomaly_for_windows_carry_no_clock(days):
    model = SeasonalResidual(24).fit(days)
    score = model.score(windows_of(series(96, seed=1), 24))
    assert score.max() < 5 * np.median(score)


def test_the_residual_of_a_window_is_that_of_its_best_phase(days):
    model = SeasonalResidual(24).fit(days)
    x = np.concatenate([windows_of(series(60, seed=1), 24), spoiled(windows_of(series(30, seed=2), 24))])
    expected = []
    for window in standardised(model, x):
        tried = []
        for phase in range(24):
            profile = np.array([model.profile_[(phase + t) % 24] for t in range(24)])
            left = (window - window.mean(0)) - (profile - profile.mean(0))
            tried.append((np.square(left).sum(), phase))
        profile = np.array([model.profile_[(min(tried)[1] + t) % 24] for t in range(24)])
        left = window - profile
        expected.append((np.square((left - np.median(left, axis=0)) / model.spread_)).sum())
    np.testing.assert_allclose(model.score(x), expected, rtol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_sensor_that_was_at_rest_first_has_a_season_all_the_same(stride):
    x = np.concatenate([np.zeros((2500, 1)), np.sin(np.arange(720) * 2 * np.pi / 24)[:, None]])
    known = windows_of(x, 48)[::stride]
    assert np.ptp(SeasonalResidual(24).fit(known).profile_) > 0.5
    assert len(MatrixProfile().fit(known).ends_) == 1


def test_two_seasons_are_found_by_mstl():
    def weeks(n, seed):
        t = np.arange(n)
        weekend = (t // 12 % 7 >= 5)[:, None] * season(t + 3, 12)[:, None]
        return season(t, 12)[:, None] + weekend + 0.05 * np.random.default_rng(seed).normal(size=(n, 1))

    train, clean = (windows_of(weeks(n, seed), 84) for n, seed in ((6 * 84, 0), (2 * 84, 1)))
    both, one = SeasonalResidual([84, 12]).fit(train), SeasonalResidual(12).fit(train)
    assert both.periods == [12, 84]
    assert both.profile_.shape == (84, 1)
    assert np.median(both.score(clean)) < 2 * np.median(both.score(train))
    closed = clean.copy()  # a weekend like any other day
    for window, start in zip(closed, range(len(closed)), strict=True):
        t = start + np.arange(84)
        window -= (t // 12 % 7 >= 5)[:, None] * season(t + 3, 12)[:, None]
    assert np.median(both.score(closed)) > 3 * np.median(both.score(clean))
    assert np.median(one.score(closed)) < np.median(one.score(clean))


def test_without_a_season_the_profile_is_flat():
    walk = windows_of(np.random.default_rng(0).normal(size=(300, 1)), STEPS)
    for model in (SeasonalResidual(), SeasonalResidual([])):
        assert model.fit(walk).profile_.tolist() == [[0.0]]
        left = standardised(model, walk)
        left = left - np.median(left, axis=1, keepdims=True)
        np.testing.assert_allclose(model.score(walk), np.square(left / model.spread_).sum((1, 2)), rtol=1e-9)


def test_a_season_is_learned_from_the_longest_unbroken_stretch(days):
    broken = np.concatenate([days[:10], days[40:]])
    profiles = [SeasonalResidual(24).fit(x).profile_ for x in (broken, days[40:])]
    np.testing.assert_allclose(*profiles, atol=0.02)  # but for the scaling, which is that of all windows


def test_a_season_of_which_too_little_was_seen_is_refused(days):
    with pytest.raises(ValueError, match=r"a season of 24 steps is learned from two of them, the longest .* 47 steps"):
        SeasonalResidual(24).fit(days[:24])
    SeasonalResidual(24).fit(days[:26])


@pytest.mark.parametrize("periods", [[24, 7], (12, 12), [6, 24, 16]])
def test_periods_that_do_not_fit_into_the_longest_are_refused(periods):
    with pytest.raises(ValueError, match="the longest of several periods must be a multiple of each of the others"):
        SeasonalResidual(periods)


# ---- as scorers of steps -------------------------------------------------------------------------------------------

CHARTS = [ControlChart(chart) for chart in ("shewhart", "ewma", "cusum")]
OTHERS = [MovingVariance(), Persistence(3), SeasonalResidual(24), MatrixProfile()]


def test_every_member_for_series_is_tested_here():
    named = {type(model).__name__ for model in CHARTS + OTHERS}
    assert named == {name for name, m in members("baselines", "Baseline").items() if m.__module__.endswith("series")}


@pytest.mark.parametrize("model", CHARTS + OTHERS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("rule", ["last", "window"])
def test_a_step_is_scored_without_its_future(train, model, rule):
    model.fit(train)
    x = series(80, seed=3)
    whole, changed = x.copy(), x.copy()
    changed[50:] += 1000
    before, after = (score_series(model, StepRule(STEPS, rule), part) for part in (whole, changed))
    assert before[:50].tobytes() == after[:50].tobytes()
    assert np.isnan(before[: STEPS - 1]).all()
    assert not np.isnan(before[STEPS - 1 :]).any()
    assert not np.array_equal(before[50:], after[50:])


@pytest.mark.parametrize("model", CHARTS, ids=lambda model: model.chart)
def test_a_control_chart_puts_its_whole_score_on_the_last_step(train, model):
    model.fit(train)
    x = series(80, seed=3)
    one, other = (score_series(model, StepRule(STEPS, rule), x) for rule in ("last", "window"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("model", "least"), [*[(m, 4) for m in CHARTS[:1]], (Persistence(5), 6), (MatrixProfile(), 3)])
def test_windows_that_are_too_short_are_refused_with_what_is_needed(model, least):
    model.fit(windows_of(series(), least))
    with pytest.raises(ValueError, match=f"needs windows of at least {least} steps, got {least - 1}"):
        model.fit(windows_of(series(), least - 1))


def test_the_rows_that_fill_up_a_block_cost_nothing(train, monkeypatch):
    calls = []
    mass = stumpy.core.mass
    monkeypatch.setattr(stumpy.core, "mass", lambda *a, **k: calls.append(1) or mass(*a, **k))
    MatrixProfile().fit(train).score(train[:3])
    assert len(calls) == 3 * CHANNELS < BLOCK
