"""Models made of models: what they score, what they remember of the rows of their parts, and how they are kept."""

import json
import subprocess
import sys
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
import torch
from conftest import train, within
from safetensors.numpy import load_file
from torch.utils.data import DataLoader

from deepad import Scorer
from deepad.baselines import KNearestNeighbors, MeanDistance, PCAResidual
from deepad.baselines.base import BLOCK
from deepad.data.windows import windows_of
from deepad.errors import ArtifactError, DataLeakError, InputError, NotFittedError
from deepad.quiet import quiet_lightning
from deepad.rooms import members
from deepad.schema import Column, TableSchema
from deepad.scoring.artifact import write_artifact
from deepad.scoring.blocks import score_block
from deepad.scoring.composed import Ensemble, Hybrid
from deepad.scoring.ensemble import ScoreEnsemble
from deepad.scoring.manifest import MANIFEST
from deepad.scoring.models import digest_of_model, model_id

BASELINES, DETECTORS = members("baselines", "Baseline"), members("detectors", "Detector")
SMALL = {"DenseAutoencoder": {"hidden_dims": (8,), "latent_dim": 2}, "IsolationForest": {"n_estimators": 20}}
SHAPE_OF = {"LSTMAutoencoder": (8, 2), "ConvolutionalAutoencoder": (1, 8, 8)}
SPLITS = {"train": 200, "val": 60, "calibration": 60, "test": 400}


@cache
def rows(split, shape=(4,)):
    """Normal float32 rows of a split, all of them different; windows are those of a series."""
    n, rng = SPLITS[split], np.random.default_rng([list(SPLITS).index(split), len(shape)])
    if len(shape) == 2:
        t = np.arange(n + shape[0] - 1)[:, None]
        return windows_of((np.sin(t / 2 + np.arange(shape[1])) + 0.2 * rng.normal(size=t.shape)).astype("f4"), shape[0])
    width = int(np.prod(shape))
    x = rng.normal(size=(n, 2)) @ np.random.default_rng(7).normal(size=(2, width)) + 0.2 * rng.normal(size=(n, width))
    return x.astype(np.float32).reshape(n, *shape)


