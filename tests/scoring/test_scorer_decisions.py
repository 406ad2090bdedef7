"""How a scorer of samples decides: tiers, groups, rules and budgets, and what is kept of them."""

import json
import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from deepad import Scorer, Verdict
from deepad.baselines import PCAResidual
from deepad.errors import ArtifactCorruptError, DataLeakError, InputError, InsufficientCalibrationError
from deepad.evaluation.metrics import evaluate
from deepad.schema import Column, TableSchema
from deepad.scoring.artifact import canonical_json, sealed
from deepad.scoring.conformal import Calibration
from deepad.scoring.decision import Decision
from deepad.scoring.groups import GroupedCalibration
from deepad.scoring.promise import required_n
from deepad.scoring.records import as_table
from deepad.scoring.summary import summary

NAMES = ("a", "b", "c")
SCHEMA = TableSchema(tuple(Column(name, "number") for name in NAMES))
TIERS = {"warning": 0.1, "critical": 0.02}


def rows(n, seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, 3)) * scale


def frame(n, seed):
    """Rows of two shops, of which one varies more."""
    shop = np.random.default_rng(seed + 1000).choice(["calm", "lively"], n)
    x = rows(n, seed) * np.where(shop == "lively", 5.0, 1.0)[:, None]
    return pa.table({**{name: x[:, i] for i, name in enumerate(NAMES)}, "shop": shop})


@pytest.fixture(scope="module")
def model():
    return PCAResidual(2).fit(rows(300, 0))


@pytest.fixture(scope="module")
def tiered(model):
    return Scorer.calibrate(model, rows(2000, 1), tiers=TIERS)


@pytest.fixture(scope="module")
def by_shop(model):
    return Scorer.calibrate(model, frame(2000, 2), groups="shop", inputs=SCHEMA)


# ---- tiers ---------------------------------------------------------------------------------------------------------


def test_the_tier_is_the_most_severe_threshold_that_is_passed(tiered):
    verdict = tiered(rows(3000, 3, 1.5))
    mild, severe = tiered.thresholds
    assert verdict.tiers == ("warning", "critical")
    assert verdict.tier.tolist() == (mild.flag(verdict.score) * 1 + severe.flag(verdict.score)).tolist()
    assert set(verdict.tier_names) == {"", "warning", "critical"}
    assert np.array_equal(verdict.flagged, verdict.tier > 0)
    assert (verdict.guarantee.kind, verdict.alpha, verdict.guarantee.delta) == ("simultaneous", 0.1, 0.05)
    table = as_table(verdict, ["x"] * 3000, np.arange(3000), "m")
    assert table["tier"].to_pylist() == verdict.tier_names


def test_a_call_with_a_level_of_its_own_has_no_tiers(tiered):
    verdict = tiered(rows(100, 3), alpha=0.05)
    assert (verdict.tier, verdict.tiers) == (None, ())
    assert verdict.alpha == 0.05
    assert tiered(rows(100, 3), kind="marginal").guarantee.kind == "marginal"


def test_parts_of_a_verdict_keep_their_tiers(tiered):
    verdict = tiered(rows(600, 4, 2.0))
    parts = list(tiered.stream(iter(np.array_split(rows(600, 4, 2.0), 12))))
    assert np.array_equal(Verdict.join(parts).tier, verdict.tier)
    assert np.array_equal(verdict[verdict.tier == 2].tier, np.full((verdict.tier == 2).sum(), 2))


def test_a_tier_without_enough_data_is_refused(model):
    with pytest.raises(InsufficientCalibrationError, match="tier 'critical'") as no:
        Scorer.calibrate(model, rows(200, 1), tiers=TIERS)
    assert no.value.needed == required_n(0.02, kind="simultaneous", delta=0.05)


def test_a_score_that_failed_has_the_tier_invalid(tiered):
    verdict = tiered.judge([math.nan, 0.0, 1e9])
    assert verdict.tier_names == ["invalid", "", "critical"]
    assert verdict.flagged.tolist() == [True, False, True]
    assert verdict.invalid.tolist() == [True, False, False]


# ---- groups --------------------------------------------------------------------------------------------------------


def test_each_sample_is_compared_with_its_own_group(by_shop, model):
    new = frame(1000, 5)
    verdict, shop = by_shop(new), np.array(new["shop"])
    for name in ("calm", "lively"):
        own = shop == name
        alone = Calibration.fit(by_shop.calibration.parts[name].scores, tie_rtol=1e-9)
        assert np.array_equal(verdict.p_value[own], alone.p_values(verdict.score[own]))
        assert (verdict.threshold[own] == alone.threshold(0.05).value).all()
        assert verdict.group[own].tolist() == [name] * own.sum()
    assert np.array_equal(verdict.flagged, verdict.score > verdict.threshold)
    values = np.stack([new[name].to_numpy() for name in NAMES], 1)
    by_hand = by_shop(values, groups=shop)
    assert np.array_equal(by_hand.flagged, verdict.flagged)
    assert np.array_equal(
        Verdict.join(list(by_shop.stream([new.slice(0, 300), new.slice(300)]))).p_value, verdict.p_value
    )


