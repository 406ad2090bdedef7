"""What is decided, as plain values: what follows from what was asked, what is said of it, and what a file may hold."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.channels import SeriesSchema
from deepad.data.windows import windows_of
from deepad.errors import ArtifactError, CalibrationMismatchError, InputError
from deepad.scoring.artifact import SCHEMA, canonical_json, sealed, write_artifact
from deepad.scoring.conformal import Calibration
from deepad.scoring.decision import Decision
from deepad.scoring.eventrule import EventRule
from deepad.scoring.groups import GroupedCalibration
from deepad.scoring.judging import CHUNK, judge
from deepad.scoring.manifest import MANIFEST
from deepad.scoring.summary import MILLION, summary

TIERS = {"mild": 0.2, "bad": 0.05}
SCHEMA_OF_FRAMES = SeriesSchema(("a", "b"), time="at", interval=600.0)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(3000, 2))


@pytest.fixture(scope="module")
def model(x):
    return PCAResidual(1).fit(x[:300])


@pytest.fixture(scope="module")
def windowed(x):
    return PCAResidual(2).fit(windows_of(x[:300], 3).copy())


@pytest.fixture(scope="module")
def scorers(model, windowed, x):
    """One of each variety that a file can hold."""
    events = EventRule(standardize=30, persistence=(2, 3), block=60, slot=20, interval=600.0)
    names = np.resize(["day", "night", "rare"], 900)
    return {
        "level": Scorer.calibrate(model, x[300:], delta=0.05),
        "tiers": Scorer.calibrate(model, x[300:], tiers=TIERS),
        "rule": Scorer.calibrate(model, x[300:], threshold_rule="mad:4"),
        "groups": Scorer.calibrate(model, x[300:1200], groups=names, tiers=TIERS, kind="marginal"),
        "budget": Scorer.calibrate(model, x[300:], budget="2 per week", volume="100 per day"),
        "blocks": Scorer.calibrate(windowed, x[300:], steps="last", events=events, inputs=SCHEMA_OF_FRAMES,
                                   budget="3 per day"),
    }  # fmt: skip


# ---- what is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "delta"),
    [
        ({"rule": "sigma:3"}, "marginal", None),
        ({"rule": "sigma:3", "delta": 0.1}, "marginal", 0.1),
        ({"tiers": TIERS, "delta": 0.1}, "simultaneous", 0.1),
        ({"tiers": TIERS, "kind": "pac"}, "pac", 0.05),
        ({"tiers": {"a": 3.0, "b": 1.5}, "usual": "block"}, "block", None),
    ],
)
def test_kind_and_delta_follow_from_what_else_is_said(arguments, kind, delta):
    made = Decision.make(**arguments)
    assert (made.kind, made.delta) == (kind, delta)
    assert Decision.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_a_call_with_a_level_keeps_the_promise_but_neither_tiers_nor_rule():
    tiers = Decision.make(tiers=TIERS)
    assert tiers.at(0.1, None, None) == Decision(0.1, "simultaneous", 0.05)
    assert tiers.at(None, None, 0.2) == Decision(0.2, "pac", 0.2)
    assert Decision.make(rule="iqr", delta=0.2).at(0.1, None, None) == Decision(0.1)
    assert Decision(0.1, "pac", 0.2).at(None, "marginal", None) == Decision(0.1)


def test_the_certificate_of_a_rule_has_the_delta_that_was_asked_for(model, x):
    scorer = Scorer.calibrate(model, x[300:], threshold_rule="sigma:3", delta=0.2)
    above = int((scorer.calibration.scores > scorer.threshold.value).sum())
    assert scorer.threshold.guarantee.attained == scorer.calibration.envelope(0.2)[above]
    assert scorer(x, alpha=0.1).guarantee.kind == "marginal"


@pytest.mark.parametrize("rule", [3, ["sigma:3"], b"sigma:3"])
def test_a_rule_that_is_no_text_is_refused(rule):
    with pytest.raises(TypeError, match="a rule is written as"):
        Decision(rule=rule)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"budget": "2 per 1000", "tiers": TIERS}, "both say when to raise an alarm"),
        ({"budget": "2 per 1000", "threshold_rule": "iqr"}, "both say when to raise an alarm"),
        ({"volume": "many"}, "a volume is written as"),
        ({"volume": "5 per 1000"}, "here a time is needed"),
        ({"volume": "1e300 per s"}, "samples a day"),
        ({"min_group": 5}, "there are no groups: leave it out"),
        ({"min_group": 0, "groups": ["a"]}, "min_group must be a whole number"),
        ({"min_group": -2, "groups": ["a"]}, "min_group must be a whole number"),
        ({"min_group": 2.5, "groups": ["a"]}, "min_group must be a whole number"),
        ({"min_group": True, "groups": ["a"]}, "min_group must be a whole number"),
    ],
    ids=str,
)
def test_arguments_without_a_meaning_are_refused_before_anything_is_scored(model, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        Scorer.calibrate(model, "nothing that could be scored", **arguments)


def test_one_tier_is_a_tier(model, x):
    scorer = Scorer.calibrate(model, x[300:], tiers={"alarm": 0.1})
    for verdict in (scorer(x), *scorer.stream(iter([x])), scorer.judge(scorer(x).score)):
        assert verdict.tiers == ("alarm",)
        assert verdict.tier.tolist() == verdict.flagged.astype(int).tolist()
    assert scorer(x, alpha=0.1).tier is None


# ---- judging -------------------------------------------------------------------------------------------------------


def test_many_scores_are_judged_as_a_few():
    rng = np.random.default_rng(1)
    held_out, groups = rng.normal(size=500), rng.choice(["a", "b"], 500)
    scores, names = rng.normal(size=2 * CHUNK + 7), rng.choice(["a", "b", "new"], 2 * CHUNK + 7)
    scores[[0, CHUNK - 1, CHUNK, 2 * CHUNK]] = math.nan
    calibration = GroupedCalibration.fit(held_out, groups)
    thresholds = tuple(calibration.threshold(alpha) for alpha in (0.3, 0.1))
    whole = judge(calibration, thresholds, scores, names, tiers=("mild", "bad"))
    for places in (np.arange(5), np.r_[CHUNK - 2 : CHUNK + 2], np.r_[2 * CHUNK - 1 : 2 * CHUNK + 7]):
        part = judge(calibration, thresholds, scores[places], names[places], tiers=("mild", "bad"))
        for column in ("score", "p_value", "flagged", "threshold", "tier", "group"):
            np.testing.assert_array_equal(getattr(part, column), getattr(whole[places], column))
    assert whole.unknown.sum() == ((names == "new") & ~np.isnan(scores)).sum()
    assert (whole.tier[whole.invalid] == -1).all()
    with pytest.raises(InputError, match="2 groups for 3 samples"):
        judge(calibration, thresholds, scores[:3], names[:2])


def test_a_step_without_a_score_is_neither_flagged_nor_of_a_tier():
    calibration = Calibration.fit(np.arange(99.0))
    thresholds = (calibration.threshold(0.1), calibration.threshold(0.05))
    verdict = judge(calibration, thresholds, np.array([math.nan, 1e9, math.inf]), tiers=TIERS, stepwise=True)
    assert verdict.flagged.tolist() == [False, True, True]
    assert verdict.tier_names == ["", "bad", "bad"]
    assert (verdict.n_unscored, verdict.invalid.any()) == (1, False)
    assert judge(calibration, thresholds, np.array([math.nan]), tiers=TIERS).tier_names == ["invalid"]


# ---- groups of a series --------------------------------------------------------------------------------------------


def recording(n, seed, first="2026-01-05T00:00:00"):
    """Steps of ten minutes, livelier in the first twelve hours of a day."""
    at = np.datetime64(first, "ns") + np.arange(n) * np.timedelta64(600, "s")
    hour = at.astype("M8[h]").astype(int) % 24
    values = np.random.default_rng(seed).normal(size=(n, 2)) * np.where(hour < 12, 4.0, 1.0)[:, None]
    return pa.table({"at": at, "a": values[:, 0], "b": values[:, 1]}), hour


@pytest.fixture(scope="module")
def hourly(windowed):
    return Scorer.calibrate(windowed, recording(2000, 1)[0], steps="last", inputs=SCHEMA_OF_FRAMES, groups="hour",
                            alpha=0.1)  # fmt: skip


def test_each_step_is_compared_with_its_hour_whatever_the_order_of_rows(hourly):
    frame, hour = recording(600, 2)
    verdict, order = hourly(frame), np.random.default_rng(3).permutation(600)
    assert verdict.group.tolist() == [str(h) for h in hour]
    scored = ~verdict.unscored
    expected = hourly.calibration.p_values(verdict.score[scored], hour[scored])
    assert verdict.p_value[scored].tolist() == expected.tolist()
    shuffled = hourly(frame.take(order))
    for column in ("p_value", "flagged", "group", "threshold"):
        np.testing.assert_array_equal(getattr(shuffled, column), getattr(verdict, column)[order])
    by_hand = hourly(frame, groups=hour)
    np.testing.assert_array_equal(by_hand.p_value, verdict.p_value)
    values = np.stack([frame["a"].to_numpy(), frame["b"].to_numpy()], 1)
    np.testing.assert_array_equal(hourly(values.astype(np.float32), groups=hour).p_value, verdict.p_value)


def test_several_recordings_have_the_hours_of_each(hourly):
    (one, first), (two, second) = recording(60, 4), recording(90, 5, "2026-03-01T07:30:00")
    verdict = hourly([one, two])
    assert verdict.group.tolist() == [str(h) for h in (*first, *second)]
    np.testing.assert_array_equal(verdict.p_value, np.concatenate([hourly(one).p_value, hourly(two).p_value]))


def test_hours_that_were_not_calibrated_are_flagged_and_counted_apart(windowed):
    scorer = Scorer.calibrate(windowed, recording(60, 6)[0], steps="last", inputs=SCHEMA_OF_FRAMES, groups="hour",
                              alpha=0.3)  # fmt: skip
    verdict = scorer(recording(90, 7)[0])  # until 15 o'clock, calibrated until 10
    assert verdict.unknown.tolist() == [False] * 60 + [True] * 30
    assert verdict.flagged[60:].all()
    assert np.isnan(verdict.p_value[60:]).all()
    assert verdict.n_unscored == 2


@pytest.mark.parametrize("n", [0, 1, 599, 601, 5000])
def test_groups_of_steps_must_be_one_a_step(hourly, n):
    frame, hour = recording(600, 2)
    with pytest.raises(InputError, match=f"got {n} groups for 600 steps"):
        hourly(frame, groups=np.resize(hour, n))


def test_groups_that_cannot_be_known_are_asked_for(hourly, windowed):
    frame, _ = recording(600, 2)
    with pytest.raises(InputError, match="needs timestamps"):
        hourly(np.zeros((50, 2)))
    with pytest.raises(InputError, match="a stream of arrays has no times"):
        list(hourly.stream([np.zeros((50, 2))]))
    with pytest.raises(InputError, match="grouped by hour or weekday"):
        hourly(frame, groups="a")
    with pytest.raises(InputError, match="3 groups for 600"):
        Scorer.calibrate(windowed, frame, steps="last", inputs=SCHEMA_OF_FRAMES, groups=["x"] * 3)


# ---- events --------------------------------------------------------------------------------------------------------

lengths = st.none() | st.integers(20, 10_000)
event_rules = st.builds(
    lambda standardize, w, block, share, interval: EventRule(
        standardize, None if w is None else (1 + w // 2, w), block, block and max(1, block // share), interval
    ),
    lengths, st.none() | st.integers(1, 50), lengths, st.integers(1, 20), st.none() | st.floats(1e-3, 1e6),
)  # fmt: skip


@given(event_rules)
def test_a_rule_for_events_comes_back_from_json(rule):
    assert EventRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_a_rule_for_events_says_what_is_done():
    assert str(EventRule(standardize=50, persistence=(2, 3), block=60, slot=20)) == (
        "scores relative to the 50 before; an alarm needs 2 of the last 3 above the threshold; "
        "calibrated in blocks of 60 steps, at most one alert in each slot of 20"
    )
    assert str(EventRule(block=7)) == "calibrated in blocks of 7 steps"


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf, 1e11, "60", True])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match="positive number of seconds"):
        EventRule(block=5, interval=interval)


@pytest.mark.parametrize("length", ["9" * 400 + " days", "9" * 30 + " weeks", "10000000000", 10**12])
def test_a_length_beyond_all_series_is_refused(length):
    with pytest.raises(ValueError, match="whole number of steps"):
        EventRule.of_times(60.0, block=length)


# ---- what is said of it --------------------------------------------------------------------------------------------


def test_the_false_alarms_of_a_day_have_their_law_however_many_samples_it_has(model, x):
    def daily(volume):
        text = summary(Scorer.calibrate(model, x[300:], alpha=0.01, volume=f"{volume} per day"))[1]
        low, _, high = text.split("samples, ")[1].removeprefix("about ").split()[:3]
        return int(low), int(high)

    assert daily(MILLION) == Scorer.calibrate(model, x[300:], alpha=0.01).threshold.guarantee.future_alarms(MILLION)
    law = stats.beta(27, 2701 - 27)  # of the rate, which so many samples show as it is
    for volume in (10 * MILLION, 10**14):
        assert np.array(daily(volume)) / volume == pytest.approx(law.ppf([0.025, 0.975]), rel=0.01)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("level", ["with probability 0.95", "in the next 1000 normal samples", "alpha=0.005 needs"]),
        ("tiers", ["mild: with", "; bad: with", "alpha=0.005 needs"]),
        ("rule", ["mad:4:", "a level (alpha) in the place of the rule"]),
        ("groups", ["in each of 3 groups of 300 to 300", "of group day", "in each group, 300 at hand"]),
        ("budget", ["asked: 0.002857", "in the next day (100 samples)"]),
        ("blocks", ["a new normal block of 10 hours", "in each of its 3 slots", "no law gives their spread"]),
    ],
)
def test_the_summary_says_what_was_bought_and_what_less_takes(scorers, kind, words):
    text = " ".join(summary(scorers[kind]))
    assert [word for word in words if word not in text] == []


# ---- what a file may hold ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(scorers, tmp_path_factory):
    """Where the scorers are saved."""
    root = tmp_path_factory.mktemp("kept")
    for name, scorer in scorers.items():
        scorer.save(root / name)
    return root


def entries(value, path=()):
    """All places of a document, the inner ones first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from entries(part, (*path, key))
    yield path


