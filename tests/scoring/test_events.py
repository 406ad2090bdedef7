"""Persistence, blocks, alerts and episodes: against literal twins, and the budget of alarms that blocks keep."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from deepad.errors import InsufficientCalibrationError, NonFiniteScoreError
from deepad.scoring.conformal import Calibration
from deepad.scoring.events import (
    LONGEST,
    Blocks,
    Episode,
    Persistence,
    calibrate_blocks,
    episodes,
    notify,
)
from deepad.scoring.standardize import LAST

SIGMAS = 4.5  # two-sided 7e-6
exhaustive = settings(derandomize=True, deadline=None, max_examples=300)
NAN = math.nan

few = st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0, 3.0, NAN, math.inf, -math.inf])
series = st.lists(few, max_size=40)
cuts = st.lists(st.integers(0, 40), max_size=6)
persistences = st.integers(1, 12).flatmap(lambda w: st.builds(Persistence, st.integers(1, w), st.just(w)))


def ar1(rng, shape, rho):
    """Stationary normal series (..., N) of lag-1 correlation rho and variance 1, in float32."""
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(1 - rho**2))
    noise[..., 0] /= np.float32(math.sqrt(1 - rho**2))
    return lfilter(np.ones(1, np.float32), np.array([1, -rho], np.float32), noise) if rho else noise


def same_bits(a, b):
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))


# ---- persistence ---------------------------------------------------------------------------------------------------


def debounced(scores, threshold, m, w):
    """Alarms of a debouncer that counts, step by step."""
    lately, alarms = [], []
    for score in scores:
        lately = [*lately, score > threshold][-w:]
        alarms.append(lately.count(True) >= m)
    return alarms


@pytest.mark.parametrize("w", range(1, 13))
def test_persistence_above_any_threshold_is_the_literal_debouncer(w):
    rng = np.random.default_rng(w)
    for m in range(1, w + 1):
        scores = rng.integers(-5, 6, 120) + rng.choice([0.0, math.inf], 120, p=[0.95, 0.05])
        reached = Persistence(m, w)(scores)
        for threshold in np.arange(-6, 6, 0.5):
            assert (reached > threshold).tolist() == debounced(scores, threshold, m, w)


@exhaustive
@given(persistences, series, st.sampled_from([-2.0, -1.0, 0.0, 0.5, 2.0, 1e9]))
def test_with_unscored_steps_it_is_the_debouncer_on_scored_steps(rule, scores, threshold):
    reached = Persistence(rule.m, rule.w)(scores)
    alarms = debounced(scores, threshold, rule.m, rule.w)
    assert (reached > threshold).tolist() == [a and s == s for a, s in zip(alarms, scores, strict=True)]


@exhaustive
@given(persistences, series)
def test_persistence_is_the_mth_largest_of_the_scored_steps_of_its_window(rule, scores):
    expected = []
    for t, score in enumerate(scores):
        scored = sorted((s for s in scores[max(0, t - rule.w + 1) : t + 1] if s == s), reverse=True)
        expected.append(scored[rule.m - 1] if score == score and len(scored) >= rule.m else NAN)
    assert np.array_equal(rule(scores), np.array(expected, float), equal_nan=True)


@exhaustive
@given(persistences, series, cuts)
def test_chunks_do_not_change_a_bit_of_persistence(rule, scores, cuts):
    begun = rule.begin()
    pushed = [begun.push(part) for part in np.split(np.array(scores, float), sorted(cuts))]
    assert same_bits(np.concatenate(pushed), rule(scores))


@exhaustive
@given(persistences, series, st.integers(0, 40))
def test_a_saved_state_of_persistence_goes_on_with_the_same_bits(rule, scores, cut):
    begun, scores = rule.begin(), np.array(scores, float)
    first = begun.push(scores[:cut])
    written = json.dumps({name: values.tolist() for name, values in begun.to_state().items()})
    rest = rule.from_state(json.loads(written)).push(scores[cut:])
    assert same_bits(np.concatenate([first, rest]), rule(scores))


def test_long_windows_are_looked_at_in_pieces():
    scores = np.random.default_rng(0).normal(size=5000)
    reached = Persistence(40, 1000)(scores)
    assert all(reached[t] == np.sort(scores[t - 999 : t + 1])[-40] for t in range(999, 5000, 97))


def test_one_of_one_changes_nothing():
    scores = np.array([0.0, NAN, 2.0, -math.inf, math.inf])
    assert np.array_equal(Persistence(1, 1)(scores), scores, equal_nan=True)


# ---- blocks and their slots ----------------------------------------------------------------------------------------


def naive_slots(stretch, blocks, start=None, incomplete=False):
    """Scores of the steps of each slot of each block, by walking through the steps."""
    if start is None:
        start = next((t for t, score in enumerate(stretch) if score == score), 0)
    slot, found = blocks.slot or blocks.length, {}
    for t, score in enumerate(stretch):
        block, place = (t - start) // blocks.length, (t - start) % blocks.length
        if block >= 0 or incomplete:
            found.setdefault(block, [[] for _ in range(blocks.slots)])[place // slot].append(score)
    kept = []
    for slots in found.values():
        scored = [[score for score in part if score == score] for part in slots]
        total = sum(map(len, scored))
        if incomplete:
            kept += [scored] * (total > 0)
        elif sum(map(len, slots)) == blocks.length and 10 * total >= 9 * blocks.length and all(scored):
            kept.append(scored)
    return kept


some_blocks = st.integers(1, 14).flatmap(
    lambda length: st.builds(Blocks, st.just(length), st.one_of(st.none(), st.integers(1, length)))
)
mostly_scored = st.lists(st.one_of(*[st.integers(-3, 3).map(float)] * 12, st.just(NAN)), max_size=50)
stretches = st.lists(mostly_scored, max_size=3)


@exhaustive
@given(some_blocks, stretches, st.one_of(st.none(), st.lists(st.integers(0, 30), min_size=3, max_size=3)))
def test_slot_maxima_are_those_of_a_walk_through_the_steps(blocks, stretches, starts):
    starts = None if starts is None else starts[: len(stretches)]
    each = [None] * len(stretches) if starts is None else starts
    expected = [
        [max(part) for part in slots]
        for stretch, start in zip(stretches, each, strict=True)
        for slots in naive_slots(stretch, blocks, start)
    ]
    maxima = blocks.slot_maxima([np.array(stretch, float) for stretch in stretches], starts)
    assert maxima.shape == (len(expected), blocks.slots)
    assert maxima.tolist() == expected
    assert blocks.n_blocks([np.array(stretch, float) for stretch in stretches], starts) == len(expected)


def test_a_block_with_more_than_a_tenth_of_its_steps_unscored_is_left_out():
    scores = np.arange(60.0)
    scores[[3, 4, 23, 24, 25]] = NAN
    assert Blocks(20, 10).slot_maxima([scores]).tolist() == [[9, 19], [49, 59]]


def test_a_block_with_a_slot_without_scores_is_left_out():
    scores = np.arange(60.0)
    scores[[20, 21]] = NAN
    assert Blocks(20, 2).slot_maxima([scores]).tolist() == [[*range(1, 20, 2)], [*range(41, 60, 2)]]


def test_blocks_begin_at_the_first_scored_step_or_where_they_are_told_to():
    scores = np.array([NAN, NAN, *range(2, 12)])
    assert Blocks(4).slot_maxima([scores]).tolist() == [[5], [9]]
    assert Blocks(4).slot_maxima([scores], [4]).tolist() == [[7], [11]]
    assert Blocks(4).slot_maxima([scores], [0]).tolist() == [[7], [11]]  # of the first, half is not scored
    assert Blocks(4).slot_maxima([scores], [99]).shape == (0, 1)


def test_the_last_slot_is_shorter_where_slots_do_not_divide_the_block():
    assert Blocks(10, 4).slots == 3
    assert Blocks(10, 4).slot_maxima([np.arange(20)]).tolist() == [[3, 7, 9], [13, 17, 19]]


# ---- alarms of slots -----------------------------------------------------------------------------------------------


@exhaustive
@given(some_blocks, stretches, st.sampled_from([-1.0, 0.0, 2.0]))
def test_slots_are_alarmed_where_their_maxima_lie_above_the_threshold(blocks, stretches, threshold):
    scores = [np.array(stretch, float) for stretch in stretches]
    flagged = [~(part <= threshold) for part in scores]  # NaN is flagged, as by a threshold
    assert np.array_equal(blocks.alarmed_slots(flagged, scores), blocks.slot_maxima(scores) > threshold)


@exhaustive
@given(some_blocks, stretches, st.lists(st.integers(0, 30), min_size=3, max_size=3))
def test_incomplete_blocks_are_counted_on_request(blocks, stretches, starts):
    scores, starts = [np.array(stretch, float) for stretch in stretches], starts[: len(stretches)]
    expected = [
        [any(score > 1 for score in part) for part in slots]
        for stretch, start in zip(stretches, starts, strict=True)
        for slots in naive_slots(stretch, blocks, start, incomplete=True)
    ]
    alarmed = blocks.alarmed_slots([part > 1 for part in scores], scores, starts, incomplete=True)
    assert alarmed.tolist() == expected


def test_without_scores_every_step_counts():
    flagged = [np.array([1, 0, 0, 0, 0, 0, 0, 1, 1], bool)]
    assert Blocks(4, 2).alarmed_slots(flagged).tolist() == [[True, False], [False, True]]
    assert Blocks(4, 2).alarmed_slots(flagged, incomplete=True).tolist()[2:] == [[True, False]]
    assert Blocks(4, 2).alarmed_slots(flagged, starts=[1]).tolist() == [[False, False], [False, True]]


@exhaustive
@given(some_blocks, st.lists(st.booleans(), max_size=60), st.integers(-20, 20))
def test_one_alert_is_sent_in_each_alarmed_slot_at_its_first_flagged_step(blocks, flagged, start):
    sent, expected = set(), []
    for t, flag in enumerate(flagged):
        block, place = divmod(t - start, blocks.length)
        slot = (block, place // (blocks.slot or blocks.length))
        expected.append(flag and slot not in sent)
        sent |= {slot} if flag else set()
    assert blocks.notify(np.array(flagged, bool), start).tolist() == expected
    if start >= 0:
        alarmed = blocks.alarmed_slots([np.array(flagged, bool)], starts=[start], incomplete=True)
        assert alarmed.sum() == sum(expected)


def test_a_pager_gets_one_alert_a_slot_and_no_later_step_changes_it():
    flagged = np.random.default_rng(0).random(200) < 0.3
    alerts = notify(flagged, 7)
    assert all(alerts[t : t + 7].sum() == flagged[t : t + 7].any() for t in range(0, 200, 7))
    assert all(np.array_equal(notify(flagged[:t], 7), alerts[:t]) for t in range(200))


# ---- calibration in blocks -----------------------------------------------------------------------------------------


def calibrated(series, blocks, **options):
    return calibrate_blocks([series], blocks, tie_rtol=0, unit="day", **options)


def test_the_threshold_of_a_budget_equals_a_grid_search():
    """The lowest threshold at which the alarmed slots of all blocks, and a block of them more, keep to the budget."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        n, m = int(rng.integers(1, 30)), int(rng.integers(1, 8))
        maxima = rng.integers(0, int(rng.integers(2, 60)), (n, m)).astype(float)
        maxima[0, 0] = 99  # not all of them are equal
        budget = float(rng.integers(1, 64 * m)) / 64

        def holds(threshold):
            return Fraction(int((maxima > threshold).sum()) + m, n + 1) <= budget  # noqa: B023

        calibration = calibrated(maxima.repeat(3, axis=1).ravel(), Blocks(3 * m, 3))
        if not holds(math.inf):
            refused += 1
            with pytest.raises(InsufficientCalibrationError):
                calibration.threshold(budget, kind="block")
            continue
        threshold = calibration.threshold(budget, kind="block")
        assert threshold.value == min(value for value in maxima.ravel() if holds(value))
        assert threshold.guarantee.slots == m
    assert 50 < refused < 450


