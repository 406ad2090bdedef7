"""What is promised, taken as a whole: from a model through a scorer and a file to the decisions of another process."""

import math
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import train
from torch.utils.data import DataLoader

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.data.windows import windows_of
from deepad.detectors import DenseAutoencoder
from deepad.errors import DataLeakError, NonFiniteScoreError
from deepad.quiet import quiet_lightning
from deepad.scoring.conformal import Calibration, as_scores
from deepad.scoring.discovery import select_fdr
from deepad.scoring.eventrule import EventRule
from deepad.scoring.events import Blocks, Persistence, calibrate_blocks, episodes
from deepad.scoring.groups import GroupedCalibration
from deepad.scoring.severity import SeverityPolicy
from deepad.scoring.workload import AlertBudget
from deepad.sklearn import AnomalyDetector

SIGMAS = 4.5
ALPHA = 0.05

# ---- rows that trained, and others ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """An autoencoder with far more weights than rows, trained until it knows them by heart; its rows, and others."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(30, 30)) / 5
    fit, val, held_out, fresh = ((rng.normal(size=(n, 30)) @ mixing).astype(np.float32) for n in (200, 50, 400, 20_000))
    torch.manual_seed(0)
    detector = DenseAutoencoder((30,), hidden_dims=(128,), latent_dim=16, patience=1000, weight_decay=0.0)
    loaders = (DataLoader(torch.from_numpy(x), batch_size=len(x)) for x in (fit, val))
    with quiet_lightning():
        train(detector, next(loaders), tmp_path_factory.mktemp("memory"), next(loaders), max_epochs=600,
              check_val_every_n_epoch=600)  # fmt: skip
    return detector, {"fit": fit, "val": val, "held out": held_out, "fresh": fresh}


def test_a_model_that_knows_its_rows_by_heart_keeps_its_rate_on_others(memory):
    detector, x = memory
    verdict = Scorer.calibrate(detector, x["held out"], alpha=ALPHA)(x["fresh"])
    low, high = verdict.future_alarms(level=1 - 1e-5)
    assert low <= verdict.flagged.sum() <= high


@pytest.mark.parametrize("rows", ["fit", "val"])
def test_rows_that_trained_or_stopped_the_training_calibrate_nothing(memory, rows):
    detector, x = memory
    with pytest.raises(DataLeakError, match=f"{len(x[rows])} of {len(x[rows])} calibration rows trained or selected"):
        Scorer.calibrate(detector, x[rows])
    one = np.concatenate([x["held out"], x[rows][-1:]])
    with pytest.raises(DataLeakError, match=r"1 of 401 .*first at row 400"):
        Scorer.calibrate(detector, one.astype(np.float64))


def test_control_a_threshold_from_rows_that_trained_alarms_ten_times_as_often(memory):
    detector, x = memory
    scorer = Scorer.calibrate(detector, x["held out"])
    leaked = Calibration.fit(scorer(x["fit"]).score).threshold(ALPHA)
    assert leaked.flag(scorer(x["fresh"]).score).mean() > 10 * ALPHA


# ---- the budget of blocks ------------------------------------------------------------------------------------------


def test_slots_that_alarm_together_keep_to_the_budget():
    """A bad day alarms in each of its slots, so that the budget is nearly used up; without the price of the new block
    (+ M in the rank) it is exceeded by a third."""
    slots, budget, replicas = 4, 2.0, 900
    rng = np.random.default_rng(1)
    model = PCAResidual(1).fit(np.array([[[-1.0, 0.0]], [[1.0, 0.0]], [[3.0, 0.0]]]))
    events, blocks = EventRule(block=slots, slot=1), Blocks(slots, 1)
    alarmed = []
    for _ in range(replicas):
        days = np.exp(3 * rng.normal(size=3))[:, None] + 1e-3 * rng.random((3, slots))
        series = np.stack([rng.normal(size=days.size), days.ravel()], 1)
        scorer = Scorer.calibrate(model, series[:-slots], steps="last", events=events, alpha=budget)
        verdict = scorer(series[-slots:])
        alarmed.append(blocks.alarmed_slots([verdict.flagged], [verdict.score]).sum())
    noise = SIGMAS * np.std(alarmed) / math.sqrt(replicas)
    assert 1.0 < np.mean(alarmed) <= budget
    assert noise < 0.35
    assert np.mean(alarmed) + noise < 4 * 2 / 3  # what it would be with two of the three days above the threshold


# ---- saved and loaded ----------------------------------------------------------------------------------------------


