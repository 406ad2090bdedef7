"""What cells say together, on cells whose numbers are given."""

import numpy as np
import pytest

from deepad.comparison.engine import cell_path
from deepad.comparison.plan import Plan
from deepad.comparison.summary import summarize
from deepad.comparison.table import as_markdown, as_rows
from deepad.errors import InputError

SERIES = {"class_path": "Series", "init_args": {"generator": "sensors", "window_size": 8}}


def planned(sets=3, seeds=(0, 1), **models):
    each = {"class_path": "Digits", "each": {"held_out": list(range(sets))}}
    models = models or {"dense": "DenseAutoencoder", "z": "ZScore"}
    return Plan.of({"data": {"d": each}, "models": models, "seeds": list(seeds)})


def kept(plan, fails=lambda cell: False, at=None):
    """The cells of a plan, which of them fail, and what happened at the threshold of the others."""
    at = at or (lambda cell: {"n_normal": 100, "false_alarms": 5, "n_anomalies": 10, "hits": 5, "f1": 0.5})
    found = []
    for cell in plan.cells():
        names = {"cell": cell.name, "data": cell.data, "model": cell.model, "seed": cell.seed, "kind": cell.kind}
        ranking = {"auroc": 0.5, "average_precision": 0.5}
        splits = {
            part: {"digest": f"{cell.data}{cell.seed}{part}", "n": 9}
            for part in ("train", "val", "calibration", "test")
        }
        threshold = {"inside_law_99": True, **at(cell)} if at(cell) else None
        result = {
            "error": None,
            "metrics": {"ranking": ranking, "at_threshold": threshold},
            "versions": {},
            "splits": splits,
        }
        found.append({**names, **({"error": "no luck"} if fails(cell) else result)})
    return found


def rows_of(plan, cells, folder=None):
    return {row["model"]: row for row in summarize(plan, cells, folder).rows}


@pytest.mark.parametrize("floor", ["PCA", "k-NN"])
def test_a_floor_that_fails_leaves_a_table_without_it(floor):
    plan = planned()
    cells = kept(plan, lambda cell: cell.model == floor and cell.data != "d-0")
    for cell in cells:
        if not cell["error"]:
            cell["metrics"]["ranking"]["auroc"] = 0.8 if cell["model"] == "dense" else 0.6
    rows = rows_of(plan, cells)
    assert rows["dense"]["auroc"] == pytest.approx(0.8)
    assert rows[floor]["rank"] is None
    assert rows["dense"][f"{floor}_won"] == 1  # where it has a value
    gone = kept(plan, fails=lambda cell: cell.model == floor)
    rows = rows_of(plan, gone)
    assert rows["dense"][f"{floor}_won"] == rows["dense"][f"{floor}_lost"] == 0
    assert rows["dense"][f"{floor}_difference"] is None
    assert rows["dense"]["below_PCA"] is (None if floor == "PCA" else True)


def test_no_model_gains_at_the_threshold_by_failing():
    plan = planned()

    def hard(cell):
        alarms, hits = (50, 0) if cell.data == "d-2" else (5, 10)
        return {"n_normal": 100, "false_alarms": alarms, "n_anomalies": 10, "hits": hits, "f1": hits / 10}

    whole = rows_of(plan, kept(plan, at=hard))
    assert whole["dense"]["false_alarm_rate"] == pytest.approx(0.2)
    rows = rows_of(plan, kept(plan, fails=lambda cell: (cell.model, cell.data) == ("dense", "d-2"), at=hard))
    for name in ("dense", "z"):  # both on the data sets where both have a value
        assert rows[name]["false_alarm_rate"] == pytest.approx(0.05)
        assert rows[name]["recall"] == rows[name]["f1"] == 1
        assert rows[name]["promised"] == 4
    scarce = {("dense", "d-0"), ("dense", "d-1"), ("z", "d-2")}
    one_each = kept(plan, fails=lambda cell: (cell.model, cell.data) in scarce, at=hard)
    rows = rows_of(plan, one_each)
    assert rows["z"]["false_alarm_rate"] == pytest.approx(0.05)
    assert rows["dense"]["rank"] is None  # a model with one of three data sets is left out ..
    assert rows["dense"]["false_alarm_rate"] == pytest.approx(0.5)  # .. and shown on that one