def test_a_budget_below_what_the_blocks_can_show_is_refused_with_what_is_needed():
    calibration = calibrated(np.random.default_rng(0).normal(size=39 * 20), Blocks(20, 1))
    assert calibration.threshold(20 / 40, kind="block").k == 1
    with pytest.raises(InsufficientCalibrationError, match=r"0\.5") as caught:
        calibration.threshold(0.49, kind="block")
    assert caught.value.n == 39
    assert caught.value.needed == 40  # 20/41 <= 0.49 < 20/40
    with pytest.raises(ValueError, match="20 slots"):
        calibration.threshold(20.0, kind="block")


def fresh_alarms(replicas, blocks, rho, level, *, transform=None, cut=39, fit=calibrated, seed=0):
    """Alarmed slots (R,) of a fresh block, each with a threshold of other blocks."""
    rng, counts = np.random.default_rng(seed), []
    ahead = 50  # steps that a transform needs before the blocks
    while len(counts) < replicas:
        held_out = ar1(rng, (25, ahead + cut * blocks.length), rho)
        new = ar1(rng, (25, ahead + blocks.length), rho)
        for series, fresh in zip(held_out, new, strict=True):
            threshold = fit(series if transform is None else transform(series), blocks).threshold(level)
            score = (fresh if transform is None else transform(fresh))[ahead:]
            counts.append(blocks.alarmed_slots([threshold.flag(score)]).sum())
    return np.array(counts)


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.95])
def test_a_fresh_block_raises_any_alarm_as_often_as_promised(rho):
    replicas, alpha = 1200, 0.1
    rate = (fresh_alarms(replicas, Blocks(1000), rho, alpha) > 0).mean()
    scatter = SIGMAS * math.sqrt(alpha * (1 - alpha) / replicas)
    assert rate <= alpha + scatter
    assert rate >= alpha - scatter  # k / (B + 1) is 4 / 40, exactly the level