def variety(number):
    """A scorer of random kind, size and data, with what it is to judge and the groups of that."""
    rng = np.random.default_rng([7, number])
    features = int(rng.integers(2, 6))
    kind = ("level", "tiers", "rule", "groups", "budget", "events", "blocks")[number % 7]
    if kind in ("events", "blocks"):
        size = int(rng.integers(1, 5))
        series = rng.normal(size=(700, features)) * rng.lognormal(sigma=3)
        model = PCAResidual(2).fit(windows_of(series[:150], size).copy())
        events = EventRule(
            standardize=int(rng.integers(20, 40)) if rng.random() < 0.5 else None,
            persistence=(2, int(rng.integers(2, 5))),
            block=int(rng.integers(15, 30)) if kind == "blocks" else None,
            slot=5 if kind == "blocks" and rng.random() < 0.5 else None,
            interval=60.0 if rng.random() < 0.5 else None,
        )
        slots = 1 if events.blocks is None else events.blocks.slots
        rule = str(rng.choice(["last", "window", "mean", "median", "max"]))
        how = {"alpha": 0.3 * slots} if slots == 1 else {"tiers": {"mild": 0.6 * slots, "bad": 0.4 * slots}}
        return Scorer.calibrate(model, series[150:550], steps=rule, events=events, **how), series[550:], None
    n = int(rng.integers(150, 400))
    x = rng.lognormal(size=(n + 200, features)) * rng.lognormal(sigma=20)
    model = PCAResidual(int(rng.integers(1, features + 1))).fit(x[:100])
    names = rng.choice(["a", "ü", "1"], n + 100)
    level = float(rng.uniform(0.05, 0.4))
    how = {
        "level": {"alpha": level, **[{}, {"kind": "pac", "delta": 0.1}, {"delta": 0.2}][number % 3]},
        "tiers": {
            "tiers": {"mild": level + 0.2, "bad": level},
            "kind": ("marginal", "simultaneous", "pac")[number % 3],
        },
        "rule": {"threshold_rule": ("sigma:2.5", "iqr", "mad:4", "percentile:90")[number % 4], "delta": level},
        "groups": {"alpha": level, "groups": names[:n], "min_group": [None, 60][number % 2]},
        "budget": {"budget": "9 per day", "volume": "100 per day"},
    }[kind]
    return Scorer.calibrate(model, x[100 : n + 100], **how), x[n + 100 :], names[n:] if kind == "groups" else None


def told(scorer, x, groups):
    """Everything that is decided about x, to the bit, in one line."""
    verdict = scorer(x, groups=groups)
    arrays = [verdict.score, verdict.p_value, verdict.flagged, np.asarray(verdict.threshold)]
    arrays += [part for part in (verdict.tier, verdict.unscored) if part is not None]
    bits = [array.tobytes().hex() for array in arrays]
    return repr((scorer.id, bits, verdict.group, verdict.tiers, verdict.guarantee, scorer.decision.to_dict()))


FRESH = """
import sys, pathlib, hashlib, numpy as np
sys.path.insert(0, sys.argv[1]); sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
from test_acceptance import told
from deepad import Scorer
for number in range(int(sys.argv[3])):
    folder = pathlib.Path(sys.argv[2], str(number))
    groups = folder / "groups.npy"
    groups = np.load(groups) if groups.exists() else None
    print(hashlib.sha256(told(Scorer.load(folder), np.load(folder / "x.npy"), groups).encode()).hexdigest())
"""