def test_a_shop_that_was_not_calibrated_is_never_normal_and_outside_all_counts(by_shop):
    new = frame(500, 6)
    shop = np.array(new["shop"])
    shop[:7] = "new"
    verdict = by_shop(new.set_column(3, "shop", pa.array(shop)))
    assert verdict.flagged[:7].all()
    assert np.isnan(verdict.p_value[:7]).all()
    assert np.isnan(verdict.threshold[:7]).all()
    assert verdict.unknown.sum() == verdict.invalid.sum() == 7
    assert set(verdict.group[:7]) == {"(unknown)"}
    measured = evaluate(verdict, np.zeros(500, int))
    assert (measured["n_invalid"], measured["at_threshold"]["n_normal"]) == (7, 493)
    counts = {name: int((shop == name).sum()) for name in ("calm", "lively")}
    assert measured["at_threshold"]["law_99"] == list(verdict.guarantee.future_alarms(counts, level=0.99))


def test_a_scorer_by_groups_asks_for_them_and_others_refuse_them(by_shop, tiered):
    values = rows(10, 7)
    with pytest.raises(InputError, match="a column of a data frame"):
        by_shop(values)
    with pytest.raises(InputError, match="9 groups for 10"):
        by_shop(values, groups=["calm"] * 9)
    with pytest.raises(InputError, match="no column 'shop'"):
        by_shop(frame(10, 7).drop_columns(["shop"]))
    with pytest.raises(InputError, match="give the groups"):
        by_shop.judge([1.0])
    with pytest.raises(InputError, match="calibrated without groups"):
        tiered(values, groups=["calm"] * 10)


def test_groups_may_be_given_by_hand_and_have_tiers(model):
    shop = np.where(np.arange(4000) % 2, "one", "two")
    scorer = Scorer.calibrate(model, rows(4000, 8), groups=shop, tiers=TIERS)
    assert scorer.groups == "(given)"
    verdict = scorer(rows(100, 9), groups=shop[:100])
    assert verdict.tiers == ("warning", "critical")
    with pytest.raises(InputError, match="give the groups"):
        scorer(rows(100, 9))
    with pytest.raises(InputError, match="3 groups for 4000"):
        Scorer.calibrate(model, rows(4000, 8), groups=["x"] * 3)


# ---- rules and budgets ---------------------------------------------------------------------------------------------


def test_a_classical_rule_never_comes_without_its_certificate(model):
    scorer = Scorer.calibrate(model, rows(2000, 1), threshold_rule="3-sigma")
    verdict, scores = scorer(rows(500, 3)), scorer.calibration.scores
    assert verdict.threshold == pytest.approx(scores.mean() + 3 * scores.std(), rel=1e-3)
    assert (verdict.guarantee.kind, verdict.future_alarms()) == ("none", None)
    above = int((scores > verdict.threshold).sum())
    assert verdict.guarantee.attained == scorer.calibration.envelope(0.05)[above]
    promise, outlook = summary(scorer)
    assert f"{above} of 2000 calibration samples lie above" in promise
    assert "a level (alpha)" in outlook
    assert scorer(rows(500, 3), alpha=0.05, kind="marginal").guarantee.kind == "marginal"
    with pytest.raises(ValueError, match="leave the tiers out"):
        Scorer.calibrate(model, rows(2000, 1), threshold_rule="sigma:3", tiers=TIERS)
    with pytest.raises(ValueError, match="leave the groups out"):
        Scorer.calibrate(model, rows(2000, 1), threshold_rule="sigma:3", groups=["x"] * 2000)


def test_a_budget_of_samples_is_a_level(model):
    scorer = Scorer.calibrate(model, rows(2000, 1), budget="2 per week", volume="100 per day")
    assert scorer.decision.alpha == pytest.approx(2 / 700)
    assert "in the next day (100 samples)" in summary(scorer)[1]
    assert Scorer.calibrate(model, rows(2000, 1), budget="3 per 1000").decision.alpha == 0.003
    with pytest.raises(ValueError, match="give the volume"):
        Scorer.calibrate(model, rows(2000, 1), budget="2 per week")


def test_a_tail_says_that_it_promises_nothing(model):
    scorer = Scorer.calibrate(model, rows(6000, 1), alpha=1e-4, kind="model")
    assert scorer.threshold.guarantee.kind == "model"
    assert scorer.threshold.value > scorer.calibration.threshold(0.001).value
    assert scorer(rows(100, 2)).future_alarms() is None
    assert "needs 9999 normal samples, 6000 at hand" in summary(scorer)[1]


