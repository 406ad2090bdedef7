"""A plan says before anything runs what is wrong with it, and names its cells by all they depend on."""

import json
import sys

import pytest

from deepad.comparison.plan import Plan
from deepad.comparison.spec import read_yaml
from deepad.errors import InputError
from deepad.protocol import FLOORS

SMALL = {"data": {"digits": "Digits"}, "models": {"forest": "IsolationForest"}}


def plan(**changes):
    return Plan.of({**SMALL, **changes})


def test_the_floors_are_there_unasked():
    found = plan()
    assert set(found.floors.values()) == set(FLOORS.values())
    assert set(found.models) == {*FLOORS, "forest"}
    assert {found.kind(name) for name in FLOORS} == {"floor"}
    assert found.kind("forest") == "classical"


def test_a_floor_that_is_asked_for_under_a_name_of_its_own_is_not_run_twice():
    found = plan(
        models={
            "nearest": "KNearestNeighbors",
            "three": {"class_path": "KNearestNeighbors", "init_args": {"n_neighbors": 3}},
        }
    )
    assert found.floors["nearest"] == "KNearestNeighbors"
    assert found.kind("nearest") == "floor"
    assert found.kind("three") == "classical"
    assert "k-NN" not in found.models


def test_a_floor_asked_for_with_no_arguments_is_the_floor():
    found = plan(models={"k-NN": {"class_path": "deepad.baselines.KNearestNeighbors", "init_args": {}}})
    assert found.kind("k-NN") == "floor"
    assert set(found.models) == set(FLOORS)


def test_another_model_cannot_take_the_name_of_a_floor():
    with pytest.raises(
        InputError, match="'PCA' is not the floor of that name, PCAResidual with its defaults: rename it"
    ):
        plan(models={"PCA": "IsolationForest"})


def test_each_makes_a_data_set_for_every_value():
    found = plan(data={"digits": {"class_path": "Digits", "each": {"held_out": [3, 1], "test_size": [0.2, 0.3]}}})
    assert list(found.data) == ["digits-3-0.2", "digits-3-0.3", "digits-1-0.2", "digits-1-0.3"]
    assert found.data["digits-1-0.3"]["init_args"] == {"held_out": 1, "test_size": 0.3}
    assert found.groups == {"digits": list(found.data)}


def test_a_pattern_finds_files_below_the_data_folder_in_their_natural_order(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPAD_DATA", str(tmp_path))
    for name in ("10_b", "2_a"):
        (tmp_path / f"{name}.csv").write_text("a,y\n1,0\n")
    entry = {"class_path": "Table", "init_args": {"label": "y"}, "each": {"path": "*.csv"}}
    assert list(plan(data={"t": entry}).data) == ["t-2_a", "t-10_b"]
    with pytest.raises(InputError, match=r"no file is called \*\.parquet, here or below \$DEEPAD_DATA"):
        plan(data={"t": {**entry, "each": {"path": "*.parquet"}}})


MODELS = {
    "dense": {"class_path": "DenseAutoencoder", "trainer": {"max_epochs": 2}},
    "dense + k-NN": {"class_path": "KNearestNeighbors", "features_of": "dense"},
    "both": {"members": ["dense + k-NN", "PCA"]},
}


def test_models_know_what_they_are_made_of():
    found = plan(models=MODELS)
    assert [found.kind(name) for name in MODELS] == ["deep", "hybrid", "ensemble"]
    assert found.needs("both") == ("dense", "dense + k-NN", "PCA", "both")


SERIES = {"class_path": "Series", "init_args": {"generator": "sensors", "window_size": 8}}


def digests(**changes):
    return {cell.name: cell.digest for cell in plan(**{"models": MODELS, "seeds": [0, 1], **changes}).cells()}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name.split("/")[1] for name in before if before[name] != after[name]}