HOSTILE = [None, True, 0, -1, 1, 3, 0.5, 1e308, -1e308, 5e-324, 10**400, "", "x", "1e999", "marginal", "\x1b[2J\n",
           "\u202e" * 9, [], {}, [[]], [1, 2], [["a", 0.1], ["a", 0.2]], {"a": {}}, ["a"], [[["a"]]],
           "9" * 5000]  # fmt: skip


def loaded(folder):
    """A scorer, or why it is refused."""
    try:
        return Scorer.load(folder), ""
    except (ArtifactError, CalibrationMismatchError) as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["level", "tiers", "rule", "groups", "budget", "blocks"])
def test_any_entry_may_be_hostile_and_is_refused_in_one_line_or_is_a_scorer(folders, scorers, name, tmp_path):
    """Each place of the entries that say what is decided, with each of many values."""
    document = json.loads((folders / name / MANIFEST).read_text())
    folder = shutil.copytree(folders / name, tmp_path / name)
    steps = np.zeros((100, 2))
    refused = 0
    for top in ("calibration", "decision", "events", "groups", "data", "steps"):
        for path in entries(document[top]):
            for value in HOSTILE:
                changed = json.loads(json.dumps(document))
                place = changed
                for key in (top, *path)[:-1]:
                    place = place[key]
                place[(top, *path)[-1]] = value
                (folder / MANIFEST).write_bytes(canonical_json(sealed(changed)))
                scorer, reason = loaded(folder)
                if scorer is None:
                    assert reason.isprintable(), reason
                    assert len(reason) < 1000
                    refused += 1
                else:  # then it can be used and described
                    groups = None if scorer.groups is None else ["day"] * 100
                    assert len(scorer(steps, groups=groups)) == 100
                    assert all(isinstance(text, str) for text in summary(scorer))
    assert refused > 100


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 6000])
def test_numbers_that_are_none_are_refused(folders, tmp_path, text):
    folder = shutil.copytree(folders / "level", tmp_path / "edited")
    manifest = (folder / MANIFEST).read_text()
    alpha = '"alpha": 0.05'
    assert manifest.count(alpha) == 1
    (folder / MANIFEST).write_text(manifest.replace(alpha, f'"alpha": {text}'))
    with pytest.raises(ArtifactError):
        Scorer.load(folder)