@cache
def baseline(name, shape=(4,)):
    return BASELINES[name](**SMALL.get(name, {})).fit(rows("train", shape))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Trained detectors by class."""

    @cache
    def get(name="DenseAutoencoder"):
        shape = SHAPE_OF.get(name, (4,))
        torch.manual_seed(0)
        detector = DETECTORS[name](shape, **SMALL.get(name, {}))
        loaders = [DataLoader(torch.from_numpy(rows(split, shape).copy()), 64) for split in ("train", "val")]
        with quiet_lightning():
            train(detector, loaders[0], tmp_path_factory.mktemp("deep"), loaders[1], max_epochs=3)
        return detector

    return get


def each(*names, shape=(4,)):
    return {name: baseline(name, shape) for name in names}


def made(deep):
    """Compositions of every kind, by name; parts are named in no order."""
    val = rows("val")
    three = {"z": baseline("ZScore"), "deep": deep(), "a": baseline("IsolationForest")}
    hybrid = Hybrid(deep(), KNearestNeighbors()).fit(rows("train"))
    windows, images = (8, 2), (1, 8, 8)
    return {
        "hybrid": hybrid,
        "hybrid of windows": Hybrid(deep("LSTMAutoencoder"), MeanDistance()).fit(rows("train", windows)),
        "ensemble": Ensemble(three).fit(val),
        "weighted": Ensemble(three, weights={"a": 3, "z": 0.5, "deep": 1}).fit(val),
        "vote": Ensemble(three, transform="vote", level=0.8, weights={"z": 2, "deep": 1, "a": 1}).fit(val),
        "ensemble of one": Ensemble({"only": baseline("PCAResidual")}).fit(val),
        "ensemble of all": Ensemble(
            {f"{name} (1)": baseline(name) for name in reversed(BASELINES) if name not in SERIES}
        ).fit(val),
        "ensemble of windows": Ensemble(
            {"lstm": deep("LSTMAutoencoder"), **each("ControlChart", "ZScore", shape=windows)}
        ).fit(rows("val", windows)),
        "ensemble of images": Ensemble(
            {"deep": deep("ConvolutionalAutoencoder"), **each("PCAResidual", shape=images)}
        ).fit(rows("val", images)),
        "nested": Ensemble({"y": hybrid, "x": Ensemble({"p": baseline("PCAResidual"), "o": hybrid}).fit(val),
                            "variational": deep("VariationalAutoencoder")}).fit(val),
    }  # fmt: skip


SERIES = {name for name, member in BASELINES.items() if member.__module__.endswith("series")}
NAMES = [
    "hybrid",
    "hybrid of windows",
    "ensemble",
    "weighted",
    "vote",
    "ensemble of one",
    "ensemble of all",
    "ensemble of windows",
    "ensemble of images",
    "nested",
]
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def models(deep):
    return made(deep)


@pytest.fixture(scope="module")
def scorers(models):
    return {name: Scorer.calibrate(model, rows("calibration", model.shape)) for name, model in models.items()}


def test_every_composition_is_tested(models):
    assert list(models) == NAMES


# ---- what is scored ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("member", [KNearestNeighbors, PCAResidual, MeanDistance])
def test_a_hybrid_is_the_baseline_of_the_features_of_the_detector(deep, name, member):
    detector = deep(name)
    hybrid = Hybrid(detector, member()).fit(rows("train", detector.shape))
    with torch.no_grad():
        train, test = (detector.features(torch.tensor(rows(split, detector.shape))) for split in ("train", "test"))
    by_hand = member().fit(train.numpy())
    np.testing.assert_allclose(hybrid.score(rows("test", detector.shape)), by_hand.score(test.numpy()), rtol=1e-3)


@pytest.mark.parametrize("name", sorted(BASELINES.keys() - SERIES))
def test_every_baseline_may_be_the_density_of_a_hybrid(deep, name, tmp_path):
    hybrid = Hybrid(deep(), BASELINES[name](**SMALL.get(name, {}))).fit(rows("train"))
    score = hybrid.score(rows("test"))
    assert np.isfinite(score).all()
    if name not in ("RandomScore", "ConstantScore"):
        assert np.median(hybrid.score(rows("test") + 20)) > np.quantile(score, 0.9)
        Scorer.calibrate(hybrid, rows("calibration")).save(tmp_path)
        assert Scorer.load(tmp_path).model.score(rows("test")).tobytes() == score.tobytes()


@pytest.mark.parametrize("name", [name for name in NAMES if "hybrid" not in name])
def test_an_ensemble_is_its_rule_over_the_scores_of_its_members(models, name):
    model = models[name]

    def columns(x):
        blocks = [x[start : start + BLOCK] for start in range(0, len(x), BLOCK)]
        return np.concatenate([np.stack([score_block(p, b) for p in model.parts.values()], 1) for b in blocks])

    how = {"transform": model.transform, "level": model.level}
    weights = None if model.weights is None else [model.weights[part] for part in model.parts]
    rule = ScoreEnsemble.fit(columns(rows("val", model.shape)), weights=weights, **how)
    test = rows("test", model.shape)
    assert model.score(test).tobytes() == rule(columns(test)).tobytes()


@every
def test_a_row_scores_the_same_alone_in_any_company_and_in_any_numeric_form(models, name):
    model = models[name]
    x = rows("test", model.shape)
    whole = model.score(x)
    order = np.random.default_rng(0).permutation(len(x))
    assert model.score(x[order]).tobytes() == whole[order].tobytes()
    assert np.concatenate([model.score(x[i : i + 7]) for i in range(0, 35, 7)]).tobytes() == whole[:35].tobytes()
    assert np.concatenate([model.score(x[i : i + 1]) for i in range(5)]).tobytes() == whole[:5].tobytes()
    assert model.score(np.asfortranarray(x.astype(np.float64))).tobytes() == whole.tobytes()


def test_the_order_in_which_members_are_named_does_not_matter(deep):
    parts = {"z": baseline("ZScore"), "deep": deep(), "a": baseline("PCAResidual")}
    weights = {"a": 5.0, "z": 1.0, "deep": 2.0}
    models = [Ensemble({name: parts[name] for name in names}, weights=weights) for names in (parts, sorted(parts))]
    models = [model.fit(rows("val")) for model in models]
    assert len({model.score(rows("test")).tobytes() for model in models}) == 1
    assert len({model_id(model) for model in models}) == 1


def test_making_and_fitting_leaves_the_parts_as_they_were(deep):
    parts = {"deep": deep(), **each("PCAResidual", "IsolationForest")}
    before = {name: (model_id(part), part.fit_rows.tobytes()) for name, part in parts.items()}
    Hybrid(deep(), KNearestNeighbors()).fit(rows("val"))
    Ensemble(parts).fit(rows("val"))
    assert {name: (model_id(part), part.fit_rows.tobytes()) for name, part in parts.items()} == before


@every
def test_no_row_is_too_large_to_be_flagged(scorers, name):
    scorer = scorers[name]
    x = np.concatenate([np.full((2, *scorer.model.shape), size) for size in (1e30, -1e30, 1e38, 1e300)])
    x[::2].reshape(4, -1)[:, ::2] *= -1
    verdict = scorer(x)
    assert not np.isnan(verdict.score).any()
    assert verdict.flagged.all()


# ---- which rows they know ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if "windows" not in name])
def test_rows_that_fitted_the_model_or_any_part_of_it_calibrate_nothing(models, name):
    model = models[name]
    held_out = rows("calibration", model.shape)
    for split in ("train", "val"):
        known = rows(split, model.shape)
        with pytest.raises(DataLeakError, match=f"{len(known)} of {len(known)} calibration rows"):
            Scorer.calibrate(model, known)
        with pytest.raises(DataLeakError, match=r"1 of 61 .*first at row 60"):
            Scorer.calibrate(model, np.concatenate([held_out, known[17:18]]))
    assert sorted(model.fit_rows) == sorted(set(model.fit_rows)), "all rows differ, and features are no rows"
    assert len(model.fit_rows) == SPLITS["train"] + SPLITS["val"]


def test_windows_that_trained_a_part_are_known_too(models):
    model, seen = models["ensemble of windows"], models["hybrid of windows"].fit_rows
    assert np.isin(models["ensemble of windows"].parts["lstm"].fit_rows, model.fit_rows).all()
    assert len(seen) == SPLITS["train"] + SPLITS["val"]


def test_fitting_again_forgets_the_rows_before_but_not_those_of_the_parts(deep):
    hybrid = Hybrid(deep(), KNearestNeighbors()).fit(rows("calibration")).fit(rows("train"))
    Scorer.calibrate(hybrid, rows("calibration"))
    with pytest.raises(DataLeakError):
        Scorer.calibrate(hybrid, rows("val"))


# ---- saved and loaded ----------------------------------------------------------------------------------------------

FRESH = """
import sys, pathlib, hashlib, numpy as np
from deepad import Scorer
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    scorer = Scorer.load(folder)
    score = scorer(np.load(folder / "x.npy")).score
    print(folder.name, scorer.id, hashlib.sha256(score.tobytes()).hexdigest(), scorer.threshold.value)