def test_what_is_saved_decides_the_same_in_a_fresh_process_to_the_bit(tmp_path):
    expected, count = [], 200
    for number in range(count):
        scorer, x, groups = variety(number)
        scorer.save(tmp_path / str(number))
        np.save(tmp_path / str(number) / "x.npy", x)
        if groups is not None:
            np.save(tmp_path / str(number) / "groups.npy", groups)
        expected.append(sha256(told(scorer, x, groups).encode()).hexdigest())
    command = [sys.executable, "-c", FRESH, str(Path(__file__).parent), str(tmp_path), str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == expected


def test_scores_calibrate_as_they_are_and_are_kept_so(tmp_path):
    """In 64 bits: what a cast to 32 would take for one score stays apart."""
    x = 1 + 1e-9 * np.random.default_rng(3).random((300, 2))
    scorer = Scorer.calibrate(PCAResidual(1).fit(np.array([[-1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])), x)
    assert scorer.calibration.scores.tolist() == sorted(scorer(x).score.tolist())
    assert len(set(scorer.calibration.scores.astype(np.float32).tolist())) < 10 < len(set(scorer.calibration.scores))
    scorer.save(tmp_path)
    assert Scorer.load(tmp_path).calibration.scores.tobytes() == scorer.calibration.scores.tobytes()


# ---- rounding ------------------------------------------------------------------------------------------------------


def test_batches_and_threads_change_scores_but_no_decision(trained, digits):
    rows = digits.splits.calibration
    x = rows.x[rows.index].float()

    def score(batch, threads):
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return np.concatenate([trained[0].score(part).numpy() for part in x.split(batch)])
        finally:
            torch.set_num_threads(1)

    scores = {(batch, threads): score(batch, threads) for batch in (1, 7, 1024) for threads in (1, 4)}
    calibration = Calibration.fit(scores[1024, 1])
    found = [calibration.threshold(alpha).flag(given) for given in scores.values() for alpha in (0.05, 0.1, 0.3)]
    for decided, alpha in zip(found, 6 * (0.05, 0.1, 0.3), strict=True):
        assert decided.sum() <= calibration.threshold(alpha).k - 1  # the row of the threshold ties with itself
        assert np.array_equal(decided, found[(0.05, 0.1, 0.3).index(alpha)])


def test_repeated_rows_whose_scores_jitter_raise_no_more_alarms_than_asked_for():
    """One row in five is the same row; its score in use differs from that in the calibration by rounding noise."""
    alpha, n, m, atom, replicas = 0.1, 400, 500, 2.3, 1500
    rates = {(tie_rtol, noise): np.empty(replicas) for tie_rtol, noise in ((1e-5, 3e-6), (0.0, 0.0), (0.0, 3e-6))}
    rng = np.random.default_rng(5)
    for replica in range(replicas):
        held_out, fresh = (np.where(rng.random(k) < 0.2, atom, rng.exponential(size=k)) for k in (n, m))
        jitter = rng.uniform(-1, 1, m)
        for (tie_rtol, noise), found in rates.items():
            threshold = Calibration.fit(held_out, tie_rtol=tie_rtol).threshold(alpha)
            found[replica] = threshold.flag(fresh * (1 + noise * jitter)).mean()
    *kept, control = rates.values()
    for found in kept:
        assert found.mean() <= alpha + SIGMAS * found.std() / math.sqrt(replicas)
    assert control.mean() > 1.5 * alpha


# ---- scores that are no ordinary numbers ---------------------------------------------------------------------------

DENORMAL = 5e-324
#        score      rank among 1..99 (0: none)
ODD = {math.nan: 0, math.inf: 1, -math.inf: 100, 1e308: 1, -1e308: 100, DENORMAL: 100, -DENORMAL: 100, -0.0: 100}
HELD_OUT = np.arange(1.0, 100.0)


@pytest.fixture(scope="module")
def line():
    """Scorers, by variety, whose calibration scores are 1..99 (three times for groups)."""
    model = PCAResidual(1).fit(np.array([[-1.0, 0.0], [1.0, 0.0], [3.0, 0.0]]))
    x = np.stack([np.zeros(99), np.sqrt(HELD_OUT)], 1)
    groups = np.repeat(["a", "b"], 99)
    windows = PCAResidual(1).fit(np.array([[[-1.0, 0.0]], [[1.0, 0.0]], [[3.0, 0.0]]]))
    return {
        "samples": Scorer.calibrate(model, x),
        "tiers": Scorer.calibrate(model, x, tiers={"mild": 0.1, "bad": 0.02}, kind="marginal"),
        "groups": Scorer.calibrate(model, np.concatenate([x, x]), groups=groups),
        "steps": Scorer.calibrate(windows, x, steps="last"),
        "blocks": Scorer.calibrate(windows, np.repeat(x, 2, axis=0), steps="last", events=EventRule(block=2)),
    }


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("kind", ["samples", "tiers", "groups", "steps", "blocks"])
def test_a_scorer_judges_any_float_by_its_order_and_never_calls_nan_normal(line, kind, odd):
    scores, rank = np.array([odd, 50.0, odd, 1e3]), ODD[odd]
    verdict = line[kind].judge(scores, groups=["a", "b", "a", "b"] if kind == "groups" else None)
    stepwise = kind in ("steps", "blocks")  # where NaN is a step that no window scores; what fails scores +inf
    alarm = rank == 1 or (rank == 0 and not stepwise)
    assert verdict.flagged.tolist() == [alarm, False, alarm, True]
    np.testing.assert_array_equal(verdict.p_value, [rank / 100 or math.nan, 0.5 + 0.01, rank / 100 or math.nan, 0.01])
    assert verdict.invalid.tolist() == [rank == 0 and not stepwise, False, rank == 0 and not stepwise, False]
    assert verdict.n_unscored == (2 if rank == 0 and stepwise else 0)
    if kind == "tiers":
        name = {0: "invalid", 1: "bad"}.get(rank, "")
        assert verdict.tier_names == [name, "", name, "bad"]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_groups_and_tiers_judge_any_float_by_its_order(odd):
    calibration, rank = GroupedCalibration.fit(np.tile(HELD_OUT, 2), np.repeat(["a", "b"], 99)), ODD[odd]
    assert calibration.ranks([odd, 50.0], ["b", "a"]).tolist() == [rank, 51]
    assert calibration.threshold(0.05).flag([odd, 50.0], ["b", "a"]).tolist() == [rank < 2, False]
    policy = SeverityPolicy({"mild": 0.1, "bad": 0.02}, "marginal")
    name = {0: "invalid", 1: "bad"}.get(rank, "")
    assert policy.tiers(Calibration.fit(HELD_OUT), [odd, 50.0, 95.0]) == [name, "", "mild"]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_events_take_any_float_by_its_order(odd):
    scores = np.array([1.0, odd, 2.0, 3.0])
    held = Persistence(1, 2)(scores)
    expected = [1.0, *(math.nan if math.isnan(b) else np.fmax(a, b) for a, b in pairwise(scores))]
    np.testing.assert_array_equal(held, expected)
    np.testing.assert_array_equal(Blocks(4, 2).slot_maxima([scores]).ravel(), [] if math.isnan(odd) else
                                  [max(1.0, odd), 3.0])  # fmt: skip
    found = episodes(scores, scores > 1.5)
    assert [(part.onset, part.end) for part in found] == ([(1, 4)] if ODD[odd] == 1 else [(2, 4)])
    if math.isinf(odd):
        with pytest.raises(NonFiniteScoreError, match="1 of 4 scores of stretch 0 are infinite"):
            calibrate_blocks([scores], Blocks(2), unit="pair")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_groups_refuse_calibration_scores_that_are_not_finite(bad):
    with pytest.raises(NonFiniteScoreError):
        GroupedCalibration.fit([1.0, bad, 2.0], ["a", "b", "a"])


@pytest.mark.parametrize("p", [math.inf, -math.inf, 1e300, -DENORMAL, 1.0000001])
def test_what_is_no_p_value_is_refused_by_what_takes_them(p):
    with pytest.raises(ValueError, match="p_values"):
        AlertBudget(0.1).update([0.5, p])
    with pytest.raises(ValueError, match=r"p.values"):
        select_fdr([0.5, p], 0.1, n_calibration=99)


def test_a_missing_p_value_is_flagged_by_a_budget_and_not_selected_as_a_discovery():
    budget = AlertBudget(0.1)
    assert budget.update([math.nan, 0.9, math.nan]).tolist() == [True, False, True]
    assert (budget.invalid, budget.counted, budget.alarms) == (2, 1, 0)
    chosen = select_fdr([math.nan, 0.01, 0.9], 0.1, n_calibration=99)
    assert (chosen.invalid.tolist(), chosen.mask.tolist()) == ([True, False, False], [False, True, False])


@pytest.fixture(scope="module")
def estimator():
    x = np.random.default_rng(6).normal(size=(200, 3))
    with quiet_lightning():
        return AnomalyDetector(arguments={"hidden_dims": [8], "latent_dim": 2}, max_epochs=3, random_state=0).fit(x)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_scikit_learn_rows_that_are_not_finite_are_refused(estimator, odd):
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        estimator.predict([[0.0, odd, 0.0]])


def test_scikit_learn_rows_that_overflow_are_flagged_and_zeros_of_any_kind_are_one(estimator):
    with np.errstate(over="ignore"):
        assert estimator.predict([[1e308, -1e308, 1e308], [0.0, 1e308, 0.0]]).tolist() == [-1, -1]
    zeros = estimator.score_samples([[0.0] * 3, [-0.0] * 3, [DENORMAL] * 3])
    assert zeros[0] == zeros[1] == zeros[2]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_scikit_learn_signs_of_odd_scores(estimator, odd, monkeypatch):
    """A score that a model gives is +1 where it is normal; NaN is not."""
    scorer = estimator.scorer_

    class Odd:
        threshold = scorer.threshold

        def __call__(self, x):
            return scorer.judge(as_scores([odd]))

    monkeypatch.setattr(estimator, "scorer_", Odd())
    assert estimator.predict([[0.0] * 3]).tolist() == [-1 if ODD[odd] < 2 else 1]