def test_f1_is_a_mean_over_data_sets_and_the_rates_are_of_all_rows():
    plan = planned(sets=2)

    def at(cell):
        if cell.data == "d-0":
            return {"n_normal": 900, "false_alarms": 0, "n_anomalies": 1, "hits": 1, "f1": 1.0}
        few = {"n_normal": 100, "false_alarms": 10, "n_anomalies": 99, "hits": 9, "f1": [0.1, 0.3][cell.seed]}
        return {**few, "inside_law_99": [False, None][cell.seed]}

    row = rows_of(plan, kept(plan, at=at))["z"]
    assert row["f1"] == pytest.approx((1 + (0.1 + 0.3) / 2) / 2)
    assert row["false_alarm_rate"] == pytest.approx(10 / 1000)
    assert row["recall"] == pytest.approx(10 / 100)
    assert (row["inside_law_99"], row["promised"]) == (2, 3)


def test_a_refused_level_is_counted_wherever_it_was():
    plan = planned()
    found = kept(plan, fails=lambda cell: (cell.model, cell.data) == ("z", "d-2"), at=lambda cell: None)
    assert rows_of(plan, found)["dense"]["refused"] == 6
    assert rows_of(plan, found)["z"]["refused"] == 4


def test_cells_of_other_rows_are_not_compared():
    plan = planned()
    for change in ({"digest": "other"}, {"n": 8}, {"n_anomalies": 1}):
        cells = kept(plan)
        cells[3]["splits"]["calibration"] |= change
        with pytest.raises(InputError, match="d-0/random/0 and d-0/k-NN/0 had other rows, the data have changed"):
            summarize(plan, cells)


def scored(folder, cell, score, y):
    path = cell_path(folder, cell.data, cell.model, cell.seed).with_suffix(".npz")
    path.parent.mkdir(parents=True)
    np.savez(path, score=score, y=y)


def test_models_that_test_rows_tell_apart_are_counted(tmp_path):
    plan = planned(sets=4, seeds=(3,))
    y = np.repeat([0, 1], 60)
    noise = np.random.default_rng(0).normal(size=120)
    shift = {"d-0": 5, "d-1": 5, "d-2": 0, "d-3": -5}  # the dense one is better on two, the same on one, worse on one
    for cell in plan.cells():
        good = shift[cell.data] if cell.model == "dense" else 0
        scored(tmp_path, cell, noise + good * y, y)
    cells = kept(plan)
    row = rows_of(plan, cells, tmp_path)["dense"]
    assert (row["PCA_auroc_above"], row["PCA_auroc_below"]) == (2, 1)
    assert (row["k-NN_auroc_above"], row["k-NN_auroc_below"]) == (2, 1)
    assert rows_of(plan, cells, tmp_path)["z"]["PCA_auroc_above"] is None  # which learns nothing
    lost = kept(plan, fails=lambda cell: cell.name in ("d-0/dense/3", "d-1/PCA/3"))
    row = rows_of(plan, lost, tmp_path)["dense"]  # scores that a failed cell left behind count for nothing
    assert (row["PCA_auroc_above"], row["PCA_auroc_below"]) == (0, 1)
    assert (row["k-NN_auroc_above"], row["k-NN_auroc_below"]) == (1, 1)


def test_steps_of_a_series_tell_nothing_apart(tmp_path):
    plan = Plan.of({"data": {"d": SERIES}, "models": {"dense": "DenseAutoencoder"}})
    for cell in plan.cells():
        scored(tmp_path, cell, np.arange(40.0) if cell.model == "dense" else np.zeros(40), np.repeat([0, 1], 20))
    row = rows_of(plan, kept(plan), tmp_path)["dense"]
    assert row["PCA_auroc_above"] is row["PCA_auroc_below"] is None


def test_the_table_of_one_data_set_has_no_column_without_a_number():
    one = summarize(planned(sets=1, seeds=(0,)), kept(planned(sets=1, seeds=(0,))))
    head, rows = as_rows(one)
    assert "rank" not in head
    assert "± seeds" not in head
    assert {"auroc", "PCA w/t/l", "F1"} <= set(head)
    assert all(len(row) == len(head) for row in rows)
    assert "Of one data set; won" in as_markdown(one, "t")
    many = planned()
    assert {"rank", "± seeds"} <= set(as_rows(summarize(many, kept(many)))[0])
    assert "Means over 3 data sets" in as_markdown(summarize(many, kept(many)), "t")
