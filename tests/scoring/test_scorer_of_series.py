"""A scorer of the steps of a series: what it is calibrated on, promises, takes, says and keeps."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import train

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.channels import SeriesSchema
from deepad.data import Series
from deepad.data.synthetic import generate
from deepad.data.windows import CAUSAL, RULES, StepRule
from deepad.detectors import DenseAutoencoder
from deepad.errors import ArtifactCorruptError, DataLeakError, InputError, InsufficientCalibrationError
from deepad.evaluation.metrics import evaluate
from deepad.quiet import quiet_lightning
from deepad.scoring.artifact import SCHEMA, canonical_json, sealed
from deepad.scoring.records import as_table
from deepad.scoring.steps import score_series
from deepad.scoring.verdict import Verdict

SIZE = 10


@pytest.fixture(scope="module")
def data():
    return Series(generator="sensors", generator_args={"rows": 1600, "rate": 0.05}, window_size=SIZE, batch_size=256)


@pytest.fixture(scope="module")
def detector(data, tmp_path_factory):
    torch.manual_seed(0)
    detector = DenseAutoencoder(data.shape, hidden_dims=(16,), latent_dim=4)
    with quiet_lightning():
        train(detector, data, tmp_path_factory.mktemp("series"), max_epochs=3)
    return detector


@pytest.fixture(scope="module")
def held_out(data):
    return [stretch.values for stretch in data.stretches("calibration")]


@pytest.fixture(scope="module")
def scorer(detector, held_out):
    return Scorer.calibrate(detector, held_out, steps="last")


@pytest.fixture(scope="module")
def baseline(data):
    rows = data.splits.train
    return PCAResidual(6).fit(rows.x[rows.index].numpy())


@pytest.fixture
def recording():
    """A raw recording, with its labels."""
    return generate("sensors", rows=400, rate=0.1, seed=5)


@pytest.fixture
def steps(recording, data):
    """The same as an array."""
    return np.stack([recording[name].to_numpy() for name in data.schema.channels], 1)


# ---- calibration and its promise -----------------------------------------------------------------------------------


def test_a_rule_may_be_named_or_given(detector, held_out, scorer):
    given = Scorer.calibrate(detector, held_out, steps=StepRule(SIZE, "last"))
    assert given.steps == scorer.steps
    assert np.array_equal(given.calibration.scores, scorer.calibration.scores)
    strided = Scorer.calibrate(detector, held_out, steps=StepRule(SIZE, "last", 5))
    assert strided.calibration.n == StepRule(SIZE, "last", 5).scored(len(held_out[0]))
    with pytest.raises(ValueError, match="rule must be one of"):
        Scorer.calibrate(detector, held_out, steps="first")


def test_each_step_that_a_window_scores_calibrates(scorer, held_out, detector):
    scores = score_series(detector, scorer.steps, held_out[0])
    assert np.array_equal(scorer.calibration.scores, np.sort(scores[SIZE - 1 :]))


def test_steps_are_not_promised_anything(scorer, steps):
    verdict = scorer(steps)
    assert verdict.guarantee.kind == "none"
    assert str(verdict.guarantee).startswith("no guarantee")
    assert verdict.guarantee.future_alarms(100) is None
    assert evaluate(verdict, np.zeros(len(steps), int))["at_threshold"]["inside_law_99"] is None


@pytest.mark.parametrize("promise", [{"kind": "marginal"}, {"kind": "pac", "delta": 0.05}, {"delta": 0.05}])
def test_a_promise_for_steps_is_refused_with_the_reason(scorer, detector, held_out, steps, promise):
    reason = "cannot be promised: steps of a series depend on each other; use kind='none'"
    with pytest.raises(ValueError, match=reason):
        scorer(steps, **promise)
    with pytest.raises(ValueError, match=reason):
        list(scorer.stream([steps], **promise))
    with pytest.raises(ValueError, match=reason):
        Scorer.calibrate(detector, held_out, steps="last", **promise)
    with pytest.raises(ValueError, match=reason):  # before anything is read or scored
        Scorer.calibrate(detector, "nothing that could be scored", steps="last", **promise)


def test_windows_of_a_series_are_promised_nothing(detector, data):
    loader = data.calibration_dataloader()
    careful = Scorer.calibrate(detector, loader)
    assert (careful.decision.kind, careful.steps) == ("none", None)
    reason = "cannot be promised: windows of a series depend on each other"
    for promise in ({"kind": "marginal"}, {"kind": "pac", "delta": 0.2}, {"delta": 0.2}):
        with pytest.raises(ValueError, match=reason):
            careful(data.test_dataloader(), **promise)
        with pytest.raises(ValueError, match=reason):
            Scorer.calibrate(detector, loader, **promise)
    with pytest.raises(ValueError, match=reason):
        Scorer(detector, careful.calibration, inputs=data.schema)


def test_windows_of_unknown_origin_are_promised_nothing_unless_the_caller_asserts_it(baseline, data):
    with pytest.raises(ValueError, match="this scorer was calibrated without one"):
        Scorer.calibrate(baseline, data.calibration_dataloader())(data.test_dataloader(), kind="marginal")
    apart = data.splits.calibration.x[data.splits.calibration.index[::SIZE]]
    asserted = Scorer.calibrate(baseline, apart, kind="marginal", alpha=0.1)
    verdict = asserted(data.test_dataloader())
    assert verdict.guarantee.kind == "marginal"
    assert verdict.unscored is None
    assert asserted(data.test_dataloader(), kind="none").guarantee.kind == "none"
    assert Scorer.calibrate(baseline, apart, delta=0.2, alpha=0.2).decision.kind == "pac"
    with pytest.raises(ValueError, match="windows of a series depend on each other"):
        Scorer.calibrate(baseline, apart, kind="marginal", inputs=data.schema)


@pytest.mark.parametrize("rule", RULES)
def test_the_stretches_of_a_data_module_calibrate_with_the_steps_of_their_split(detector, data, held_out, rule):
    scorer = Scorer.calibrate(detector, data.stretches("calibration"), steps=rule)
    steps, values = data.describe()["steps"]["calibration"], Scorer.calibrate(detector, held_out, steps=rule)
    assert scorer.calibration.n == steps, "context of the embargo has no say, and all steps have a window"
    if rule in CAUSAL:
        assert np.array_equal(scorer.calibration.scores, values.calibration.scores)
    else:
        assert values.calibration.n == steps + SIZE - 1, "of plain arrays each step counts"


def test_a_level_below_what_the_steps_can_tell_is_refused(scorer, steps):
    with pytest.raises(InsufficientCalibrationError, match="needs at least 9999"):
        scorer(steps, alpha=1e-4)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_stretch_that_trained_is_refused(stride, tmp_path):
    options = {"generator": "sensors", "generator_args": {"rows": 1200, "rate": 0}, "window_size": SIZE}
    data = Series(**options, stride=stride)
    detector = DenseAutoencoder(data.shape, hidden_dims=(8,), latent_dim=2)
    train(detector, data, tmp_path, max_epochs=1)
    for split in ("train", "val"):
        with pytest.raises(DataLeakError, match="trained or selected this model"):
            Scorer.calibrate(detector, [s.values for s in data.stretches(split)], steps="last")
    table = generate("sensors", rows=1200, rate=0)
    with pytest.raises(DataLeakError):
        Scorer.calibrate(detector, table, steps="mean")
    assert (
        Scorer.calibrate(detector, [s.values for s in data.stretches("calibration")], steps="mean").calibration.n > 90
    )


def test_a_series_that_repeats_itself_without_noise_can_be_calibrated_on(tmp_path):
    wave = np.sin(2 * np.pi * np.arange(25) / 25)[:, None].astype(np.float32)
    data = Series(frames=np.tile(wave, (32, 1)), window_size=SIZE)
    detector = DenseAutoencoder(data.shape, hidden_dims=(8,), latent_dim=2)
    train(detector, data, tmp_path, max_epochs=1)
    assert (
        Scorer.calibrate(detector, [s.values for s in data.stretches("calibration")], steps="last").calibration.n > 80
    )


def test_rules_and_inputs_of_another_model_are_refused(detector, held_out, scorer, digits, trained):
    with pytest.raises(ValueError, match=r"windows \(9, C\), the model takes samples of shape \(10, 4\)"):
        Scorer.calibrate(detector, held_out, steps=StepRule(9))
    with pytest.raises(ValueError, match="leave the rule out"):
        Scorer.calibrate(trained[0], digits.calibration_dataloader(), steps="last")
    with pytest.raises(ValueError, match="the inputs have 3 values"):
        Scorer.calibrate(detector, held_out, steps="last", inputs=SeriesSchema(("a", "b", "c")))


# ---- verdicts ------------------------------------------------------------------------------------------------------


def test_a_verdict_on_steps_agrees_with_itself(scorer, steps):
    verdict = scorer(steps)
    assert len(verdict) == len(steps)
    assert verdict.unscored.tolist() == [True] * (SIZE - 1) + [False] * (len(steps) - SIZE + 1)
    assert np.isnan(verdict.score[verdict.unscored]).all()
    assert np.isnan(verdict.p_value[verdict.unscored]).all()
    assert not verdict.flagged[verdict.unscored].any()
    assert not verdict.invalid.any()
    rest = ~verdict.unscored
    assert np.array_equal(verdict.flagged[rest], verdict.p_value[rest] <= verdict.alpha)
    assert np.array_equal(verdict.flagged[rest], scorer.threshold.flag(verdict.score[rest]))
    assert 0 < verdict.flagged.sum() < len(steps)


def test_what_the_model_fails_to_score_is_flagged_and_what_no_window_scores_is_not(held_out, data):
    class Silent(PCAResidual):
        def _contributions(self, x):
            return np.where(np.abs(x).max(1, keepdims=True) > 1e6, np.nan, super()._contributions(x))

    rows = data.splits.train
    model = Silent(6).fit(rows.x[rows.index].numpy())
    x = held_out[0][:40].copy()
    x[20] = 1e7
    for rule in RULES:
        verdict = Scorer.calibrate(model, held_out, steps=rule)(x)
        assert verdict.flagged[20]
        assert verdict.p_value[20] == verdict.p_value[~verdict.unscored].min()
        assert verdict.unscored.sum() == (SIZE - 1 if rule in CAUSAL else 0)


def test_a_part_of_a_verdict_and_several_joined_are_verdicts(scorer, steps):
    whole = scorer(steps)
    parts = [whole[:50], whole[50:51], whole[np.arange(51, 300)], whole[np.arange(len(whole)) >= 300]]
    joined = Verdict.join(parts)
    for name in ("score", "p_value", "flagged", "unscored"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name), equal_nan=name in ("score", "p_value"))
    assert joined.guarantee == whole.guarantee
    assert whole[~whole.unscored].unscored.sum() == 0
    samples = Verdict(whole.score, whole.p_value, whole.flagged, 0.05, 1.0, whole.guarantee)
    assert Verdict.join([samples[:5], samples[5:]]).unscored is None
    assert samples.invalid.sum() == SIZE - 1


@pytest.mark.parametrize("kind", ["detector", "baseline"])
@pytest.mark.parametrize("rule", RULES)
def test_a_stream_of_chunks_joined_is_the_call(kind, rule, detector, baseline, held_out, steps):
    scorer = Scorer.calibrate(detector if kind == "detector" else baseline, held_out, steps=rule)
    whole = scorer(steps)
    for length in (1, 7, 300, len(steps)) if rule == "last" else (7, 300):
        chunks = [steps[start : start + length] for start in range(0, len(steps), length)]
        chunks.insert(1, steps[:0])  # nothing has come yet
        verdicts = list(scorer.stream(chunks))
        joined = Verdict.join(verdicts)
        assert len(verdicts) == len(chunks) + 1
        for name in ("score", "p_value", "flagged", "unscored"):
            assert getattr(joined, name).tobytes() == getattr(whole, name).tobytes()
    assert len(Verdict.join(list(scorer.stream([])))) == 0


def test_a_stream_takes_arrays_of_the_channels_only(scorer, recording, steps):
    with pytest.raises(InputError, match="a data frame is put in order of time as a whole"):
        list(scorer.stream([recording]))
    with pytest.raises(InputError, match=r"must have shape \(N, 4\)"):
        list(scorer.stream([steps[:, :3]]))
    with pytest.raises(InputError, match="1 of 5 samples hold NaN"):
        list(scorer.stream([np.where(np.arange(5)[:, None] == 2, np.nan, steps[:5])]))


def test_scores_that_were_given_are_judged_again_at_another_level(scorer, steps):
    loose, again = scorer(steps, alpha=0.2), scorer.judge(scorer(steps).score, alpha=0.2)
    for name in ("score", "p_value", "flagged", "unscored"):
        assert getattr(again, name).tobytes() == getattr(loose, name).tobytes()
    assert again.guarantee == loose.guarantee
    with pytest.raises(ValueError, match="cannot be promised"):
        scorer.judge(loose.score, kind="marginal")


def test_evaluation_leaves_out_what_no_window_scores(scorer, steps, recording):
    verdict, y = scorer(steps), recording["label"].to_numpy()
    result = evaluate(verdict, y)
    rest = ~verdict.unscored
    assert result["n_unscored"] == SIZE - 1
    assert result["n_invalid"] == 0
    assert result["ranking"] == evaluate(verdict[rest], y[rest])["ranking"]
    assert result["at_threshold"] == evaluate(verdict[rest], y[rest])["at_threshold"]
    for flipped in (0, 1):  # whatever their label is
        changed = np.where(verdict.unscored, flipped, y)
        assert evaluate(verdict, changed)["ranking"] == result["ranking"]


def test_a_table_of_verdicts_says_nothing_of_steps_without_a_score(scorer, steps):
    verdict = scorer(steps)
    table = as_table(verdict, ["a.csv"] * len(verdict), np.arange(len(verdict)), "id")
    assert table["flagged"].to_pylist() == [None] * (SIZE - 1) + verdict.flagged[SIZE - 1 :].tolist()


# ---- recordings ----------------------------------------------------------------------------------------------------


def test_a_frame_gets_one_entry_a_row_whatever_the_order_of_rows_and_columns(scorer, recording, steps):
    expected = scorer(steps)
    order = np.random.default_rng(0).permutation(len(recording))
    shuffled = recording.select([*recording.column_names[::-1]]).take(order)
    verdict = scorer(shuffled)
    assert np.array_equal(verdict.score, expected.score[order], equal_nan=True)
    assert np.array_equal(verdict.unscored, expected.unscored[order])
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(shuffled.to_pandas()).set_axis(order[::-1], axis=0)
    again = scorer(frame)
    assert np.array_equal(again.score, verdict.score, equal_nan=True)


def test_recordings_may_come_as_a_list_of_frames_and_arrays(scorer, recording, steps):
    whole = scorer(steps)
    parts = scorer([recording.slice(100), steps[:50], recording.slice(0, 100).take(np.arange(100)[::-1])])
    assert np.array_equal(parts.score[SIZE - 1 : 300], whole.score[100 + SIZE - 1 :])
    assert np.array_equal(parts.score[300:350], whole.score[:50], equal_nan=True)
    assert np.array_equal(parts.score[350:], whole.score[:100][::-1], equal_nan=True)
    assert parts.unscored.sum() == 3 * (SIZE - 1)


def test_rows_that_are_left_out_are_not_scored(detector, held_out, recording, data):
    schema = SeriesSchema(data.schema.channels, "timestamp", missing="split")
    scorer = Scorer.calibrate(detector, held_out, steps="last", inputs=schema)
    holes = np.zeros(len(recording), bool)
    holes[[100, 101, 300]] = True
    flow = pa.array(recording["flow"].to_numpy(), mask=holes)
    verdict = scorer(recording.set_column(recording.column_names.index("flow"), "flow", flow))
    expected = np.zeros(len(recording), bool)
    for begin in (0, 100, 101, 102, 301):
        expected[begin : begin + SIZE - 1] = True
    expected[300] = True
    assert np.array_equal(verdict.unscored, expected)


@pytest.mark.parametrize("missing", ["hold", "split"])
def test_missing_values_of_an_array_are_treated_as_those_of_a_frame(
    detector, held_out, recording, steps, data, missing
):
    schema = SeriesSchema(data.schema.channels, "timestamp", missing=missing, max_gap=2)
    scorer = Scorer.calibrate(detector, held_out, steps="last", inputs=schema)
    steps = steps.astype(np.float64)
    steps[[100, 101, 102, 103, 300], 1] = np.nan
    name = data.schema.channels[1]
    holes = pa.array(steps[:, 1], mask=np.isnan(steps[:, 1]))
    expected = scorer(recording.set_column(recording.column_names.index(name), name, holes))
    verdict = scorer(steps)
    assert len(verdict) == len(steps)
    assert verdict.score.tobytes() == expected.score.tobytes()
    parts = scorer([steps[:50], steps])
    assert np.array_equal(parts.score[50:], verdict.score, equal_nan=True)
    steps[0, 0] = np.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        scorer(steps)


def test_missing_values_of_an_array_are_refused_where_no_policy_is_known(scorer, steps):
    steps = steps.astype(np.float64)
    steps[5, 0] = np.nan
    with pytest.raises(InputError, match=r"1 of 400 samples hold NaN .*first at row 5"):
        scorer(steps)


def test_channels_are_known_from_training_and_a_missing_one_is_named(scorer, recording, held_out, baseline):
    assert isinstance(scorer.inputs, SeriesSchema)
    with pytest.raises(InputError, match="lacks the columns flow"):
        scorer(recording.drop_columns(["flow"]))
    nameless = Scorer.calibrate(baseline, held_out, steps="last")
    with pytest.raises(InputError, match="does not know its channels by name: pass the values as an array"):
        nameless(recording)


@pytest.mark.parametrize("nothing", [np.empty((0, 4)), [np.empty((0, 4)), np.empty((0, 4))]])
def test_no_steps_are_refused(scorer, nothing):
    with pytest.raises(InputError, match="no steps"):
        scorer(nothing)


@pytest.mark.parametrize(
    "x", [np.zeros(5), np.zeros((5, 3)), np.zeros((2, 10, 4)), "series.csv", [np.zeros((5, 3))], []]
)
def test_what_is_no_series_is_refused(scorer, x):
    with pytest.raises(InputError, match=r"shape \(N, 4\)|must be real numbers"):
        scorer(x)


def test_a_series_shorter_than_a_window_is_not_scored_at_all(scorer, steps):
    verdict = scorer(steps[: SIZE - 1])
    assert verdict.unscored.all()
    assert not verdict.flagged.any()


# ---- keeping it ----------------------------------------------------------------------------------------------------


def test_a_saved_scorer_gives_the_same_bits_in_a_fresh_process(detector, held_out, recording, tmp_path):
    scorer = Scorer.calibrate(detector, held_out, steps=StepRule(SIZE, "mean", 2))
    scorer.save(tmp_path / "scorer")
    again = Scorer.load(tmp_path / "scorer")
    assert (again.steps, again.inputs, again.decision.kind) == (scorer.steps, scorer.inputs, "none")
    expected = scorer(recording)
    assert again(recording).score.tobytes() == expected.score.tobytes()
    code = (
        "import sys, numpy as np; from deepad import Scorer; from deepad.data.synthetic import generate\n"
        "verdict = Scorer.load(sys.argv[1])(generate('sensors', rows=400, rate=0.1, seed=5))\n"
        "np.save(sys.argv[2], np.stack([verdict.score, verdict.p_value, verdict.flagged]))"
    )
    where = tmp_path / "scores.npy"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "scorer"), str(where)], check=True, capture_output=True)
    fresh = np.load(where)
    assert fresh[0].tobytes() == expected.score.tobytes()
    assert fresh[1].tobytes() == expected.p_value.tobytes()
    assert np.array_equal(fresh[2], expected.flagged)


def edited(folder, target, **changes):
    """A copy of an artifact with other values in its manifest, sealed anew as someone who means harm would."""
    shutil.copytree(folder, target)
    path = target / "scorer.json"
    document = {**json.loads(path.read_text()), **changes}
    document = {key: value for key, value in document.items() if value is not ...}
    path.write_bytes(canonical_json(sealed(document)))
    return target


def test_an_artifact_of_the_first_schema_still_loads(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 5))
    written, saved = Scorer.calibrate(PCAResidual(2).fit(x[:200]), x[200:]), tmp_path / "saved"
    written.save(saved)
    again = Scorer.load(edited(saved, tmp_path / "old", schema=1, steps=..., inputs=..., events=..., groups=...))
    assert (again.steps, again.inputs, again.decision.kind) == (None, None, "marginal")
    assert again(x).score.tobytes() == written(x).score.tobytes()
    again.save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "scorer.json").read_text())["schema"] == SCHEMA
    for broken in (
        {"schema": 1},
        {"schema": 1, "steps": ...},
        {"schema": 2, "inputs": ...},
        {"schema": 3, "events": ...},
    ):
        target = tmp_path / "-".join(map(str, broken.values()))
        with pytest.raises(ArtifactCorruptError, match="missing or unknown keys"):
            Scorer.load(edited(saved, target, **broken))


CHANNELS = SeriesSchema(("a", "b", "c", "d")).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": {}},
        {"steps": []},
        {"steps": 5},
        {"steps": False},
        {"steps": "last"},
        {"steps": {"window_size": 10}, "inputs": {"kind": "table", "columns": []}},
        {"steps": {"window_size": 9, "rule": "last", "stride": 1}},
        {"steps": {"window_size": 10**30, "rule": "last", "stride": 1}},
        {"steps": {"window_size": 10, "rule": "last", "stride": 10**30}},
        {"steps": {"window_size": 10.0, "rule": "last", "stride": 1}},
        {"steps": {"window_size": 10, "rule": ["last"], "stride": 1}},
        {"steps": {"window_size": 10, "rule": "os.system", "stride": 1}},
        {"steps": {"window_size": 10, "rule": "last", "stride": 0}},
        {"steps": {"window_size": 10, "rule": "last", "stride": 1, "more": 1}},
        {"decision": {"alpha": 0.05, "kind": "marginal", "delta": None}},
        {"inputs": []},
        {"inputs": "series"},
        {"inputs": {"kind": "series"}},
        {"inputs": {"kind": ["series"]}},
        {"inputs": {"kind": "pickle"}},
        {"inputs": {**CHANNELS, "channels": ["a"]}},
        {"inputs": {**CHANNELS, "channels": [["a"], "b", "c", "d"]}},
        {"inputs": {**CHANNELS, "channels": ["a", "a", "b", "c"]}},
        {"inputs": {**CHANNELS, "channels": ["a", "b", "c", "d"], "max_gap": 10**400}},
        {"inputs": {**CHANNELS, "channels": ["a", "b", "c", "d"], "interval": -1}},
        {
            "inputs": {
                "kind": "table",
                "columns": [{"name": n, "kind": "number", "categories": [], "fill": None} for n in "abcd"],
            }
        },
    ],
    ids=repr,
)
def test_a_manifest_with_other_steps_or_inputs_is_refused(scorer, tmp_path, change):
    scorer.save(tmp_path / "scorer")
    with pytest.raises(ArtifactCorruptError, match="does not describe a scorer"):
        Scorer.load(edited(tmp_path / "scorer", tmp_path / "edited", **change))


def test_a_baseline_on_windows_scores_by_every_rule_and_is_kept(baseline, held_out, steps, tmp_path):
    for rule in RULES:
        scorer = Scorer.calibrate(baseline, held_out, steps=rule, alpha=0.1)
        scorer.save(tmp_path / rule)
        verdict = scorer(steps)
        assert Scorer.load(tmp_path / rule)(steps).score.tobytes() == verdict.score.tobytes()
        assert verdict.unscored.sum() == (SIZE - 1 if rule in CAUSAL else 0)
