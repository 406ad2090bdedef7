"""A scorer of events: scores transformed before they are calibrated, blocks with a budget, and what is kept of it."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.channels import SeriesSchema
from deepad.data.windows import windows_of
from deepad.errors import ArtifactCorruptError, InputError, InsufficientCalibrationError
from deepad.scoring.artifact import canonical_json, sealed
from deepad.scoring.eventrule import EventRule
from deepad.scoring.events import Blocks
from deepad.scoring.standardize import Persistence, RollingStandardize
from deepad.scoring.steps import score_series

SIZE, SIGMAS = 6, 4.5


def plant(n, seed, channels=3):
    """Noise that remembers, (n, channels)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, channels))
    for step in range(1, n):
        noise[step] += 0.8 * noise[step - 1]
    return noise


@pytest.fixture(scope="module")
def model():
    return PCAResidual(4).fit(windows_of(plant(800, 0), SIZE))


@pytest.fixture(scope="module")
def held_out():
    return [plant(1500, seed) for seed in (1, 2)]


EVENTS = {
    "persistence": EventRule(persistence=(2, 3)),
    "standardize": EventRule(standardize=50),
    "block": EventRule(block=100),
    "slots": EventRule(block=100, slot=25),
    "all": EventRule(standardize=50, persistence=(2, 4), block=100, slot=30, interval=60.0),
}
LEVEL = {"slots": 1.0, "all": 1.0}


def scorer_of(model, held_out, name):
    return Scorer.calibrate(model, held_out, steps="window", events=EVENTS[name], alpha=LEVEL.get(name, 0.1))


# ---- calibration ---------------------------------------------------------------------------------------------------


def test_scores_are_transformed_before_they_are_calibrated(model, held_out):
    raw = [score_series(model, scorer_of(model, held_out, "block").steps, part) for part in held_out]
    for name, transform in (("persistence", Persistence(2, 3)), ("standardize", RollingStandardize(50))):
        expected = np.concatenate([transform(part) for part in raw])
        calibrated = scorer_of(model, held_out, name).calibration.scores
        assert calibrated.tolist() == np.sort(expected[~np.isnan(expected)]).tolist()
    whole = [Persistence(2, 4)(RollingStandardize(50)(part)) for part in raw]
    maxima = np.sort(Blocks(100, 30).slot_maxima(whole).ravel())
    assert scorer_of(model, held_out, "all").calibration.scores.tolist() == maxima.tolist()


def test_an_alarm_that_must_persist_is_calibrated_as_such(model, held_out):
    verdict = scorer_of(model, held_out, "persistence")(plant(4000, 3))
    assert 0.03 < verdict.flagged.mean() < 0.3  # 0.1 asked; with points calibrated and persistence after it were less
    raw = Scorer.calibrate(model, held_out, steps="window", alpha=0.1)(plant(4000, 3))
    twice = Persistence(2, 3)(raw.flagged.astype(float))
    assert np.nansum(twice) < verdict.flagged.sum()


@pytest.mark.parametrize(("name", "unit"), [("block", "block of 100 steps"), ("all", "block of 6000 s")])
def test_blocks_carry_a_promise_in_their_own_unit(model, held_out, name, unit):
    scorer = scorer_of(model, held_out, name)
    guarantee = scorer.threshold.guarantee
    assert (guarantee.kind, guarantee.alpha) == ("block", LEVEL.get(name, 0.1))
    assert unit.split()[0] in str(guarantee)
    assert guarantee.attained <= guarantee.alpha
    verdict = scorer(held_out[0])
    assert verdict.future_alarms() is None  # its law is one of blocks, not of steps
    for kind in ("marginal", "pac", "none"):
        with pytest.raises(ValueError, match=r"cannot be promised|takes|needs delta"):
            scorer(held_out[0], kind=kind)


