"""Stale calibrations: the laws of the test, against a literal twin and by simulation, its power and its memory."""

import hashlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_breast_cancer

from deepad.errors import DeepadError, InputError, NonFiniteScoreError
from deepad.scoring import drift
from deepad.scoring.drift import DriftMonitor, autocorrelation, smoothed_p_values

SIGMAS = 4.5  # two-sided 7e-6
P_MIN = 1e-5
exhaustive = settings(derandomize=True, deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate])
MODES = [{"level": 0.01}, {"run_length": 1000.0}]

atoms = st.sampled_from([-3.0, -1.0, -0.0, 0.0, 1e-40, 1.0, 1.001, 2.0, 1e300, math.inf, -math.inf, math.nan])
streams = st.lists(st.one_of(st.floats(width=16), atoms), max_size=60)
held_outs = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=10)


def at_most(level, replicas):
    """The largest share that a true probability of at most `level` shows in so many replicas."""
    return level + SIGMAS * math.sqrt(level * (1 - level) / replicas)


def key_of(replica):
    return replica.to_bytes(4, "little")


# ---- a literal twin ------------------------------------------------------------------------------------------------


def bucket(score):
    """Sign and magnitude on a grid of 2 %, as a pair that sorts like the scores."""
    sign = int(score > 0) - int(score < 0)
    if sign == 0 or abs(score) < 1.02**-3488:
        return 0, 0
    steps = 3488 if math.isinf(score) else min(math.floor(math.log(abs(score)) / math.log(1.02)), 3488)
    return sign, sign * steps


