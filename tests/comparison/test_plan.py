"""A plan says before anything runs what is wrong with it, and names its cells by all they depend on."""

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


def test_a_cell_is_named_by_all_that_it_depends_on_and_nothing_else():
    def digests(**changes):
        return {cell.name: cell.digest for cell in plan(models=MODELS, seeds=[0, 1], **changes).cells()}

    before = digests()
    assert len(set(before.values())) == len(before) == 2 * (len(FLOORS) + 3)
    assert digests() == before
    wider = {**MODELS, "dense": {**MODELS["dense"], "init_args": {"latent_dim": 3}}}
    after = {cell.name: cell.digest for cell in plan(models=wider, seeds=[0, 1]).cells()}
    changed = {name.split("/")[1] for name in before if before[name] != after[name]}
    assert changed == {"dense", "dense + k-NN", "both"}
    assert not set(digests(calibration={"alpha": 0.1}).values()) & set(before.values())
    more = {
        cell.name: cell.digest for cell in plan(models={**MODELS, "forest": "IsolationForest"}, seeds=[0, 1, 2]).cells()
    }
    assert {name: more[name] for name in before} == before


def test_the_part_of_a_cell_makes_the_same_cell_again():
    found = plan(models=MODELS, seeds=[3], calibration={"alpha": 0.1})
    for cell in found.cells():
        again = {one.name: one for one in Plan.of(found.part(cell.data, cell.model, cell.seed)).cells()}
        assert again[cell.name].digest == cell.digest
        assert again[cell.name].needs == cell.needs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, "data must be a table"),
        ({"data": {"a/b": "Digits"}}, "the name 'a/b' must be letters"),
        ({"data": {"x": {"init_args": {}}}}, "names no class_path"),
        ({"data": {"x": {"class_path": "Digits", "each": {}}}}, "each is a table"),
        ({"data": {"x": {"class_path": "Digits", "each": {"held_out": 3}}}}, "a list of values, or a pattern"),
        ({"data": {"x": {"class_path": "Digits", "each": {"held_out": [3, 3]}}}}, "two values of each are called"),
        ({"data": {"x": {"class_path": "Digit"}}}, "data 'x': .*Digit"),
        ({"data": {"x": {"class_path": "Digits", "init_args": {"held_up": 3}}}}, "data 'x': .*'held_up' is not"),
        ({"data": {"x": {"class_path": "Digits", "init_args": {"batch_size": "many"}}}}, "data 'x': .*batch_size"),
        ({"data": {"x": "Digits", "x-1": "Digits", "y": {"class_path": "Digits", "args": 1}}}, "got args"),
        ({"models": {"a": {"class_path": "os.system"}}}, "model 'a': .*os.system"),
        ({"models": {"a": {"init_args": {}}}}, "neither a class_path nor members"),
        ({"models": {"a": {"class_path": "IsolationForest", "trainer": {}}}}, "no detector and has no trainer"),
        ({"models": {"a": {"class_path": "IsolationForest", "features_of": "b"}}}, "not all are models of this table"),
        ({"models": {"a": {"class_path": "IsolationForest", "features_of": "PCA"}}}, "no detector and has no features"),
        ({"models": {"a": {"class_path": "DenseAutoencoder", "features_of": "PCA"}}}, "is no baseline"),
        ({"models": {"a": {"members": ["a"]}}}, "made of each other"),
        ({"models": {"a": {"members": "PCA"}}}, "not all are models"),
        ({"models": {"a": {"members": ["PCA"], "class_path": "x"}}}, "got class_path"),
        ({"seeds": []}, "seeds must be a list"),
        ({"seeds": [0, 0]}, "seeds must differ"),
        ({"seeds": [-1]}, "whole numbers >= 0"),
        ({"calibration": {"level": 1}}, "calibration takes alpha"),
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