def test_persistence_is_kept_to_the_level_because_it_is_calibrated():
    replicas, alpha = 800, 0.1
    rate = (fresh_alarms(replicas, Blocks(200), 0.9, alpha, transform=Persistence(3, 5)) > 0).mean()
    assert abs(rate - alpha) <= SIGMAS * math.sqrt(alpha * (1 - alpha) / replicas)


def test_control_a_threshold_of_points_keeps_no_level_of_blocks():
    def of_points(series, blocks):
        return Calibration.fit(series, tie_rtol=0)

    points = (fresh_alarms(100, Blocks(1000), 0.9, 0.1, fit=of_points) > 0).mean()
    assert points > 0.99


def test_control_points_that_are_calibrated_before_persistence_have_another_rate():
    rng, rule = np.random.default_rng(0), Persistence(3, 5)
    held_out, new = ar1(rng, 20_000, 0.0), ar1(rng, 200_000, 0.0)
    before = Calibration.fit(held_out, tie_rtol=0).threshold(0.05, kind="none")
    after = Calibration.fit(rule(held_out)[4:], tie_rtol=0).threshold(0.05, kind="none")
    assert before.flag(rule(new)[4:]).mean() < 0.005
    assert 0.035 < after.flag(rule(new)[4:]).mean() < 0.065