def test_a_cell_is_named_by_all_that_it_depends_on():
    before = digests()
    assert len(set(before.values())) == len(before) == 2 * (len(FLOORS) + 3)
    wider = {**MODELS, "dense": {**MODELS["dense"], "init_args": {"latent_dim": 3}}}
    longer = {**MODELS, "dense": {**MODELS["dense"], "trainer": {"max_epochs": 3}}}
    learned = set(MODELS)
    assert changed(before, digests(models=wider)) == changed(before, digests(models=longer)) == learned
    assert changed(before, digests(trainer={"gradient_clip_val": 1})) == learned
    everything = {*MODELS, *FLOORS}
    assert changed(before, digests(calibration={"alpha": 0.1})) == everything
    assert (
        changed(before, digests(data={"digits": {"class_path": "Digits", "init_args": {"held_out": 3}}})) == everything
    )
    series = digests(data={"digits": SERIES})
    assert changed(series, digests(data={"digits": SERIES}, calibration={"rule": "mean"})) == everything
    assert changed(series, digests(data={"digits": SERIES}, whole_series=True)) == everything


def test_a_cell_is_named_by_nothing_that_it_does_not_depend_on():
    before = digests()
    more = digests(models={**MODELS, "forest": "IsolationForest"}, seeds=[0, 1, 2])
    assert {name: more[name] for name in before} == before
    assert digests(trainer={"max_epochs": 7}) == before  # the one detector has its own
    assert digests(calibration={"alpha": 0.05, "kind": None}) == before
    mixed = digests(data={"digits": "Digits", "sensors": SERIES}, calibration={"rule": "mean"})
    assert {name: mixed[name] for name in before} == before  # of which only the series has steps
    assert digests(data={"digits": SERIES}) == digests(data={"digits": SERIES}, calibration={"rule": "last"})


@pytest.mark.parametrize(
    "same",
    [
        {"class_path": "IsolationForest"},
        {"class_path": "IsolationForest", "init_args": {}},
        {"class_path": "IsolationForest", "init_args": None},
        "deepad.baselines.IsolationForest",
        "deepad.baselines.forest.IsolationForest",
    ],
)
def test_the_same_model_in_other_words_is_the_same_cell(same):
    assert digests(models={"forest": same}) == digests(models={"forest": "IsolationForest"})
    rate = {"class_path": "DenseAutoencoder", "init_args": {"lr": 1}}
    assert digests(models={"a": rate}) == digests(models={"a": {**rate, "init_args": {"lr": 1.0}}})


@pytest.mark.parametrize("data", [{"digits": "Digits"}, {"digits": SERIES}], ids=["samples", "series"])
def test_the_part_of_a_cell_makes_the_same_cell_again(data):
    models = {
        **MODELS,
        "nearest": "KNearestNeighbors",
        "k-NN": {"class_path": "KNearestNeighbors", "init_args": {"n_neighbors": 3}},
    }
    found = plan(data=data, models=models, seeds=[3], calibration={"alpha": 0.1})
    for cell in found.cells():
        part = json.loads(json.dumps(found.part(cell.data, cell.model, cell.seed)))
        again = {one.name: one for one in Plan.of(part, kept=True).cells()}
        assert again.keys() == {f"{cell.data}/{name}/3" for name in cell.needs}
        assert again[cell.name].digest == cell.digest
        assert again[cell.name].needs == cell.needs


def test_a_resolved_plan_can_be_read_again(tmp_path):
    each = {"class_path": "Digits", "init_args": {"test_size": 1e-1}, "each": {"held_out": [3, 1]}}
    detector = {"class_path": "DenseAutoencoder", "init_args": {"lr": 1e-5}}
    before = plan(data={"a": each, "b": "Digits"}, models={**MODELS, "slow": detector}, trainer={"max_epochs": 7})
    (tmp_path / "plan.json").write_text(json.dumps(before.document))
    again = Plan.read(tmp_path / "plan.json")
    assert again == before
    assert again.cells() == before.cells()
    assert again.groups == {"a": ["a-3", "a-1"], "b": ["b"]}


def test_detectors_are_trained_on_the_cpu_unless_the_plan_says_otherwise():
    assert plan(models=MODELS).models["dense"]["trainer"] == {"max_epochs": 2, "accelerator": "cpu", "devices": 1}
    assert plan(models=MODELS, trainer={"accelerator": "gpu"}).models["dense"]["trainer"]["accelerator"] == "gpu"


