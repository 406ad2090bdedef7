"""Windows are views, and what they make of a step equals what a loop over all windows makes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad.data.synthetic import generate
from deepad.data.windows import CAUSAL, RULES, StepRule, StepWindows, dominant_period, joined, windows_of

exhaustive = settings(derandomize=True, deadline=None, max_examples=150)
shapes = st.integers(1, 8).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size), st.integers(0, 40)))
"""Window size, stride and length of a series."""


def series(n, channels=2):
    return np.arange(n * channels, dtype=np.float32).reshape(n, channels)


# ---- views ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [series, lambda n: torch.from_numpy(series(n))], ids=["numpy", "torch"])
def test_windows_are_a_view_that_equals_a_loop(make):
    x = make(50)
    windows = windows_of(x, 7)
    assert tuple(windows.shape) == (44, 7, 2)
    for start in range(44):
        assert (windows[start] == x[start : start + 7]).all()
    if isinstance(x, torch.Tensor):
        assert windows.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        assert windows.stride() == (2, 2, 1)
    else:
        assert np.shares_memory(windows, x)
        assert windows.strides == (8, 8, 4)
        assert not windows.flags.writeable


def test_memory_does_not_grow_with_the_overlap():
    x = torch.zeros(100_000, 4)
    windows = windows_of(x, 1000)
    assert windows.numel() > 900 * x.numel()
    assert windows.untyped_storage().nbytes() == x.untyped_storage().nbytes()


@pytest.mark.parametrize(("n", "size"), [(4, 5), (0, 1), (5, 0), (5, -1)])
def test_windows_that_do_not_fit_are_refused(n, size):
    with pytest.raises(ValueError, match=f"{size} steps does not fit into a series of {n}"):
        windows_of(series(n), size)


@exhaustive
@given(shapes, st.lists(st.integers(0, 13), max_size=12))
def test_windows_cut_from_chunks_equal_windows_of_the_whole(shape, chunks):
    size, stride, n = shape
    x, cutter = series(n), StepWindows(StepRule(size, "mean", stride))
    made, begin = [], 0
    buffer = np.empty((max([n, *chunks]), 2), np.float32)
    for length in [*chunks, n]:
        taken = x[begin : begin + length]
        buffer[: len(taken)] = taken
        cut = cutter.take(buffer[: len(taken)])
        made += [] if cut is None else list(cut.copy())
        begin += len(taken)
        buffer[:] = -1  # the caller fills its buffer anew
    expected = [x[start : start + size] for start in range(0, n - size + 1, stride)]
    assert np.array_equal(made, expected) if expected else not made
    assert (cutter.seen, cutter.made) == (n, len(expected))


# ---- windows joined again ------------------------------------------------------------------------------------------


@exhaustive
@given(st.integers(1, 9), st.data())
def test_windows_of_any_stride_are_joined_to_the_series_they_were_cut_from(steps, data):
    stride = data.draw(st.integers(1, steps))
    counts = data.draw(st.lists(st.integers(3, 12), min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    stretches = [rng.normal(size=((count - 1) * stride + steps, 2)) for count in counts]
    cut = [windows_of(stretch, steps)[::stride] for stretch in stretches]
    found = joined(np.concatenate(cut))
    if stride == steps:  # nothing overlaps
        assert [part.tolist() for part in found] == np.concatenate(cut).tolist()
    else:
        assert [part.tolist() for part in found] == [stretch.tolist() for stretch in stretches]


@exhaustive
@given(st.integers(2, 6), st.integers(2, 30), st.integers(0, 2), st.integers(0, 99))
def test_joining_loses_no_window_and_invents_none(steps, n, values, seed):
    """Whatever repeats itself: of few values, in any order."""
    windows = np.random.default_rng(seed).integers(0, values + 1, (n, steps, 1)).astype(float)
    rebuilt = {window.tobytes() for part in joined(windows) for window in windows_of(part, steps)}
    assert {window.tobytes() for window in windows} <= rebuilt
    assert sum(len(part) for part in joined(windows)) <= n * steps


def test_windows_in_no_order_are_stretches_of_their_own():
    noise = np.random.default_rng(0).normal(size=(400, 2))
    shuffled = np.random.default_rng(1).permutation(windows_of(noise, 16))
    assert len(joined(shuffled)) > 0.9 * len(shuffled)
    assert [len(part) for part in joined(shuffled[:1])] == [16]


def test_a_series_that_repeats_itself_is_joined_to_one_that_holds_the_same_windows():
    square = np.tile([[0.0], [0.0], [1.0], [1.0]], (30, 1))
    windows = windows_of(square, 8)
    assert [part.tolist() for part in joined(windows)] == [square.tolist()]
    assert [part.tolist() for part in joined(windows[::3])] == [square[: 8 + 3 * (len(windows[::3]) - 1)].tolist()]


@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize("rest", [[2500, 600, 0], [0, 600, 2500], [900, 300, 900]], ids=str)
def test_a_sensor_at_rest_hides_no_stride(stride, rest):
    before, wave, after = rest
    parts = [np.zeros((before, 1)), np.sin(np.arange(wave) * 2 * np.pi / 24)[:, None], np.ones((after, 1))]
    x = np.concatenate(parts)
    windows = windows_of(x, 48)[::stride]
    assert [part.tolist() for part in joined(windows)] == [x[: 48 + stride * (len(windows) - 1)].tolist()]


def test_windows_of_a_flat_series_are_joined_at_any_stride():
    flat = np.full((30, 2), 3.0)
    assert [np.unique(part).tolist() for part in joined(windows_of(flat, 8))] == [[3.0]]


def test_long_windows_are_joined_without_comparing_all_of_them_at_every_stride():
    class Counted(np.ndarray):
        compared = 0

        def __eq__(self, other):
            Counted.compared += self.size
            return np.asarray(self) == np.asarray(other)

    windows = windows_of(np.random.default_rng(0).normal(size=(800, 1)), 400)[::3]
    assert len(joined(windows.view(Counted))) == 1
    assert Counted.compared < 4 * windows.size


# ---- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0,), "window_size must be a positive whole number"),
        ((2.0,), "window_size must be"),
        ((True,), "window_size must be"),
        ((5, "last", 0), "stride must be"),
        ((5, "last", 6), "stride 6 skips steps between windows of 5"),
        ((5, "first"), "rule must be one of last, window, mean, median, max"),
        ((5, ["last"]), "rule must be"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        StepRule(*arguments)


def naive_steps(errors, rule, n):
    """Scores (n,) of steps by a double loop over steps and windows; errors (M, T)."""
    scores = np.full(n, np.nan)
    for t in range(n):
        found = []
        for window in range(len(errors)):
            start = window * rule.stride
            ends_here = start + rule.window_size - 1 == t
            if rule.rule == "window" and ends_here:
                found.append(errors[window, -1])
            elif (ends_here if rule.causal else start <= t < start + rule.window_size) and rule.rule != "window":
                found.append(errors[window, t - start])
        if found:
            combine = {"mean": np.mean, "median": np.median, "max": np.max, "cover": np.mean}.get(
                rule.rule, lambda values: values[0]
            )
            scores[t] = combine(found)
    return scores


@pytest.mark.parametrize("rule", RULES)
@exhaustive
@given(shape=shapes, data=st.data())
def test_what_is_gathered_equals_a_double_loop(rule, shape, data):
    size, stride, n = shape
    rule = StepRule(size, rule, stride)
    count = max(0, (n - size) // stride + 1)
    errors = np.random.default_rng(n).normal(size=(count, size))
    expected = naive_steps(errors, rule, n)
    np.testing.assert_allclose(rule.gather(errors, 0, range(n)), expected, rtol=1e-13)
    assert rule.scored(n) == np.isfinite(expected).sum()
    # windows that no longer matter may be gone
    begin = data.draw(st.integers(0, n))
    first = min(max(0, -(-(begin - size + 1) // stride)), count)
    part = rule.gather(errors[first:], first, range(begin, n))
    assert part.tobytes() == rule.gather(errors, 0, range(n))[begin:].tobytes()


def test_only_steps_whose_window_ended_have_a_causal_score():
    errors = np.ones((11, 10))
    for name in CAUSAL:
        assert np.isnan(StepRule(10, name).gather(errors, 0, range(20))).tolist() == [True] * 9 + [False] * 11
        every_third = StepRule(10, name, 3).gather(errors[:4], 0, range(20))
        assert np.flatnonzero(~np.isnan(every_third)).tolist() == [9, 12, 15, 18]


def test_the_first_and_last_steps_are_the_mean_of_the_few_windows_that_cover_them():
    errors = np.arange(12.0).reshape(4, 3)  # windows at 0, 1, 2 and 3
    expected = [0, (1 + 3) / 2, (2 + 4 + 6) / 3, (5 + 7 + 9) / 3, (8 + 10) / 2, 11]
    assert StepRule(3, "mean").gather(errors, 0, range(6)).tolist() == expected
    assert StepRule(3, "max").gather(errors, 0, range(6)).tolist() == [0, 3, 6, 9, 10, 11]


def test_an_infinite_error_is_no_missing_one():
    errors = np.array([[1.0, np.inf], [2.0, 3.0]])
    assert StepRule(2, "mean").gather(errors, 0, range(3)).tolist() == [1, np.inf, 3]
    assert StepRule(2, "median").gather(errors, 0, range(3)).tolist() == [1, np.inf, 3]
    assert StepRule(2, "last").gather(errors, 0, range(3))[1:].tolist() == [np.inf, 3]


# ---- periods -------------------------------------------------------------------------------------------------------

T = np.arange(1500)


@pytest.mark.parametrize("noise", [0, 0.5])
@pytest.mark.parametrize("period", [5, 24, 100, 288])
def test_the_period_of_a_sine_is_found(period, noise):
    for seed in range(5):
        x = np.sin(2 * np.pi * T / period + seed) + noise * np.random.default_rng(seed).normal(size=len(T))
        assert dominant_period(x[:, None]) == pytest.approx(period, rel=0.03, abs=0.5)


def test_units_offset_and_trend_do_not_matter():
    x = np.sin(2 * np.pi * T / 60) + 0.3 * np.random.default_rng(0).normal(size=len(T))
    forms = [x, 1e-9 * x, 1e9 * x, x + 1e4, 0.01 * T - x]
    assert [dominant_period(form[:, None]) for form in forms] == [60] * 5
    assert dominant_period((100 * x).astype(np.int64)[:, None]) == 60


def test_channels_are_looked_at_together_and_constant_ones_left_out():
    random = np.random.default_rng(0)
    waves = [np.sin(2 * np.pi * T / 48 + phase) + random.normal(size=len(T)) for phase in (0, 1, 2)]
    rest = [np.full(len(T), 1e12), np.zeros(len(T)), 3.0 * T]
    assert dominant_period(np.stack([*waves, *rest], 1)) == pytest.approx(48, abs=1)


def test_where_there_is_no_cycle_none_is_found():
    found = [dominant_period(np.random.default_rng(seed).normal(size=(1000, 1))) for seed in range(100)]
    assert sum(period is not None for period in found) <= 5
    assert dominant_period(np.ones((1000, 2))) is None
    assert dominant_period(2.0 * np.arange(1000)[:, None]) is None
    assert dominant_period(np.repeat([0.0, 1.0], 500)[:, None]) is None


@pytest.mark.parametrize("n", [0, 1, 5, 12, 14])
def test_a_series_too_short_for_a_cycle_has_none(n):
    assert dominant_period(np.sin(np.arange(n))[:, None]) is None


def test_no_period_is_longer_than_asked_for_or_than_a_third_of_the_series():
    x = np.sin(2 * np.pi * T / 400)[:, None]
    assert dominant_period(x) == pytest.approx(400, rel=0.02)
    assert dominant_period(x, longest=300) is None
    assert dominant_period(x[:1000]) is None


def test_the_cycle_of_the_load_and_that_of_the_day_are_found():
    table = generate("sensors", rows=5000, rate=0)
    channels = ["temperature", "pressure", "vibration", "flow"]
    x = np.stack([table[name].to_numpy() for name in channels], 1)
    assert dominant_period(x) == pytest.approx(240, rel=0.03)
    table = generate("network", rows=4000, rate=0)
    x = np.stack([table[name].to_numpy() for name in ("packets", "bytes", "flows")], 1).astype(float)
    minutes = np.diff(table["timestamp"].to_numpy()[:2]).astype("timedelta64[s]").astype(int)[0] / 60
    assert dominant_period(np.log1p(x), longest=2000) == pytest.approx(1440 / minutes, rel=0.05)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stride", [1, 3, 5])
def test_the_steps_a_rule_reaches_are_those_it_scores(rule, stride):
    rule = StepRule(5, rule, stride)
    for n in range(20):
        windows = max(0, (n - 5) // stride + 1)
        scores = rule.gather(np.zeros((windows, 5)), 0, range(n))
        assert rule.reached(n).tolist() == (~np.isnan(scores)).tolist()
        assert rule.reached(n).sum() == rule.scored(n)