def test_the_budget_of_blocks_is_kept_on_average(model):
    """The expected number of alarmed slots of a new block, over draws of the calibration; and it is nearly reached."""
    blocks, alarmed = Blocks(50, 10), []
    for seed in range(150):
        series = plant(21 * 50 + SIZE - 1, 1000 + seed)
        events = EventRule(block=50, slot=10)
        scorer = Scorer.calibrate(model, series[: 20 * 50 + SIZE - 1], steps="window", events=events, alpha=1.0)
        fresh = scorer(plant(4 * 50 + SIZE - 1, 5000 + seed))
        alarmed.append(blocks.alarmed_slots([fresh.flagged], [fresh.score]).sum(1).mean())
    noise = SIGMAS * np.std(alarmed) / math.sqrt(len(alarmed))
    assert np.mean(alarmed) <= 1.0 + noise
    assert np.mean(alarmed) >= 1.0 - 5 / 21 - noise  # less than the price of the + M


def test_too_few_blocks_are_refused_with_their_number(model, held_out):
    with pytest.raises(InsufficientCalibrationError, match=r"at least 99 normal blocks, got 28") as no:
        Scorer.calibrate(model, held_out, steps="window", events=EVENTS["block"], alpha=0.01)
    assert (no.value.n, no.value.needed) == (28, 99)
    with pytest.raises(InsufficientCalibrationError, match="no stretch holds a whole block"):
        Scorer.calibrate(model, held_out, steps="window", events=EventRule(block=5000), alpha=0.1)


def test_a_budget_of_time_is_kept_in_blocks_of_a_day(model, held_out):
    schema = SeriesSchema(("a", "b", "c"), time="at", interval=864.0)  # a day has 100 steps
    scorer = Scorer.calibrate(model, held_out, steps="window", budget="2 per week", inputs=schema)
    assert scorer.events == EventRule(block=100, interval=864.0)
    assert scorer.decision.alpha == pytest.approx(2 / 7)
    assert scorer.provenance["asked"] == {"budget": "2 per week", "volume": None}
    with pytest.raises(ValueError, match="no timestamps"):
        Scorer.calibrate(model, held_out, steps="window", budget="2 per week")


def test_what_does_not_go_together_is_refused(model, held_out):
    with pytest.raises(ValueError, match="give groups or blocks"):
        Scorer.calibrate(model, held_out, steps="window", events=EVENTS["block"], groups="hour")
    with pytest.raises(ValueError, match="give the rule that scores them"):
        Scorer.calibrate(model, windows_of(held_out[0], SIZE), events=EVENTS["block"], alpha=0.1)
    with pytest.raises(ValueError, match=r"cannot be certified|needs independent samples"):
        Scorer.calibrate(model, held_out, steps="window", threshold_rule="sigma:3")
    with pytest.raises(ValueError, match="give the block as well"):
        EventRule(slot=5)
    for wrong in ({"block": 0}, {"block": 2.5}, {"persistence": (3, 2)}, {"standardize": 1}, {"block": 5, "slot": 6}):
        with pytest.raises(ValueError, match=r"whole number|must"):
            EventRule(**wrong)


def test_lengths_are_steps_or_times():
    rule = EventRule.of_times(300.0, block="1 day", slot="2 hours", standardize="100", persistence=(2, 3))
    assert rule == EventRule(standardize=100, persistence=(2, 3), block=288, slot=24, interval=300.0)
    assert rule.unit == "block of 1 day"
    assert EventRule.of_times(300.0) is None
    with pytest.raises(ValueError, match="no timestamps"):
        EventRule.of_times(None, block="1 day")
    with pytest.raises(ValueError, match="less than one step"):
        EventRule.of_times(300.0, block="1 s")