"""


def test_what_is_saved_scores_the_same_in_a_fresh_process_to_the_bit(scorers, tmp_path):
    expected = []
    for name, scorer in scorers.items():
        x = rows("test", scorer.model.shape)
        scorer.save(tmp_path / name)
        np.save(tmp_path / name / "x.npy", x)
        score = sha256(scorer(x).score.tobytes()).hexdigest()
        expected.append(f"{name} {scorer.id} {score} {scorer.threshold.value}")
    done = subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == sorted(expected)


@every
def test_what_is_loaded_is_saved_again_with_the_same_arrays(scorers, name, tmp_path):
    scorers[name].save(tmp_path / "a")
    again = Scorer.load(tmp_path / "a")
    again.save(tmp_path / "b")
    assert again.id == scorers[name].id
    assert again.describe() == scorers[name].describe()
    payloads = [{path.name for path in (tmp_path / folder).glob("*.safetensors")} for folder in "ab"]
    assert payloads[0] == payloads[1]


def test_a_change_of_any_part_is_another_model(deep):
    ids = {
        model_id(Ensemble({"a": one, "b": other}, weights=weights).fit(rows("val")))
        for one in (PCAResidual(components).fit(rows("train")) for components in (1, 2))
        for other in (baseline("ZScore"), deep())
        for weights in (None, {"a": 2, "b": 1})
    }
    assert len(ids) == 8


def test_scores_made_of_float32_tie_as_coarsely_as_those_of_a_detector(scorers):
    tolerance = {name: scorer.calibration.tie_rtol for name, scorer in scorers.items()}
    exact = {"ensemble of one", "ensemble of all"}
    assert {tolerance[name] for name in exact} == {1e-9}
    assert {tolerance[name] for name in tolerance.keys() - exact} == {1e-5}


def test_what_the_inputs_are_is_taken_from_the_parts():
    schema = TableSchema(tuple(Column(name, "number") for name in "abcd"))
    known, unknown = PCAResidual(2).fit(rows("train")), baseline("ZScore")
    known.inputs = schema.to_dict()
    ensemble = Ensemble({"unknown": unknown, "known": known}).fit(rows("val"))
    assert Scorer.calibrate(ensemble, rows("calibration")).inputs == schema


def test_steps_of_a_series_are_scored_by_whole_windows(models, tmp_path):
    series = rows("test", (8, 2))[::8].reshape(-1, 2)
    for name in ("hybrid of windows", "ensemble of windows"):
        scorer = Scorer.calibrate(models[name], series[:200], steps="window")
        scorer.save(tmp_path / name)
        score = Scorer.load(tmp_path / name)(series[200:]).score
        np.testing.assert_array_equal(score[7:], models[name].score(windows_of(series[200:], 8)))


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_parts_of_different_shapes_and_samples_of_another_are_refused(deep):
    with pytest.raises(ValueError, match=r"samples of one shape, got \[\(4,\), \(8, 2\)\]"):
        Ensemble({"a": deep(), "b": deep("LSTMAutoencoder")})
    for model in (Ensemble(each("PCAResidual")), Hybrid(deep(), KNearestNeighbors())):
        with pytest.raises(ValueError, match=r"the parts take samples of shape \(4,\), got \(5,\)"):
            model.fit(np.zeros((20, 5)))
    with pytest.raises(InputError, match="this Ensemble takes samples"):
        Ensemble(each("PCAResidual")).fit(rows("val")).score(rows("val")[:, :1])


@pytest.mark.parametrize("name", ["", "a.b", "a/b", ".", "-a", " a", "a\n", "x" * 65])
def test_a_name_that_could_not_be_kept_is_refused(name):
    with pytest.raises(ValueError, match="names of letters and digits"):
        Ensemble({"fine": baseline("PCAResidual"), name: baseline("ZScore")})


def test_an_ensemble_of_nothing_is_refused():
    with pytest.raises(ValueError, match="takes members"):
        Ensemble({})


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 1, "b": 1, "c": 1}, {}, {"a": 1, "c": 1}])
def test_weights_of_other_names_are_refused(weights):
    with pytest.raises(ValueError, match="give a weight for each of a, b"):
        Ensemble({"a": baseline("PCAResidual"), "b": baseline("ZScore")}, weights=weights)


@pytest.mark.parametrize("weight", [0, -1, np.nan, np.inf])
def test_weights_that_are_not_positive_are_refused(weight):
    ensemble = Ensemble({"a": baseline("PCAResidual"), "b": baseline("ZScore")}, weights={"a": 1, "b": weight})
    with pytest.raises(ValueError, match="weights must be 2 finite numbers above 0"):
        ensemble.fit(rows("val"))


def test_parts_that_have_not_learned_and_models_that_have_not_been_fitted_are_refused(deep):
    with pytest.raises(NotFittedError, match="this PCAResidual has not been fitted"):
        Ensemble({"a": PCAResidual()})
    with pytest.raises(NotFittedError, match="this DenseAutoencoder has not been trained"):
        Ensemble({"a": DETECTORS["DenseAutoencoder"]((4,))})
    with pytest.raises(NotFittedError, match="this DenseAutoencoder has not been trained"):
        Hybrid(DETECTORS["DenseAutoencoder"]((4,)), PCAResidual())
    for model in (Ensemble(each("PCAResidual")), Hybrid(deep(), PCAResidual())):
        for told in (model.score, model.contributions, lambda x, model=model: Scorer.calibrate(model, x)):
            with pytest.raises(NotFittedError, match="has not been fitted"):
                told(rows("calibration"))
    with pytest.raises(NotFittedError, match="new to its members"):
        Ensemble({"inner": Ensemble(each("PCAResidual"))})


@every
def test_a_composition_does_not_say_which_part_of_a_sample_it_was(models, name):
    with pytest.raises(InputError, match="does not split its score"):
        models[name].contributions(rows("test", models[name].shape))


def test_a_fit_that_fails_leaves_the_model_as_it_was(models):
    model = models["hybrid"]
    before, seen = model_id(model), model.fit_rows
    for bad in (rows("val")[:1], np.full((30, 4), np.nan), rows("val")[:3]):
        with pytest.raises(ValueError, match=r"needs at least|hold NaN"):
            model.fit(bad)
    assert model_id(model) == before
    assert model.fit_rows is seen


# ---- what others may have written ----------------------------------------------------------------------------------


def forged(folder, source, change):
    """The artifact of a scorer after a change of its model entry and arrays, all digests as they should be."""
    document = json.loads((source / MANIFEST).read_text())
    arrays = {key: load_file(source / entry["file"]) for key, entry in document["payloads"].items()}
    change(document["model"], arrays["model"])
    document["id"] = document["calibration"]["scorer_id"] = digest_of_model(document["model"], arrays["model"])
    body = {key: value for key, value in document.items() if key not in ("schema", "payloads", "sha256")}
    write_artifact(folder, MANIFEST, body, arrays)
    return folder


@pytest.fixture(scope="module")
def kept(scorers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    for name in ("ensemble", "nested", "hybrid"):
        scorers[name].save(folder / name)
    Scorer.calibrate(baseline("PCAResidual"), rows("calibration")).save(folder / "plain")
    return folder


def drop(prefix):
    def change(model, arrays):
        for key in [key for key in arrays if key.startswith(prefix)]:
            del arrays[key]

    return change


def entry(**values):
    return lambda model, arrays: model.update(values)


def part(path, **values):
    def change(model, arrays):
        for name in path.split("."):
            model = model["parts"][name]
        model.update(values)

    return change


def rename(old, new, *, copy=False):
    def change(model, arrays):
        model["parts"][new] = model["parts"][old] if copy else model["parts"].pop(old)
        for key in [key for key in arrays if key.startswith(f"{old}.")]:
            arrays[new + key.removeprefix(old)] = arrays[key] if copy else arrays.pop(key)

    return change


def array(key, function):
    def change(model, arrays):
        arrays[key] = function(arrays[key])

    return change


CHANGES = {
    "unknown part": ("ensemble", part("z", tag="os.system")),
    "unknown room": ("ensemble", part("z", room="os")),
    "room of another": ("ensemble", part("z", room="detectors")),
    "room that is no text": ("ensemble", part("z", room=["baselines"])),
    "unknown composition": ("ensemble", entry(tag="Composed")),
    "part that is none": ("ensemble", lambda model, arrays: model["parts"].update(z=None)),
    "no parts": ("ensemble", lambda model, arrays: model.pop("parts")),
    "empty parts": ("ensemble", entry(parts={})),
    "list of parts": ("ensemble", entry(parts=["z", "deep", "a"])),
    "part without arguments": ("ensemble", lambda model, arrays: model["parts"]["z"].pop("arguments")),
    "arguments of another": ("ensemble", part("z", arguments={"n_components": 3})),
    "part too few": ("ensemble", lambda model, arrays: model["parts"].pop("z")),
    "part and arrays too few": ("ensemble", lambda model, arrays: (drop("z.")(model, arrays), model["parts"].pop("z"))),
    "part too many": ("ensemble", rename("z", "zz", copy=True)),
    "no arrays of a part": ("ensemble", drop("z.")),
    "an array of a part missing": ("ensemble", drop("z.spread")),
    "no weights": ("ensemble", drop("weights")),
    "no validation scores": ("ensemble", drop("rows")),
    "an array of nobody": ("ensemble", lambda model, arrays: arrays.update({"b.low": np.zeros(4)})),
    "an array too many": ("ensemble", lambda model, arrays: arrays.update(bias=np.zeros(4))),
    "part named like an array of another": ("ensemble", rename("z", "a.left")),
    "part named like the arrays of another": ("ensemble", rename("z", "a", copy=True)),
    "part with a path for a name": ("ensemble", rename("z", "../z")),
    "part without a name": ("ensemble", rename("z", "")),
    "weights that sum to two": ("ensemble", array("weights", lambda weights: 2 * weights)),
    "weights below zero": ("ensemble", array("weights", lambda weights: weights * [3, -1, 1])),
    "validation scores of two": ("ensemble", array("rows", lambda scores: scores[:, :2])),
    "validation scores that are none": ("ensemble", array("rows", lambda scores: scores * np.nan)),
    "one validation score": ("ensemble", array("rows", lambda scores: scores[:1])),
    "vote without a level": ("ensemble", entry(arguments={"transform": "vote", "level": None})),
    "unknown transform": ("ensemble", entry(arguments={"transform": "mean", "level": None})),
    "unknown argument": ("ensemble", entry(arguments={"transform": "loglik", "level": None, "weights": None})),
    "no arguments": ("ensemble", entry(arguments={})),
    "another shape": ("ensemble", entry(shape=[5])),
    "shape that is text": ("ensemble", entry(shape=["4"])),
    "another shape of a part": ("ensemble", part("z", shape=[2, 2])),
    "another shape of a detector": ("ensemble", part("deep", shape=[5])),
    "another shape inside": ("nested", part("x.p", shape=[5])),
    "unknown part inside": ("nested", part("x.o.baseline", tag="eval")),
    "no arrays inside": ("nested", drop("x.o.baseline.")),
    "not a number inside": ("nested", array("x.p.mean", lambda mean: mean * np.nan)),
    "of another type inside": ("nested", array("x.o.baseline.points", lambda points: points.astype(np.int64))),
    "hybrid of two baselines": ("hybrid", rename("baseline", "detector", copy=True)),
    "hybrid without detector": ("hybrid", lambda model, arrays: model["parts"].pop("detector")),
    "hybrid with more": ("hybrid", rename("baseline", "third", copy=True)),
    "hybrid with arguments": ("hybrid", entry(arguments={"level": 1})),
    "hybrid with an array": ("hybrid", lambda model, arrays: arrays.update(weights=np.zeros(2))),
    "hybrid of an untrained detector": ("hybrid", array("detector.trained", lambda flag: np.zeros_like(flag))),
    "plain model with parts": ("plain", entry(parts={})),
    "plain model called a composition": ("plain", entry(room="composed", tag="Hybrid", parts={})),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_manifest_that_describes_no_composition_is_refused(kept, tmp_path, what):
    name, change = CHANGES[what]
    folder = forged(tmp_path, kept / name, change)
    with within(10), pytest.raises(ArtifactError):
        Scorer.load(folder)


def test_a_forged_artifact_without_a_change_is_read(kept, tmp_path):
    """What the other tests forge is refused for what they change."""
    for name in ("ensemble", "nested", "hybrid", "plain"):
        Scorer.load(forged(tmp_path / name, kept / name, lambda model, arrays: None))


def test_a_hybrid_whose_baseline_takes_other_features_is_refused(kept, tmp_path):
    def change(model, arrays):
        other = MeanDistance().fit(np.random.default_rng(0).normal(size=(20, 7)))
        drop("baseline.")(model, arrays)
        arrays.update({f"baseline.{key}": array for key, array in other.state_arrays().items()})
        model["parts"]["baseline"].update(tag="MeanDistance", arguments=other.params, shape=[7])

    with pytest.raises(ArtifactError, match="takes other features than the detector gives"):
        Scorer.load(forged(tmp_path, kept / "hybrid", change))


def test_a_composition_nested_deeper_than_a_manifest_may_be_is_refused_by_who_writes_and_who_reads(kept, tmp_path):
    model = baseline("PCAResidual")
    for _ in range(8):
        model = Ensemble({"a": model}).fit(rows("val"))
    with pytest.raises(ArtifactError, match="nested deeper than 16"):
        Scorer.calibrate(model, rows("calibration")).save(tmp_path / "deep")
    assert not (tmp_path / "deep").exists()
    text = (kept / "nested" / MANIFEST).read_text()
    (tmp_path / "forged").mkdir()
    (tmp_path / "forged" / MANIFEST).write_text(text.replace('"parts": {', '"parts": {"a": ' * 10**4 + "{"))
    with within(10), pytest.raises(ArtifactError, match="nested deeper than 16"):
        Scorer.load(tmp_path / "forged")