def with_scores(scorer, folder, scores, **changes):
    """The artifact of a scorer, as it would be written with other calibration scores."""
    document = {"format": "deepad.scorer", "deepad": "0", "created_utc": "", **scorer.describe()}
    document["calibration"] = {**document["calibration"], **changes}
    arrays = {"model": scorer.model.state_arrays(), "calibration": {"scores": scores}}
    write_artifact(folder, MANIFEST, document, arrays)
    return folder


@pytest.mark.parametrize("name", ["level", "tiers", "groups", "blocks"])
def test_calibration_scores_that_no_calibration_has_are_refused(scorers, name, tmp_path):
    scorer = scorers[name]
    parts = [scorer.calibration] if isinstance(scorer.calibration, Calibration) else scorer.calibration.parts.values()
    good = np.concatenate([part.scores for part in parts])
    again = Scorer.load(with_scores(scorer, tmp_path / "good", good)).calibration.to_dict()
    assert again == scorer.calibration.to_dict()
    swapped, holes, endless = good.copy(), good.copy(), good.copy()
    swapped[[-1, -2]] = swapped[[-2, -1]]
    holes[-1], endless[-1] = math.nan, math.inf
    bad = {
        "unsorted": swapped, "reversed": good[::-1], "NaN": holes, "infinite": endless, "short": good[:-1],
        "long": np.append(good, good[-1] + 1), "none": good[:0], "float32": good.astype(np.float32),
        "integers": np.arange(len(good)), "column": good[:, None],
    }  # fmt: skip
    for what, scores in bad.items():
        with pytest.raises(ArtifactError, match="does not describe a scorer"):
            Scorer.load(with_scores(scorer, tmp_path / what, scores))
    with pytest.raises(ArtifactError, match="does not describe a scorer"):
        Scorer.load(with_scores(scorer, tmp_path / "empty", good[:0], n=0))