EVIL = {"class_path": "evil_module.Thing"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"models": {"a": EVIL}}, "'evil_module.Thing' is not one of our classes, and a kept file imports nothing"),
        ({"models": {"a": "evil_module.Thing"}}, "not one of our classes"),
        ({"models": {"a": {"class_path": "evil_module.IsolationForest"}}}, "not one of our classes"),
        ({"models": {"a": {"members": ["b"]}, "b": EVIL}}, "not one of our classes"),
        ({"data": {"d": EVIL}}, "not one of our classes"),
        ({"data": {"d": "IsolationForest"}}, "none of our data"),
        ({"data": {"d": {"class_path": "Series", "init_args": {"frames": EVIL}}}}, None),
        ({"data": {"d": {"class_path": "Series", "init_args": {"frames": "{class_path: evil_module.Thing}"}}}}, None),
    ],
)
def test_a_kept_part_imports_nothing(part, message, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("class Thing: ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    if message is None:
        Plan.of({**SMALL, **part}, kept=True)
    else:
        with pytest.raises(InputError, match=message):
            Plan.of({**SMALL, **part}, kept=True)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, "data must be a table"),
        ({"data": {"a/b": "Digits"}}, "the name 'a/b' must be letters"),
        ({"data": {"x": {"init_args": {}}}}, "names no class_path"),
        ({"data": {"x" * 101: "Digits"}}, "spaces and .+()=-, at most 100"),
        ({"models": {"a.b": "ZScore"}}, r"spaces and \+\(\)=-, at most 64"),
        ({"data": {"x": {"class_path": 5}}}, "class_path is the name of a class, got 5"),
        ({"data": {"x": {"class_path": "Digits", "init_args": 5, "each": {"held_out": [1]}}}}, "init_args is a table"),
        ({"data": {"x": {"class_path": "Digits", "init_args": {"seed": 7}}}}, "its seed is the one of the cell"),
        ({"data": {"x": {"class_path": "Digits", "each": {"seed": [7]}}}}, "its seed is the one of the cell"),
        ({"data": {"x": {"class_path": "Digits", "each": {}}}}, "each is a table"),
        ({"data": {"x": {"class_path": "Digits", "each": {"held_out": 3}}}}, "a list of values, or a pattern"),
        ({"data": {"x": {"class_path": "Digits", "each": {"held_out": [3, 3]}}}}, "two values of each are called"),
        ({"data": {"x": {"class_path": "Digit"}}}, "data 'x': .*Digit"),
        ({"data": {"x": {"class_path": "Digits", "init_args": {"held_up": 3}}}}, "data 'x': .*'held_up' is not"),
        ({"data": {"x": {"class_path": "Digits", "init_args": {"batch_size": "many"}}}}, "data 'x': .*batch_size"),
        ({"data": {"x": "Digits", "x-1": "Digits", "y": {"class_path": "Digits", "args": 1}}}, "got args"),
        ({"data": {"x": {"class_path": "Digits", "each": {"held_out": [1]}}, "x-1": "Digits"}}, "two data sets have"),
        ({"models": {"a": {"class_path": "os.system"}}}, "model 'a': .*os.system"),
        ({"models": {"a": {"init_args": {}}}}, "neither a class_path nor members"),
        ({"models": {"a": {"class_path": "IsolationForest", "trainer": {"max_epochs": 1}}}}, "no detector and has no"),
        ({"models": {"a": {"class_path": "DenseAutoencoder", "trainer": 5}}}, "model 'a': trainer is a table"),
        ({"models": {"a": {"class_path": "DenseAutoencoder", "trainer": {"callbacks": []}}}}, "trainer takes .* got"),
        ({"trainer": {"max_epoch": 3}}, "trainer takes .* got max_epoch"),
        ({"trainer": 5}, "trainer takes .* got int"),
        ({"models": {"d": "DenseAutoencoder", "a": {"class_path": "ZScore", "features_of": ["d"]}}}, "not all are"),
        ({"models": {"a": {"class_path": "IsolationForest", "features_of": "b"}}}, "not all are models of this table"),
        ({"models": {"a": {"class_path": "IsolationForest", "features_of": "PCA"}}}, "no detector and has no features"),
        ({"models": {"a": {"class_path": "DenseAutoencoder", "features_of": "PCA"}}}, "is no baseline"),
        ({"models": {"a": {"members": ["a"]}}}, "made of each other"),
        ({"models": {"a": {"members": "PCA"}}}, "members is a list of models, got 'PCA'"),
        ({"models": {"a": {"members": []}}}, "members is a list of models"),
        ({"models": {"a": {"members": [["PCA"]]}}}, "members is a list of models"),
        ({"models": {"a": {"members": ["PCA", "b"]}}}, "not all are models of this table"),
        ({"models": {"a": {"members": ["PCA", "k-NN", "PCA"]}}}, "a model is a member once"),
        ({"models": {"a": {"members": ["PCA"], "weights": {"k-NN": 1}}}}, "weights has a number above 0 for each"),
        ({"models": {"a": {"members": ["PCA"], "weights": {"PCA": 0}}}}, "weights has a number above 0 for each"),
        ({"models": {"a": {"members": ["PCA"], "weights": [1]}}}, "weights has a number above 0 for each"),
        ({"models": {"a": {"members": ["PCA"], "transform": "zzz"}}}, "transform is one of loglik, vote, got 'zzz'"),
        ({"models": {"a": {"members": ["PCA"], "transform": "vote"}}}, "vote and its level go together"),
        ({"models": {"a": {"members": ["PCA"], "level": 0.9}}}, "vote and its level go together"),
        ({"models": {"a": {"members": ["PCA"], "transform": "vote", "level": 2}}}, "level must lie strictly between"),
        ({"models": {"a": {"members": ["PCA"], "class_path": "x"}}}, "got class_path"),
        ({"seeds": []}, "seeds must be a list"),
        ({"seeds": [0, 0]}, "seeds must differ"),
        ({"seeds": [-1]}, "whole numbers >= 0"),
        ({"seeds": [2**70]}, r"below 2\*\*32"),
        ({"calibration": {"level": 1}}, "calibration takes alpha"),
        ({"calibration": 5}, "calibration takes alpha"),
        ({"calibration": {"alpha": 5}}, "calibration: alpha must lie strictly between 0 and 1, got 5"),
        ({"calibration": {"alpha": "x"}}, "calibration: alpha must be a number"),
        ({"calibration": {"alpha": float("nan")}}, "finite numbers"),
        ({"calibration": {"kind": "nonsense"}}, "calibration: kind must be one of"),
        ({"calibration": {"kind": "pac"}}, "calibration: .* needs delta"),
        ({"calibration": {"kind": "marginal", "delta": 0.1}}, "belongs to kind='pac'"),
        ({"calibration": {"kind": "pac", "delta": 0.1}, "data": {"s": SERIES}}, "cannot be promised for the steps"),
        ({"calibration": {"rule": "foo"}, "data": {"s": SERIES}}, "calibration: rule must be one of"),
        ({"calibration": {"rule": "mean"}}, "the rule 'mean' is for the steps of a series"),
        ({"whole_series": True}, "true for series alone"),
        ({"whole_series": "yes"}, "whole_series is true or false"),
        ({"model": {}}, "got model"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_run_is_refused_with_the_entry_at_fault(changes, message):
    with pytest.raises(InputError, match=message):
        plan(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not the YAML"),
        ("a: 1\na: 2\n", "'a' is given twice"),
        ("!!python/name:os.system", "not the YAML"),
        (b"\xff", "not the YAML"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_of_plain_values_is_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_yaml(path)
    with pytest.raises(InputError, match="cannot read"):
        Plan.read(tmp_path / "nothing.yaml")


def test_a_number_with_an_exponent_is_a_number(tmp_path):
    (tmp_path / "c.yaml").write_text("a: [1e-3, -2E5, 1.5e2, x1e3, 1e]")
    assert read_yaml(tmp_path / "c.yaml") == {"a": [1e-3, -2e5, 150, "x1e3", "1e"]}