@pytest.mark.parametrize("budget", [1.0, 2.0])
def test_alarmed_slots_of_a_fresh_block_keep_to_the_budget(budget):
    counts = fresh_alarms(800, Blocks(1000, 50), 0.95, budget)
    assert counts.mean() <= budget + SIGMAS * counts.std() / math.sqrt(len(counts))
    assert counts.mean() >= budget / 4  # kept, not by silence


def mean_of_each_block_left_out(maxima, threshold_of):
    """Mean number of alarmed slots of a block with the threshold of all others: exactly what is due of a new one."""
    others = [np.delete(maxima, i, axis=0) for i in range(len(maxima))]
    alarmed = [int((new > threshold_of(rest)).sum()) for new, rest in zip(maxima, others, strict=True)]
    return Fraction(sum(alarmed), len(maxima))


@exhaustive
@given(st.integers(2, 25), st.integers(1, 6), st.integers(2, 200), st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_the_budget_holds_exactly_when_each_block_is_left_out_in_turn(n, m, values, seed, share):
    maxima = np.random.default_rng(seed).integers(0, values, (n, m)) + np.arange(m) * (seed % 2) * values
    maxima = maxima.astype(float)
    maxima[:2, 0] = -1, -2  # never are all of them equal
    budget = m / n + share * (m - m / n)

    def threshold_of(rest):
        return calibrated(rest.ravel(), Blocks(m, 1)).threshold(budget).value

    assert mean_of_each_block_left_out(maxima, threshold_of) <= Fraction(budget) + Fraction(1, 10**12)


def test_slots_that_alarm_together_use_up_the_budget_and_without_the_spare_block_more_than_that():
    together = np.random.default_rng(0).permutation(40).astype(float)[:, None].repeat(20, axis=1)
    kept = mean_of_each_block_left_out(
        together, lambda rest: calibrated(rest.ravel(), Blocks(20, 1)).threshold(1.0).value
    )
    without = mean_of_each_block_left_out(together, lambda rest: np.sort(rest, axis=None)[-(40 + 1)])
    assert kept == 1
    assert without == Fraction(3, 2)


def test_what_cannot_be_calibrated_in_blocks_is_refused():
    blocks = Blocks(10)
    with pytest.raises(InsufficientCalibrationError, match="no stretch holds a whole block of 10 steps") as caught:
        calibrate_blocks([np.zeros(9), np.full(20, NAN)], blocks, unit="day")
    assert (caught.value.n, caught.value.needed) == (0, 1)
    with pytest.raises(InsufficientCalibrationError):
        calibrate_blocks([], blocks, unit="day")
    failed = np.zeros(20)
    failed[[13, 17]] = math.inf
    with pytest.raises(NonFiniteScoreError, match=r"2 of 20 scores of stretch 1 are infinite \(first at step 13\)"):
        calibrate_blocks([np.arange(20), failed], blocks, unit="day")
    for unit in ("", "sample"):
        with pytest.raises(ValueError, match="how long a block is"):
            calibrate_blocks([np.arange(20)], blocks, unit=unit)


def test_a_calibration_of_blocks_knows_its_slots_its_unit_and_its_scorer():
    calibration = calibrate_blocks(
        [np.arange(20), np.arange(7)], Blocks(6, 2), unit="6 h", scorer_id="x", starts=[1, 0]
    )
    assert calibration.scores.tolist() == sorted([2, 4, 6, 8, 10, 12, 14, 16, 18, 1, 3, 5])
    assert (calibration.slots, calibration.unit, calibration.scorer_id) == (3, "6 h", "x")


# ---- episodes ------------------------------------------------------------------------------------------------------


def naive_episodes(scores, flagged, cooldown, release):
    """First and last step of each episode, by a machine that walks through the steps."""
    spans, is_open, quiet = [], False, 0
    for t, (score, flag) in enumerate(zip(scores, flagged, strict=True)):
        unscored = score != score
        near = bool(spans) and quiet <= cooldown
        if flag and not unscored:
            if near:
                spans[-1][1] = t
            else:
                spans.append([t, t])
            is_open, quiet = True, 0
        elif not unscored and is_open and near and release is not None and score > release:
            spans[-1][1], quiet = t, 0
        else:
            quiet += 1
            is_open = is_open and unscored
    return [tuple(span) for span in spans]


@exhaustive
@given(st.lists(few, max_size=40), st.integers(0, 4), st.sampled_from([None, -1.0, 0.0, 1.0]))
@example([3.0, 1.0, NAN, 1.0, 0.0, 1.0, 3.0], 1, 0.5)
def test_episodes_are_those_of_a_machine_that_walks(scores, cooldown, release):
    scores = np.array(scores, float)
    flagged = ~(scores <= 1)  # NaN is flagged, as by a threshold
    found = episodes(scores, flagged, cooldown=cooldown, release=release)
    assert [(e.onset, e.end - 1) for e in found] == naive_episodes(scores, flagged, cooldown, release)
    for e in found:
        inside = scores[e.onset : e.end]
        assert flagged[e.onset]
        assert e.peak_score == np.nanmax(inside) == scores[e.peak]
        assert e.flagged == (inside > 1).sum()
    assert sum(e.flagged for e in found) == (scores > 1).sum()


def spans(scores, **options):
    scores = np.array(scores, float)
    return [(e.onset, e.end) for e in episodes(scores, scores > 2, **options)]


def test_runs_of_flagged_steps_are_episodes():
    assert spans([0, 3, 4, 0, 3, 0, 0, 3]) == [(1, 3), (4, 5), (7, 8)]


def test_episodes_with_few_steps_between_them_are_one():
    assert spans([0, 3, 4, 0, 3, 0, 0, 3], cooldown=1) == [(1, 5), (7, 8)]
    assert spans([0, 3, 4, 0, 3, 0, 0, 3], cooldown=2) == [(1, 8)]


def test_an_episode_lasts_until_scores_fall_to_the_release():
    assert spans([2, 3, 1.5, 1.5, 1, 1.5, 3, 1.5], release=1) == [(1, 4), (6, 8)]
    assert spans([2, 3, 1.5, 1.5, 1, 1.5, 3, 1.5], release=1, cooldown=2) == [(1, 8)]


def test_unscored_steps_open_nothing_and_close_only_what_the_cooldown_does():
    assert spans([NAN, 3, NAN, 3, NAN, NAN, 3]) == [(1, 2), (3, 4), (6, 7)]
    assert spans([NAN, 3, NAN, 3, NAN, NAN, 3], cooldown=1) == [(1, 4), (6, 7)]
    assert spans([3, NAN, 1.5, NAN, NAN, 1.5], cooldown=1, release=1) == [(0, 3)]
    assert episodes([NAN, NAN], np.array([True, True])) == []


def test_an_episode_tells_its_peak_and_what_made_it():
    score = np.array([0, 3, 5, 5, 1.5, 0, 9.0])
    told = episodes(
        score,
        score > 2,
        p_value=[1, 0.02, 0.01, 0.01, 0.2, 1, NAN],
        tier=np.array([0, 1, 2, 2, 0, 0, -1], np.int8),
        contributions=[[0.0] * 4, [3, 0, 0, 0], [1, 0, 3, 1], [0] * 4, [0] * 4, [0] * 4, [2, 3, 1, 3]],
        release=1,
    )
    assert told == [
        Episode(1, 5, flagged=3, peak=2, peak_score=5.0, p_value=0.01, tier=2, channels=(2, 0, 3)),
        Episode(6, 7, flagged=1, peak=6, peak_score=9.0, p_value=None, tier=-1, channels=(1, 3, 0)),
    ]


def test_what_is_not_given_is_not_told():
    (one,) = episodes([0, 3.0], np.array([False, True]))
    assert one == Episode(1, 2, flagged=1, peak=1, peak_score=3.0, p_value=None, tier=None, channels=())
    assert episodes([], np.array([], bool)) == []


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [(0, 3), (4, 3), (1, 0), (1.0, 3), (1, "3"), (True, 3), (1, LAST + 1), (None, 3)])
def test_a_persistence_out_of_range_is_refused(pair):
    with pytest.raises(ValueError, match="must be a whole number of steps in 1"):
        Persistence(*pair)


