"""What is kept of one cell: nothing that its level or its data do not allow, and its own costs."""

import sys

import numpy as np
import pytest

from deepad.baselines.base import Baseline
from deepad.comparison.cell import Bench
from deepad.comparison.engine import measured
from deepad.comparison.plan import Plan
from deepad.data import Digits
from deepad.protocol import samples


def bench(data, models, **more):
    plan = Plan.of({"data": {"d": data}, "models": models, **more})
    return Bench(plan, "d", 0), {cell.model: cell for cell in plan.cells()}


def test_a_level_that_is_refused_decides_nothing_of_a_series():
    data = {
        "class_path": "Series",
        "init_args": {"generator": "sensors", "generator_args": {"rows": 900}, "window_size": 8},
    }
    table, cells = bench(data, {"z": "ZScore"}, calibration={"alpha": 1e-4})
    found, _ = table.measure(cells["z"])
    assert "needs at least 9999" in found["metrics"]["refused"]
    assert found["guarantee"] is None
    assert found["metrics"]["at_threshold"] is None
    assert found["metrics"]["series"]["at_threshold"] is None
    assert found["metrics"]["series"]["ranking"]["vus_pr"] > 0
    assert not any(name.endswith("_95") for name in found["metrics"]["ranking"])


class Broken(Digits):
    """Cannot be read, and counts how often that was tried."""

    tries = 0

    def load(self):
        type(self).tries += 1
        raise RuntimeError("a broken file")


class Failing(Baseline):
    """Cannot be fitted, and counts how often that was tried."""

    fitted = {}
    tries = 0

    def __init__(self):
        pass

    def _fit(self, x):
        type(self).tries += 1
        raise RuntimeError("no luck")

    def _score(self, x):
        return x[:, 0]


HERE = __name__


def test_data_that_cannot_be_read_are_not_read_again():
    table, cells = bench(f"{HERE}.Broken", {"z": "ZScore"})
    errors = {measured(table, cell)[0]["error"] for cell in cells.values()}
    assert Broken.tries == 1
    assert len(errors) == 1
    assert errors.pop().startswith("RuntimeError: a broken file (test_cell.py, line ")


def test_a_model_that_cannot_be_fitted_is_not_tried_again():
    models = {"failing": f"{HERE}.Failing", "a": {"members": ["failing", "PCA"]}, "b": {"members": ["failing", "k-NN"]}}
    table, cells = bench("Digits", models)
    errors = {measured(table, cells[name])[0]["error"] for name in models}
    assert Failing.tries == 1
    assert len(errors) == 1
    assert measured(table, cells["PCA"])[0]["error"] is None


class Hungry(Baseline):
    """Needs 300 MiB to be fitted."""

    fitted = {}

    def __init__(self):
        pass

    def _fit(self, x):
        np.ones((300, 2**17)).sum()

    def _score(self, x):
        return x.reshape(len(x), -1)[:, 20]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory was used at most")
def test_memory_is_that_of_a_model_and_its_parts_and_not_of_the_process():
    models = {"hungry": f"{HERE}.Hungry", "both": {"members": ["hungry", "PCA"]}}
    table, cells = bench("Digits", models)
    found = {name: table.measure(cells[name])[0]["cost"] for name in ("hungry", "both", "random")}
    assert 290 < found["hungry"]["added_memory_mib"] < 400
    assert found["both"]["added_memory_mib"] == found["hungry"]["added_memory_mib"]
    assert found["random"]["added_memory_mib"] < 50
    assert found["both"]["fit_seconds"] >= found["hungry"]["fit_seconds"] > 0


def test_some_samples_of_a_split_are_different_rows_in_their_order(digits):
    rows = digits.splits.train
    whole = samples(rows)
    assert len(samples(rows, most=len(rows))) == len(rows) == len(whole)
    some = samples(rows, most=50, seed=3)
    places = [int(np.flatnonzero((whole == row).all((1, 2, 3)))[0]) for row in some]
    assert len(places) == 50
    assert places == sorted(set(places))
    assert (samples(rows, most=50, seed=3) == some).all()
    assert (samples(rows, most=50, seed=4) != some).any()