def test_groups_are_found_by_name_in_whatever_order_they_come(scorers, x, tmp_path):
    scorer = scorers["groups"]
    names = np.resize(["rare", "night", "day"], 600)
    expected = scorer(x[:600], groups=names)
    parts = dict(reversed(scorer.calibration.parts.items()))
    turned = Scorer(scorer.model, GroupedCalibration(parts), scorer.decision, groups=scorer.groups)
    turned.save(tmp_path)
    assert Scorer.load(tmp_path)(x[:600], groups=names).p_value.tobytes() == expected.p_value.tobytes()
    document = json.loads((tmp_path / MANIFEST).read_text())
    document["calibration"]["groups"] = dict(reversed(document["calibration"]["groups"].items()))
    (tmp_path / MANIFEST).write_text(json.dumps(document))  # whose seal is that of the sorted text, and fits
    assert Scorer.load(tmp_path)(x[:600], groups=names).p_value.tobytes() == expected.p_value.tobytes()


@pytest.mark.parametrize("schema", [1, 2])
def test_artifacts_of_older_schemas_decide_as_they_did(folders, scorers, x, schema, tmp_path):
    """Which knew neither tiers nor rules, groups, events, or what was asked."""
    folder = shutil.copytree(folders / "level", tmp_path / "old")
    document = json.loads((folder / MANIFEST).read_text())
    assert document["schema"] == SCHEMA == 4
    gone = ["events", "groups"] + (["steps", "inputs"] if schema == 1 else [])
    old = {key: value for key, value in document.items() if key not in gone} | {"schema": schema}
    old["decision"] = {key: old["decision"][key] for key in ("alpha", "kind", "delta")}
    (folder / MANIFEST).write_bytes(canonical_json(sealed(old)))
    again, scorer = Scorer.load(folder), scorers["level"]
    before, after = scorer(x), again(x)
    assert (before.score.tobytes(), before.p_value.tobytes()) == (after.score.tobytes(), after.p_value.tobytes())
    assert (before.guarantee, again.decision, again.id) == (after.guarantee, scorer.decision, scorer.id)
    again.save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / MANIFEST).read_text())["schema"] == SCHEMA


def test_a_series_of_the_second_schema_is_judged_as_it_was(windowed, x, tmp_path):
    scorer = Scorer.calibrate(windowed, x[300:], steps="last", inputs=SCHEMA_OF_FRAMES)
    scorer.save(tmp_path)
    document = json.loads((tmp_path / MANIFEST).read_text())
    old = {key: value for key, value in document.items() if key not in ("events", "groups")} | {"schema": 2}
    (tmp_path / MANIFEST).write_bytes(canonical_json(sealed(old)))
    again = Scorer.load(tmp_path)
    assert (again.steps, again.inputs, again.events, again.groups) == (scorer.steps, scorer.inputs, None, None)
    assert again(x).flagged.tolist() == scorer(x).flagged.tolist()


def test_what_is_read_is_not_what_merely_looks_like_it(scorers):
    """A duck of a calibration is none."""
    duck = SimpleNamespace(scorer_id=scorers["level"].id, n=9)
    with pytest.raises((ValueError, AttributeError)):
        Scorer(scorers["level"].model, duck)