@pytest.mark.parametrize("pair", [(0, None), (5, 6), (5, 0), (5.0, 1), ("5", 1), (LONGEST + 1, 1), (5, 1.0)])
def test_blocks_out_of_range_are_refused(pair):
    with pytest.raises(ValueError, match="must be a whole number of steps in 1"):
        Blocks(*pair)


@pytest.mark.parametrize("starts", [[], [0, 0], [-1], [0.0], ["0"]])
def test_starts_that_do_not_fit_the_stretches_are_refused(starts):
    with pytest.raises(ValueError, match="a step >= 0 for each of 1 stretches"):
        Blocks(5).slot_maxima([np.zeros(10)], starts)


@pytest.mark.parametrize("flagged", [[0, 1], [[True]], ["a"]])
def test_flags_that_are_not_true_or_false_are_refused(flagged):
    for use in (
        lambda: notify(flagged, 2),
        lambda: Blocks(2).alarmed_slots([flagged]),
        lambda: episodes([0.0, 1.0], flagged),
    ):
        with pytest.raises(ValueError, match="true or false for each step"):
            use()


def test_flags_of_other_stretches_than_the_scores_are_refused():
    for scores in ([np.zeros(3)], [np.zeros(2)] * 2):
        with pytest.raises(ValueError, match="of other stretches"):
            Blocks(2).alarmed_slots([np.zeros(2, bool)], scores)


@pytest.mark.parametrize(
    "options",
    [
        {"p_value": [0.1]},
        {"tier": [0]},
        {"contributions": [0.0, 1.0]},
        {"contributions": [[0.0]]},
        {"cooldown": -1},
        {"cooldown": 1.0},
        {"release": 3.0},
        {"release": NAN},
    ],
)
def test_episodes_of_what_does_not_fit_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        episodes([0.0, 3.0], np.array([False, True]), **options)


@pytest.mark.parametrize(
    "state", [None, {}, {"last": 3}, {"last": [1.0]}, {"last": [1.0] * 3}, {"last": [1.0] * 2, "more": 1}]
)
def test_a_state_of_another_persistence_is_refused(state):
    with pytest.raises(ValueError, match="no state of a persistence"):
        Persistence(2, 3).from_state(state)