def test_what_is_not_said_of_a_decision_follows_from_the_data():
    assert Decision.make().kind == "marginal"
    assert Decision.make(delta=0.1).kind == "pac"
    assert (Decision.make(tiers=TIERS).kind, Decision.make(tiers=TIERS).delta) == ("simultaneous", 0.05)
    assert Decision.make(usual="none").kind == Decision.make(tiers=TIERS, usual="none").kind == "none"
    assert Decision.make(tiers=TIERS, kind="marginal").alpha == 0.1
    decision = Decision.make(tiers=TIERS)
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision
    assert decision.at(None, None, None) is decision


# ---- keeping it ----------------------------------------------------------------------------------------------------


def test_what_is_saved_decides_the_same_in_a_fresh_process(tiered, by_shop, model, tmp_path):
    scorers = {
        "tiered": tiered,
        "shops": by_shop,
        "merged": Scorer.calibrate(model, rows(500, 1), groups=["x"] * 400 + ["y"] * 60 + ["z"] * 40, min_group=90),
        "rule": Scorer.calibrate(model, rows(500, 1), threshold_rule="mad:3.5"),
        "model": Scorer.calibrate(model, rows(6000, 1), alpha=1e-4, kind="model"),
    }
    x = rows(400, 9, 2.0)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, pathlib, numpy as np; from deepad import Scorer\n"
        "x = np.load(sys.argv[1] + '/x.npy')\n"
        "for folder in sorted(pathlib.Path(sys.argv[1]).glob('scorer-*')):\n"
        "    s = Scorer.load(folder)\n"
        "    v = s(x, groups=None if s.groups is None else [*list(s.calibration.parts)[:1] * 200, *['y'] * 200])\n"
        "    print(folder.name, v.p_value.tobytes().hex(), v.flagged.tobytes().hex(), v.tier_names, v.guarantee)\n"
    )
    expected = []
    for name in sorted(scorers):
        scorer = scorers[name]
        scorer.save(tmp_path / f"scorer-{name}")
        parts = None if scorer.groups is None else [*list(scorer.calibration.parts)[:1] * 200, *["y"] * 200]
        v = scorer(x, groups=parts)
        expected.append(
            f"scorer-{name} {v.p_value.tobytes().hex()} {v.flagged.tobytes().hex()} {v.tier_names} {v.guarantee}"
        )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    "calibration",
    [
        {"groups": {}},
        {"groups": {"calm": 5}},
        {"groups": {"calm": -5, "lively": 2005}},
        {"groups": {"calm": "many"}},
        {"groups": 5},
        {"merged": 5},
        {"merged": ["calm"]},
        {"n": 3},
    ],
    ids=str,
)
def test_groups_of_an_artifact_that_do_not_fit_are_refused(by_shop, tmp_path, calibration):
    by_shop.save(tmp_path)
    path = tmp_path / "scorer.json"
    document = json.loads(path.read_text())
    document["calibration"] |= calibration
    path.write_bytes(canonical_json(sealed(document)))
    with pytest.raises(ArtifactCorruptError):
        Scorer.load(tmp_path)


def test_a_calibration_by_groups_and_its_name_go_together(by_shop, tiered):
    with pytest.raises(ValueError, match="go together"):
        Scorer(by_shop.model, by_shop.calibration, inputs=SCHEMA)
    with pytest.raises(ValueError, match="go together"):
        Scorer(tiered.model, tiered.calibration, groups="shop")
    assert isinstance(by_shop.calibration, GroupedCalibration)


# ---- what calibration rows must not be -------------------------------------------------------------------------------


def test_one_row_of_a_hundred_thousand_that_trained_is_found(model):
    x = rows(100_000, 10)
    x[77_777] = rows(300, 0)[5]
    with pytest.raises(DataLeakError, match=r"1 of 100000 .*row 77777"):
        Scorer.calibrate(model, x)


def test_anomalies_in_the_calibration_make_it_careful_not_wrong():
    rng = np.random.default_rng(11)
    rates = []
    for share in (0.0, 0.02, 0.05, 0.1):
        values = []
        for _ in range(1500):
            scores = rng.exponential(size=200)
            scores[: int(share * 200)] += 50
            values.append(Calibration.fit(scores, tie_rtol=0).threshold(0.05).value)
        rates.append(np.exp(-np.array(values)).mean())
    noise = 4.5 * 0.0155 / math.sqrt(1500)
    assert max(rates) <= 0.05 + noise
    assert all(more <= less + noise for less, more in pairwise(rates))
    assert rates[0] > 0.045