# ---- using and keeping it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_a_stream_in_any_chunks_gives_the_bits_of_a_call(model, held_out, name, pieces):
    scorer, series = scorer_of(model, held_out, name), plant(300, 9)
    expected, parts = scorer(series), list(scorer.stream(np.array_split(series, pieces)))
    for column in ("score", "p_value", "flagged"):
        joined = np.concatenate([getattr(part, column) for part in parts])
        assert joined.tobytes() == getattr(expected, column).tobytes()
    assert expected.n_unscored > 0
    assert not expected.flagged[expected.unscored].any()


@pytest.mark.parametrize("name", EVENTS)
def test_flagged_are_the_scores_above_the_threshold_and_the_ranks_up_to_k(model, held_out, name):
    scorer = scorer_of(model, held_out, name)
    verdict, calibration = scorer(plant(2000, 11)), scorer.calibration
    scored = ~verdict.unscored
    ranks = calibration.ranks(verdict.score[scored])
    assert np.array_equal(verdict.flagged[scored], ranks <= scorer.threshold.k)
    expected = np.minimum((ranks - 1 + calibration.slots) / (calibration.n // calibration.slots + 1), 1)
    assert np.array_equal(verdict.p_value[scored], expected)


def test_what_is_saved_decides_the_same_in_a_fresh_process(model, held_out, tmp_path):
    series = plant(500, 12)
    np.save(tmp_path / "x.npy", series)
    code = (
        "import sys, pathlib, numpy as np; from deepad import Scorer\n"
        "x = np.load(sys.argv[1] + '/x.npy')\n"
        "for folder in sorted(pathlib.Path(sys.argv[1]).glob('scorer-*')):\n"
        "    s = Scorer.load(folder); v = s(x)\n"
        "    print(folder.name, v.score.tobytes().hex()[-400:], v.flagged.sum(), v.guarantee)\n"
    )
    expected = []
    for name in sorted(EVENTS):
        scorer = scorer_of(model, held_out, name)
        scorer.save(tmp_path / f"scorer-{name}")
        verdict = scorer(series)
        expected.append(
            f"scorer-{name} {verdict.score.tobytes().hex()[-400:]} {verdict.flagged.sum()} {verdict.guarantee}"
        )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    "change",
    [
        {"events": {}},
        {"events": []},
        {"events": {"block": -1}},
        {"events": {"block": 1e99}},
        {"events": {"block": None, "slot": 5}},
        {"events": {"persistence": "ab"}},
        {"events": {"persistence": [9, 2]}},
        {"events": {"standardize": True}},
        {"events": {"interval": "x"}},
        {"events": {"interval": -1}},
        {"calibration": {"slots": 0}},
        {"calibration": {"slots": 7}},
        {"calibration": {"slots": "4"}},
        {"calibration": {"unit": "sample"}},
        {"decision": {"alpha": 400.0}},
        {"decision": {"kind": "marginal"}},
        {"decision": {"kind": "model"}},
        {"decision": {"tiers": [["a", 0.1], ["b", 0.2]]}},
        {"decision": {"tiers": "x"}},
        {"decision": {"rule": "nonsense"}},
        {"decision": {"rule": "sigma:3"}},
        {"groups": "hour"},
        {"groups": 5},
    ],
    ids=str,
)
def test_an_artifact_with_entries_that_do_not_fit_is_refused(model, held_out, tmp_path, change):

    scorer_of(model, held_out, "slots").save(tmp_path)
    path = tmp_path / "scorer.json"
    document = json.loads(path.read_text())
    for key, value in change.items():
        if isinstance(value, dict) and value:
            document[key] = {**document[key], **value}
        else:
            document[key] = value
    path.write_bytes(canonical_json(sealed(document)))
    with pytest.raises(ArtifactCorruptError):
        Scorer.load(tmp_path)


def test_a_series_without_a_scored_step_is_no_crash(model, held_out):
    verdict = scorer_of(model, held_out, "all")(plant(20, 13))
    assert verdict.unscored.all()
    with pytest.raises(InputError, match="does not fit"):
        Scorer.calibrate(model, [plant(30, 14)], steps="window", events=EventRule(standardize=50), alpha=0.1)