def hashed(key, message, number=0, of=1):
    digest = hashlib.blake2b(message, key=key, digest_size=8 * of).digest()[8 * number : 8 * number + 8]
    return (int.from_bytes(digest, "little") // 2**12 + 0.5) / 2**52


def twin(held_out, scores, key, run_length=None):
    """Capital M (or R) after each score: all earlier ones compared one by one, three accounts of plain products."""
    earlier, accounts, evidence = [bucket(s) for s in held_out], [1 / 3] * 3, 1.0 if run_length is None else 0.0
    path = []
    for t, score in enumerate(s for s in scores if not math.isnan(s)):
        new = bucket(score)
        uniform = hashed(key, f"{len(str(t // 8))} {t // 8}drift".encode(), t % 8, of=8)
        above, ties = sum(1 for old in earlier if old > new), sum(1 for old in earlier if old == new)
        p = (above + uniform * (1 + ties)) / (len(earlier) + 1)
        before = sum(accounts)
        shared = [0.99 * account + 0.01 * before / 3 for account in accounts]
        accounts = [account * (1 + e * (p - 0.5)) for account, e in zip(shared, (-1, 0, 1), strict=True)]
        growth = sum(accounts) / before
        evidence = growth * (evidence if run_length is None else 1 + evidence)
        path.append(evidence)
        earlier.append(new)
    return path


@exhaustive
@given(held_outs, streams, st.binary(max_size=64), st.sampled_from(MODES))
def test_the_evidence_equals_that_of_one_comparison_after_the_other(held_out, scores, key, mode):
    monitor = DriftMonitor(held_out, key=key, exchangeable=True, **mode)
    path = twin(held_out, scores, key, mode.get("run_length"))
    state = monitor.update(scores)
    assert state.seen == len(path)
    if path:
        assert state.evidence == pytest.approx(math.log10(path[-1]), abs=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_a_calibration_is_stale_from_the_first_score_at_which_the_twin_reaches_the_limit(mode):
    rng = np.random.default_rng(0)
    for replica in range(20):
        held_out, scores = rng.lognormal(size=50), rng.lognormal(mean=2, size=150)
        limit = mode.get("run_length", 100.0)
        path = twin(held_out, scores, key_of(replica), mode.get("run_length"))
        reached = next(t for t, evidence in enumerate(path) if evidence >= limit)
        monitor = DriftMonitor(held_out, key=key_of(replica), **mode)
        monitor.update([math.nan, math.nan])  # a position counts them, the evidence does not
        state = monitor.update(np.insert(scores, 3, math.nan))
        assert state.stale
        assert state.since == reached + 3
        assert (state.seen, state.skipped, round(10**state.limit)) == (150, 3, limit)


@exhaustive
@given(streams, st.lists(st.integers(0, 60), max_size=5), st.sampled_from(MODES))
def test_how_a_stream_is_cut_into_calls_changes_no_bit(scores, cuts, mode):
    whole, parts = (DriftMonitor([1.0, 2.0, 5.0], **mode) for _ in range(2))
    for part in np.split(np.array(scores), sorted(min(cut, len(scores)) for cut in cuts)):
        parts.update(part)
    assert parts.state == whole.update(scores)


def test_long_calls_change_no_bit_either():
    scores = np.random.default_rng(1).lognormal(size=1000)
    whole, single = (DriftMonitor(np.arange(1.0, 100), exchangeable=True) for _ in range(2))
    whole.update(scores)
    for score in scores:
        single.update([score])
    assert single.state == whole.state


# ---- laws without drift --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capitals():
    """Capital M and detector R of 2000 monitors with one calibration score each, after 1, 5 and 30 scores with ties."""
    rng, found = np.random.default_rng(2), {"level": [], "run_length": []}
    for replica in range(2000):
        scores = rng.integers(1, 8, 31).astype(float)
        for mode in MODES:
            monitor = DriftMonitor(scores[:1], key=key_of(replica), **mode)
            found[next(iter(mode))].append([10 ** monitor.update(scores[a:b]).evidence for a, b in STOPS])
    return {mode: np.array(values) for mode, values in found.items()}


STOPS = ((1, 2), (2, 6), (6, 31))


def test_the_capital_starts_at_1_and_keeps_a_mean_of_1(capitals):
    assert DriftMonitor([1.0], level=0.01).state.evidence == 0
    capital = capitals["level"]
    noise = 1e-12 + SIGMAS * capital.std(axis=0) / math.sqrt(len(capital))
    assert (np.abs(capital.mean(axis=0) - 1) <= noise).all()
    assert (noise < 0.15).all()


def test_the_run_length_detector_starts_at_0_and_has_the_number_of_scores_as_its_mean(capitals):
    assert DriftMonitor([1.0], run_length=100).state.evidence == -math.inf
    detector = capitals["run_length"]
    noise = 1e-12 + SIGMAS * detector.std(axis=0) / math.sqrt(len(detector))
    assert (np.abs(detector.mean(axis=0) - [1, 5, 30]) <= noise).all()
    assert (noise < [0.05, 0.2, 3]).all()


def share_ever_stale_of_a_fixed_calibration(replicas, steps, n, values, limit=20.0):
    """The mistake: new scores ranked among the calibration scores only; all replicas at once."""
    rng = np.random.default_rng(3)
    held_out = rng.integers(0, values, (replicas, n))
    counts = np.array([np.bincount(row, minlength=values) for row in held_out])
    accounts, most = np.full((3, replicas), 1 / 3), np.zeros(replicas)
    bets, everyone = np.array([[-1], [0], [1]]), np.arange(replicas)
    for _ in range(steps):
        scores = rng.integers(0, values, replicas)
        above = (counts * (np.arange(values) > scores[:, None])).sum(axis=1)
        p = (above + rng.random(replicas) * (1 + counts[everyone, scores])) / (n + 1)
        accounts = (0.99 * accounts + 0.01 * accounts.sum(axis=0) / 3) * (1 + bets * (p - 0.5))
        most = np.maximum(most, accounts.sum(axis=0))
    return (most >= limit).mean()


def test_without_drift_a_calibration_is_ever_called_stale_no_more_often_than_its_level():
    replicas, steps, n, level = 2000, 300, 20, 0.05
    rng = np.random.default_rng(4)
    stale = 0
    for replica in range(replicas):
        scores = rng.integers(1, 21, n + steps).astype(float)  # twenty atoms: every score has ties
        stale += DriftMonitor(scores[:n], level=level, key=key_of(replica)).update(scores[n:]).stale
    assert stale / replicas <= at_most(level, replicas)
    assert stale / replicas > 0.01  # it can alarm
    assert share_ever_stale_of_a_fixed_calibration(replicas, steps, n, 20) > 5 * at_most(level, replicas)


def test_measured_values_in_random_order_are_stale_no_more_often_than_the_level():
    pool = load_breast_cancer().data[:, 13]  # heavy tail, both classes: exchangeable by the permutation alone
    replicas, level, rng = 600, 0.1, np.random.default_rng(5)
    stale = 0
    for replica in range(replicas):
        scores = rng.permutation(pool)
        stale += (
            DriftMonitor(scores[:50], level=level, key=key_of(replica), exchangeable=True).update(scores[50:]).stale
        )
    assert stale / replicas <= at_most(level, replicas)


def test_the_mean_number_of_scores_until_a_false_alarm_is_at_least_the_run_length():
    run_length, replicas, cap, rng = 200, 200, 3000, np.random.default_rng(6)
    times = []
    for replica in range(replicas):
        monitor = DriftMonitor(rng.lognormal(size=50), run_length=run_length, key=key_of(replica))
        while not monitor.state.stale and monitor.state.seen < cap:
            monitor.update(rng.lognormal(size=250))
        since = monitor.state.since
        times.append(cap if since is None else since + 1)
    noise = SIGMAS * np.std(times) / math.sqrt(replicas)
    assert np.mean(times) >= run_length - noise
    assert np.mean(times) <= 8 * run_length  # it does alarm


def test_the_order_of_independent_scores_does_not_change_the_law_of_the_evidence():
    rng, one, other = np.random.default_rng(7), [], []
    for replica in range(500):
        held_out, scores = rng.lognormal(size=30), rng.lognormal(size=100)
        one.append(DriftMonitor(held_out, key=key_of(replica)).update(scores).evidence)
        other.append(DriftMonitor(held_out, key=b"other" + key_of(replica)).update(scores[::-1]).evidence)
    assert stats.ks_2samp(one, other).pvalue > P_MIN
    assert one != other


def test_the_order_of_calibration_scores_changes_no_bit():
    rng = np.random.default_rng(8)
    held_out, scores = rng.lognormal(size=99), rng.lognormal(size=200)
    assert DriftMonitor(held_out).update(scores) == DriftMonitor(rng.permutation(held_out)).update(scores)


# ---- power ---------------------------------------------------------------------------------------------------------


def delays(mode, shift, *, good, replicas, then=800, n=100):
    """Scores between the shift of log scores and its discovery, inf where it was not found or found too early."""
    found, rng = [], np.random.default_rng(9)
    for replica in range(replicas):
        monitor = DriftMonitor(rng.lognormal(size=n), key=key_of(replica), exchangeable=True, **mode)
        early = monitor.update(rng.lognormal(size=good)).stale
        late = monitor.update(rng.lognormal(mean=shift, size=then))
        found.append(late.since - good if late.stale and not early else math.inf)
    return np.array(found)


@pytest.mark.parametrize("shift", [1.0, -1.0])
@pytest.mark.parametrize("mode", [{"level": 0.01}, {"run_length": 1e5}])
def test_scores_that_grow_or_shrink_by_one_deviation_are_found_soon(mode, shift):
    found = delays(mode, shift, good=1000, replicas=100)
    assert np.isfinite(found).mean() >= 0.9
    assert np.median(found) <= 100


def test_a_run_length_finds_drift_after_a_long_good_time_sooner_than_a_level_does():
    level, run_length = (delays(mode, 1.0, good=20_000, replicas=10) for mode in ({"level": 0.01}, {"run_length": 1e6}))
    assert np.median(run_length) <= 100
    assert np.median(level) > 2 * np.median(run_length)


def test_a_stuck_sensor_is_found():
    rng = np.random.default_rng(10)
    assert DriftMonitor(rng.lognormal(size=200)).update(np.full(200, 1e-3)).stale


def test_once_stale_it_stays_so():
    rng = np.random.default_rng(11)
    monitor = DriftMonitor(rng.lognormal(size=200))
    first = monitor.update(rng.lognormal(mean=2, size=30))
    assert first.stale
    later = monitor.update(rng.lognormal(size=5000))
    assert (later.stale, later.since) == (True, first.since)
    assert later.evidence < later.limit


# ---- odd scores ----------------------------------------------------------------------------------------------------


def test_nan_has_no_rank_and_is_counted():
    scores = np.random.default_rng(12).lognormal(size=300)
    holes = np.insert(scores, [0, 5, 5, 300], math.nan)
    plain, holed = (DriftMonitor([1.0, 2.0]).update(stream) for stream in (scores, holes))
    assert (holed.evidence, holed.seen, holed.skipped) == (plain.evidence, 300, 4)
    assert "4 NaN skipped" in str(holed)
    only = DriftMonitor([1.0]).update([math.nan] * 3)
    assert (only.evidence, only.seen, only.skipped) == (0, 0, 3)
    assert DriftMonitor([1.0]).update([]).seen == 0


@pytest.mark.parametrize(("infinite", "huge"), [(math.inf, 1e308), (-math.inf, -1e308)])
def test_infinite_scores_are_the_most_extreme_ones(infinite, huge):
    held_out = np.random.default_rng(13).normal(size=100)
    one, other = (DriftMonitor(held_out).update(np.full(100, value)) for value in (infinite, huge))
    assert one == other
    assert one.stale


@exhaustive
@given(st.floats(1e-29, 1e29), st.sampled_from([-1, 1]))
def test_scores_two_percent_apart_lie_in_different_buckets_and_closer_ones_in_neighbours(score, sign):
    low, high = sorted([sign * score, sign * score * 1.0201])
    one, near, other = drift._buckets(np.array([low, (low + high) / 2, high]))
    assert other - one in (1, 2)
    assert one <= near <= other


def test_the_grid_does_not_depend_on_data_and_covers_sixty_decades_of_either_sign():
    edges = drift._EDGES
    assert (np.diff(edges) > 0).all()
    assert (edges == -edges[::-1]).all()
    assert 0.97e30 < edges[-1] < 1e30
    assert drift._buckets(np.array([0.0, -0.0, 5e-324, -1e-31])).tolist() == [len(edges) // 2] * 4


def test_the_memory_does_not_grow():
    monitor = DriftMonitor(np.random.default_rng(14).lognormal(size=100))
    before = sum(array.nbytes for array in monitor.to_state()[1].values())
    attributes = set(vars(monitor))
    monitor.update(np.random.default_rng(15).lognormal(size=50_000))
    assert sum(array.nbytes for array in monitor.to_state()[1].values()) == before <= 115_000
    assert set(vars(monitor)) == attributes


# ---- state ---------------------------------------------------------------------------------------------------------

CONTINUE = """
import json, sys
import numpy as np
from deepad.scoring.drift import DriftMonitor, smoothed_p_values
folder = sys.argv[1]
document = json.load(open(f"{folder}/state.json"))
monitor = DriftMonitor.from_state(document, dict(np.load(f"{folder}/state.npz")))
state = monitor.update(np.load(f"{folder}/rest.npy"))
p = smoothed_p_values([1, 2, 2, 3], [2, 2, 4], key=b"k", ids=["a", "b", "c"], scorer_id="m")
print(json.dumps([state.evidence.hex(), state.since, state.seen, state.skipped, [v.hex() for v in p.tolist()]]))
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [0, 333])
def test_a_monitor_restored_in_a_fresh_process_continues_bit_for_bit(tmp_path, mode, cut):
    rng = np.random.default_rng(16)
    scores = np.concatenate([rng.lognormal(size=400), [math.nan, math.inf], rng.lognormal(mean=1, size=200)])
    monitor = DriftMonitor(rng.lognormal(size=60), key=b"secret", **mode)
    monitor.update(scores[:cut])
    document, arrays = monitor.to_state()
    (tmp_path / "state.json").write_text(json.dumps(document, allow_nan=False))
    np.savez(tmp_path / "state.npz", **arrays)
    np.save(tmp_path / "rest.npy", scores[cut:])
    run = [sys.executable, "-c", CONTINUE, str(tmp_path)]
    env = {**os.environ, "PYTHONHASHSEED": str(cut)}
    told = json.loads(subprocess.run(run, capture_output=True, text=True, check=True, env=env).stdout)
    here = monitor.update(scores[cut:])
    p_values = smoothed_p_values([1, 2, 2, 3], [2, 2, 4], key=b"k", ids=["a", "b", "c"], scorer_id="m")
    assert here.stale
    assert told == [here.evidence.hex(), here.since, here.seen, here.skipped, [v.hex() for v in p_values.tolist()]]


def test_a_saved_state_does_not_change_with_the_monitor():
    monitor = DriftMonitor([1.0, 2.0])
    document, arrays = monitor.to_state()
    restored = DriftMonitor.from_state(document, arrays)
    monitor.update([5.0] * 50)
    assert restored.state.seen == 0
    assert arrays["counts"].sum() == 2
    restored.update([5.0] * 50)
    assert arrays["counts"].sum() == 2
    assert restored.state == monitor.state


@pytest.mark.parametrize(
    "change",
    [
        {"seen": -1},
        {"seen": 1.0},
        {"seen": 10**6},
        {"since": 99},
        {"level": 2.0},
        {"run_length": 5.0},
        {"key": "no hex"},
        {"other": 1},
        {"counts": np.zeros(3, np.int64)},
        {"counts": np.full(len(drift._EDGES) + 1, -1)},
        {"counts": np.ones(len(drift._EDGES) + 1)},
        {"capital": np.array([1 / 3, 1 / 3, 1 / 3])},
        {"capital": np.array([1.0, 1.0, 1.0, 0.0])},
        {"capital": np.array([math.nan, 0.5, 0.5, 0.0])},
        {"capital": np.array([1 / 3, 1 / 3, 1 / 3, math.inf])},
    ],
    ids=str,
)
def test_a_state_that_contradicts_itself_is_refused(change):
    monitor = DriftMonitor([1.0, 2.0])
    monitor.update([3.0, 4.0])
    document, arrays = monitor.to_state()
    for name, value in change.items():
        (arrays if name in arrays else document)[name] = value
    with pytest.raises(ValueError, match=r"state of a drift monitor|strictly between|either|hex"):
        DriftMonitor.from_state(document, arrays)


# ---- what is said and refused --------------------------------------------------------------------------------------


def test_the_state_says_in_one_line_whether_the_calibration_is_stale():
    monitor = DriftMonitor(np.random.default_rng(17).lognormal(size=100), level=0.01)
    assert (
        str(monitor.state) == "no sign that the calibration is stale: evidence 10^0.00, limit 10^2.00 (after 0 scores)"
    )
    state = monitor.update(np.full(200, 50.0))
    assert str(state).startswith(f"calibration is stale since score {state.since} (of 200 scores): ")
    assert "calibrate on recent normal data" in str(state)
    assert "\n" not in str(state)
    assert "plant" not in str(state)


def test_a_monitor_without_a_wish_keeps_a_level_of_one_percent():
    monitor = DriftMonitor([1.0])
    assert (monitor.level, monitor.run_length, monitor.state.limit) == (0.01, None, pytest.approx(2))
    assert DriftMonitor([1.0], run_length=1000).level is None


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"level": 0.01, "run_length": 100}, "either"),
        ({"level": 0.0}, "level"),
        ({"level": 20}, "level"),
        ({"run_length": 1}, "above 1"),
        ({"run_length": math.nan}, "above 1"),
        ({"run_length": math.inf}, "above 1"),
        ({"key": bytes(65)}, "64"),
    ],
)
def test_arguments_out_of_range_are_refused(how, match):
    with pytest.raises(ValueError, match=match):
        DriftMonitor([1.0, 2.0], **how)


@pytest.mark.parametrize("entry", [DriftMonitor, lambda scores: smoothed_p_values(scores, [1.0], key=b"")])
def test_calibration_scores_that_calibrate_nothing_are_refused(entry):
    with pytest.raises(ValueError, match="got none"):
        entry([])
    for bad in (math.nan, math.inf):
        with pytest.raises(NonFiniteScoreError):
            entry([1.0, bad])
    with pytest.raises(TypeError):
        entry(np.array([1j]))


def autoregressive(rng, n, rho):
    noise, values = rng.normal(size=n), np.empty(n)
    values[0] = noise[0]
    for t in range(1, n):
        values[t] = rho * values[t - 1] + math.sqrt(1 - rho**2) * noise[t]
    return np.exp(values)


def test_calibration_scores_that_depend_on_their_neighbours_are_refused():
    rng = np.random.default_rng(18)
    for _ in range(10):
        with pytest.raises(InputError, match=r"at lag 1, at most .* block maxima") as refused:
            DriftMonitor(autoregressive(rng, 500, 0.7))
        assert isinstance(refused.value, DeepadError)
    seasonal = np.exp(np.sin(np.arange(300) * 2 * np.pi / 20)) * rng.lognormal(sigma=0.2, size=300)
    with pytest.raises(InputError, match="depend on each other"):
        DriftMonitor(seasonal)
    thinned = autoregressive(rng, 10_000, 0.7)[::20]
    DriftMonitor(thinned)


def test_sorted_scores_look_dependent_unless_they_are_known_not_to_be():
    held_out = np.sort(np.random.default_rng(19).lognormal(size=100))
    with pytest.raises(InputError, match="exchangeable=True"):
        DriftMonitor(held_out)
    DriftMonitor(held_out, exchangeable=True)


def test_scores_that_the_grid_cannot_tell_apart_are_refused():
    held_out = np.random.default_rng(20).normal(1000, 1, 500)
    with pytest.raises(InputError, match=r"within 2 % .* subtract"):
        DriftMonitor(held_out)
    DriftMonitor(held_out - 1000)


def test_equal_scores_are_no_matter_of_the_grid():
    assert not DriftMonitor(np.full(100, 3.0)).update(np.full(100, 3.0)).stale
    assert DriftMonitor(np.full(100, 3.0)).update(np.full(100, 2.0)).stale


# ---- autocorrelation -----------------------------------------------------------------------------------------------


def test_autocorrelation_equals_that_of_ranks_one_product_after_the_other():
    scores = autoregressive(np.random.default_rng(21), 60, 0.5)
    ranks = [sum(1 for other in scores if other < score) for score in scores]
    mean = sum(ranks) / 60
    total = sum((rank - mean) ** 2 for rank in ranks)
    expected = [
        sum((ranks[t] - mean) * (ranks[t + lag] - mean) for t in range(60 - lag)) / total for lag in range(1, 60)
    ]
    assert autocorrelation(scores, 59) == pytest.approx(expected, abs=1e-12)
    assert (autocorrelation(np.log(scores), 5) == autocorrelation(scores, 5)).all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.standard_cauchy(400),
        lambda rng: rng.binomial(
            1, 0.01, 400
        ),  # mean ranks of rare values would make chance pairs look like dependence
        lambda rng: np.zeros(400),
    ],
    ids=["heavy", "sparse", "constant"],
)
def test_independent_scores_of_any_law_have_small_autocorrelations(draw):
    rng = np.random.default_rng(22)
    found = np.array([autocorrelation(draw(rng), 20) for _ in range(300)])
    assert np.abs(found).max() <= SIGMAS / math.sqrt(400)


@pytest.mark.parametrize(("scores", "lags"), [([1.0, 2.0], 2), ([1.0, 2.0], 0), ([1.0], 1), ([1.0, math.nan, 2.0], 1)])
def test_an_autocorrelation_of_what_is_not_there_is_refused(scores, lags):
    with pytest.raises(ValueError, match=r"lags|NaN"):
        autocorrelation(scores, lags)


# ---- smoothed p-values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [None, 5], ids=["continuous", "ties"])
def test_smoothed_p_values_of_fresh_normals_are_uniform(values):
    rng, n, replicas = np.random.default_rng(23), 9, 12_000
    shape = (replicas, n + 1)
    draws = rng.random(shape) if values is None else rng.integers(0, values, shape).astype(float)
    p = [smoothed_p_values(row[:n], row[n:], key=b"", ids=[i])[0] for i, row in enumerate(draws)]
    assert stats.kstest(p, "uniform").pvalue > P_MIN


def test_smoothed_p_values_of_the_textbook_example():
    u = [hashed(b"k", f"{len(name)} {name}model".encode()) for name in ("a", "bb", "7", "d")]
    p = smoothed_p_values([1, 2, 2, 3], [2, 4, 0, math.nan], key=b"k", ids=["a", "bb", 7, "d"], scorer_id="model")
    assert p[:3].tolist() == [(1 + 3 * u[0]) / 5, u[1] / 5, (4 + u[2]) / 5]
    assert math.isnan(p[3])
    extremes = smoothed_p_values([1.0, 2.0], [math.inf, -math.inf], key=b"")
    assert extremes[0] < 1 / 3
    assert extremes[1] > 2 / 3


def test_the_drawn_number_belongs_to_the_key_the_sample_and_the_scorer():
    def drawn(ids, key=b"", scorer_id=""):
        return smoothed_p_values([0.0], np.ones(len(ids)), key=key, ids=ids, scorer_id=scorer_id).tolist()

    assert drawn(["x", "y"]) == drawn(["y", "x"])[::-1]
    assert drawn(["x"]) == drawn(["x"])
    assert drawn([0, 1]) == smoothed_p_values([0.0], [1.0, 1.0], key=b"").tolist()
    others = [drawn(["x"]), drawn(["y"]), drawn(["x"], key=b"1"), drawn(["x"], scorer_id="m"), drawn(["xm"])]
    assert len({p for (p,) in others}) == len(others)


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "a"], ["a", "b", "c"], [1, "1"]])
def test_ids_that_are_not_one_for_each_score_are_refused(ids):
    with pytest.raises(ValueError, match="2 different names"):
        smoothed_p_values([1.0], [1.0, 2.0], key=b"", ids=ids)
