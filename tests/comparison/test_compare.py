"""A comparison ends in one table, goes on after a kill, and can be verified cell by cell."""

import csv
import fcntl
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from deepad.cli import main
from deepad.comparison import engine
from deepad.comparison.engine import after_death, cell_path, measured, read_cell, read_cells, read_scores
from deepad.comparison.plan import Plan
from deepad.comparison.summary import summarize
from deepad.errors import InputError

DATA = {"digits": {"class_path": "Digits", "each": {"held_out": [9, 1]}}}
CLASSICAL = {"forest": {"class_path": "IsolationForest", "init_args": {"n_estimators": 20}}, "z": "ZScore"}
DEEP = {
    "dense": {
        "class_path": "DenseAutoencoder",
        "init_args": {"hidden_dims": [16], "latent_dim": 4},
        "trainer": {"max_epochs": 2},
    },
    "dense + k-NN": {"class_path": "KNearestNeighbors", "features_of": "dense"},
    "both": {"members": ["dense", "forest"], "weights": {"dense": 1, "forest": 2}},
    "failing": "Persistence",
}
FILES = ("leaderboard.csv", "leaderboard.md", "sets.csv", "cells.csv")


def write(path, **document):
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture(scope="module", name="done")
def _done(tmp_path_factory):
    """The folder and plan of a comparison, and how it ended."""
    folder = tmp_path_factory.mktemp("comparison")
    config = write(folder / "small.yaml", data=DATA, models={**CLASSICAL, **DEEP}, seeds=[0, 1])
    status = main(["compare", "--config", config, "--output", str(folder / "out"), "--jobs", "2"])
    return folder / "out", Plan.read(config), status, config


def test_every_cell_is_kept_with_all_that_tells_where_it_came_from(done):
    folder, plan, _, _ = done
    cells = {cell["cell"]: cell for cell in read_cells(plan, folder)}
    assert set(cells) == {cell.name for cell in plan.cells()}
    good = cells["digits-9/dense + k-NN/1"]
    assert good["splits"]["train"]["digest"] != cells["digits-9/dense + k-NN/0"]["splits"]["train"]["digest"]
    assert good["plan"]["seeds"] == [1]
    assert good["versions"].keys() >= {"python", "torch", "deepad"}
    assert Plan.read(folder / "plan.json") == plan
    assert 0 < good["metrics"]["ranking"]["auroc_95"][0] < good["metrics"]["ranking"]["auroc"] < 1
    assert good["cost"]["fit_seconds"] > 0
    scores = read_scores(cell_path(folder, "digits-9", "dense + k-NN", 1))
    assert len(scores["score"]) == len(scores["y"]) == good["metrics"]["n"]


def test_a_failed_cell_is_a_row_with_its_error_and_the_exit_status_says_so(done, capsys):
    folder, plan, status, config = done
    assert status == 1
    with open(folder / "cells.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(plan.cells())
    failed = [row for row in rows if row["error"]]
    assert {row["model"] for row in failed} == {"failing"}
    assert "Persistence takes windows (T, C)" in failed[0]["error"]
    assert main(["compare", "--config", config, "--output", str(folder), "--jobs", "1"]) == 1
    assert "4 of 40 cells failed, such as digits-9/failing/0: " in capsys.readouterr().err


def test_the_table_says_who_is_best_beside_the_floors(done):
    folder, plan, _, _ = done
    found = summarize(plan, read_cells(plan, folder), folder)
    rows = {row["model"]: row for row in found.rows}
    aurocs = [row["auroc"] for row in found.rows if row["auroc"] is not None]
    assert aurocs == sorted(aurocs, reverse=True)
    assert rows["failing"]["auroc"] is None
    assert rows["failing"]["rank"] is None
    assert len(found.failed) == 4
    cells = {cell["cell"]: cell for cell in read_cells(plan, folder)}
    expected = [
        cells[f"digits-{digit}/dense/{seed}"]["metrics"]["ranking"]["auroc"] for digit in (9, 1) for seed in (0, 1)
    ]
    assert rows["dense"]["auroc"] == pytest.approx(np.mean(expected))
    by_seed = np.reshape(expected, (2, 2)).mean(0)
    assert rows["dense"]["auroc_sd"] == pytest.approx(by_seed.std(ddof=1))
    assert rows["k-NN"]["k-NN_tied"] == 2
    assert rows["k-NN"]["k-NN_difference"] == 0
    assert 0.4 < rows["random"]["auroc"] < 0.6
    at = [cells[f"digits-{digit}/z/{seed}"]["metrics"]["at_threshold"] for digit in (9, 1) for seed in (0, 1)]
    assert rows["z"]["false_alarm_rate"] == pytest.approx(
        sum(one["false_alarms"] for one in at) / sum(one["n_normal"] for one in at)
    )
    assert rows["z"]["inside_law_99"] == sum(one["inside_law_99"] for one in at)
    assert rows["z"]["promised"] == len(at)
    f1 = np.reshape([one["f1"] for one in at], (2, 2)).mean(1)
    assert rows["z"]["f1"] == pytest.approx(f1.mean())
    text = (folder / "leaderboard.md").read_text()
    for row in found.rows:
        assert row["model"] in text
        assert not row["below_PCA"] or f"{row['model']} (below PCA)" in text
    page = (folder / "report.html").read_text()
    assert "critical difference" in page.lower() or "Mean ranks" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")  # a name, no address


def test_a_deep_model_below_the_principal_components_is_marked(done):
    _, plan, _, _ = done
    cells = read_cells(plan, done[0])
    for cell in cells:
        if not cell["error"]:
            cell["metrics"]["ranking"]["auroc"] = {"PCA": 0.8, "dense": 0.79, "both": 0.81}.get(cell["model"], 0.5)
    rows = {row["model"]: row for row in summarize(plan, cells).rows}
    assert rows["dense"]["below_PCA"]
    assert not rows["both"]["below_PCA"]
    assert not rows["forest"]["below_PCA"]  # which is no model that learns a representation


@pytest.mark.parametrize("name", ["digits-9/dense/1", "digits-1/both/0", "digits-1/random/0"])
def test_a_cell_that_is_run_again_gives_the_same_bits(done, capsys, name):
    folder = done[0]
    assert main(["compare", "--verify", str(folder / "cells" / f"{name}.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"]


def test_the_command_of_a_cell_runs_it_again(done):
    kept = read_cell(cell_path(done[0], "digits-9", "dense + k-NN", 1))
    program, *arguments = shlex.split(kept["command"])
    assert program == "deepad"
    assert main(arguments) == 0


def test_a_cell_that_was_altered_is_told(done, tmp_path, capsys):
    kept = read_cell(done[0] / "cells" / "digits-9" / "PCA" / "0.json")
    kept["metrics"]["ranking"]["auroc"] += 1e-9
    (tmp_path / "0.json").write_text(json.dumps(kept))
    assert main(["compare", "--verify", str(tmp_path / "0.json")]) == 1
    assert "digits-9/PCA/0 gave something else: metrics.ranking.auroc" in capsys.readouterr().err
    kept["plan"]["calibration"]["alpha"] = 0.2
    (tmp_path / "0.json").write_text(json.dumps(kept))
    assert main(["compare", "--verify", str(tmp_path / "0.json")]) == 1
    assert "holds digits-9/PCA/0 of another plan" in capsys.readouterr().err
    kept["plan"]["models"] = {"PCA": {"class_path": "evil_module.Thing"}}
    (tmp_path / "0.json").write_text(json.dumps(kept))
    assert main(["compare", "--verify", str(tmp_path / "0.json")]) == 1
    assert "'evil_module.Thing' is not one of our classes" in capsys.readouterr().err
    assert main(["compare", "--verify", str(tmp_path / "1.json")]) == 1
    assert "no cell at" in capsys.readouterr().err
    assert main(["compare", "--verify", str(done[0] / "cells" / "digits-9" / "failing" / "0.json")]) == 1
    assert "a cell that failed" in capsys.readouterr().err


def test_a_folder_never_mixes_cells_of_two_plans(done, tmp_path, capsys):
    other = write(tmp_path / "other.yaml", data=DATA, models=CLASSICAL, seeds=[0], calibration={"alpha": 0.2})
    before = (done[0] / "leaderboard.csv").read_text()
    assert main(["compare", "--config", other, "--output", str(done[0])]) == 1
    assert "of another plan: give another --output" in capsys.readouterr().err
    assert (done[0] / "leaderboard.csv").read_text() == before


def test_too_few_rows_for_a_promise_are_ranked_without_flags(tmp_path):
    config = write(tmp_path / "few.yaml", data={"digits": "Digits"}, models=CLASSICAL, calibration={"alpha": 0.001})
    assert main(["compare", "--config", config, "--output", str(tmp_path / "out"), "--jobs", "1"]) == 0
    plan = Plan.read(config)
    for cell in read_cells(plan, tmp_path / "out"):
        assert cell["metrics"]["at_threshold"] is None
        assert "alpha=0.001 (marginal) needs at least 999" in cell["metrics"]["refused"]
        assert cell["metrics"]["ranking"]["auroc"] > 0.4
    assert "6 cells have too few calibration rows" in (tmp_path / "out" / "leaderboard.md").read_text()


def start(config, output):
    return subprocess.Popen(
        [sys.executable, "-m", "deepad", "compare", "--config", config, "--output", str(output), "--jobs", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process):
    """Exit status and what was said on standard error."""
    _, error = process.communicate()
    return process.returncode, error.decode()


def kept(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/*.json")}


def test_after_a_kill_no_cell_is_lost_or_run_twice_and_the_table_is_that_of_an_uninterrupted_run(tmp_path):
    models = {**CLASSICAL, "dense": DEEP["dense"]}
    config = write(tmp_path / "c.yaml", data=DATA, models=models, seeds=[0, 1, 2])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["compare", "--config", config, "--output", str(whole)]) == 0
    process = start(config, broken)
    while len(kept(broken)) < 15 and process.poll() is None:  # of 42 cells
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    ended(process)
    time.sleep(0.5)  # the processes of its cells end with it
    seen = kept(broken)
    time.sleep(0.5)
    assert kept(broken) == seen  # nobody works on in secret
    assert 15 <= len(seen) < 42
    assert main(["compare", "--config", config, "--output", str(broken)]) == 0
    final = kept(broken)
    assert len(final) == 42
    assert {path: final[path] for path in seen} == seen  # what was done was not run again
    assert not list(broken.rglob(".writing-*"))
    for name in FILES:
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    for path in whole.glob("cells/*/*/*.npz"):
        with np.load(path) as left, np.load(broken / path.relative_to(whole)) as right:
            assert left["score"].tobytes() == right["score"].tobytes()


def test_two_comparisons_do_not_write_into_one_folder(done, capsys):
    folder, _, _, config = done
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as a comparison that is under way
        assert main(["compare", "--config", config, "--output", str(folder)]) == 1
    finally:
        os.close(handle)
    assert "another comparison is writing into" in capsys.readouterr().err


def heedless(pipe):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.send("started")
    time.sleep(60)


def test_processes_that_do_not_listen_are_waited_for_together(monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.5)
    context = multiprocessing.get_context("fork")
    heard, told = context.Pipe(duplex=False)
    processes = [context.Process(target=heedless, args=(told,)) for _ in range(4)]
    for process in processes:
        process.start()
        heard.recv()
    started = time.monotonic()
    engine.end(processes)
    assert 0.5 <= time.monotonic() - started < 1.5
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 4


def test_a_process_of_cells_that_is_asked_to_end_again_cleans_up_undisturbed():
    asked = engine._unwinding()
    with pytest.raises(SystemExit) as ended:
        asked(signal.SIGTERM, None)
    assert ended.value.code == 143
    assert asked(signal.SIGTERM, None) is None


class Giving:
    """A bench whose cell ends in what is given."""

    def __init__(self, outcome):
        self.outcome = outcome

    def measure(self, cell):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome, {"score": np.zeros(1)}


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (ValueError("no\n  luck"), "ValueError: no luck (test_compare.py, line "),
        (InputError("no\n  file"), "no file"),
        ({"metrics": {"auroc": float("nan")}}, "ValueError: Out of range float values"),
        ({"metrics": {1j}}, "TypeError: Object of type set is not JSON"),
    ],
)
def test_what_a_model_raises_or_gives_beyond_json_is_the_result_of_its_cell(outcome, error):
    (cell, *_) = Plan.of({"data": {"d": "Digits"}, "models": {"z": "ZScore"}}).cells()
    found, scores = measured(Giving(outcome), cell)
    assert found["error"].startswith(error)
    assert scores == {}


def test_a_death_takes_no_result_away_and_leaves_no_scores_of_a_failed_cell(done, tmp_path):
    shutil.copytree(done[0] / "cells" / "digits-9", tmp_path / "cells" / "digits-9")
    unit = [
        cell for cell in done[1].cells() if (cell.data, cell.seed, cell.model != "failing") == ("digits-9", 0, True)
    ]
    paths = [cell_path(tmp_path, cell.data, cell.model, cell.seed) for cell in unit]
    before = paths[2].read_bytes()
    for path in paths[3:]:
        path.unlink()
    left = after_death(tmp_path, unit, {cell.name for cell in unit[:2]}, -9)  # it had kept the third, and not said so
    assert paths[2].read_bytes() == before
    assert read_scores(paths[2]) is not None
    assert read_cell(paths[3])["error"] == "the process was ended by SIGKILL (out of memory?)"
    assert read_scores(paths[3]) is None
    assert left == unit[4:]
    assert after_death(tmp_path, unit[:3], set(), 0) == []


FRAGILE = '''
from pathlib import Path
from deepad.baselines.base import Baseline
HERE = Path(__file__).parent
class Fragile(Baseline):
    """Cannot be fitted before a file is there, and counts how often that was tried."""
    fitted = {}
    def __init__(self): pass
    def _fit(self, x):
        with open(HERE / "tries", "a") as file:
            file.write("x")
        if not (HERE / "mended").exists():
            raise RuntimeError("no | luck")
    def _score(self, x): return x.reshape(len(x), -1)[:, 20]
'''


def test_what_failed_is_run_again_on_request_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "fragile_model.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    models = {"fragile": "fragile_model.Fragile", "both": {"members": ["fragile", "PCA"]}}
    config = write(tmp_path / "c.yaml", data={"digits": "Digits"}, models=models)
    command = ["compare", "--config", config, "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(command) == 1
    assert (tmp_path / "tries").read_text() == "x"  # the ensemble takes the error of its member
    assert "RuntimeError: no \\| luck (fragile_model.py, line 13)" in (tmp_path / "out" / "leaderboard.md").read_text()
    (tmp_path / "mended").touch()
    before = kept(tmp_path / "out")
    assert main(command) == 1
    assert kept(tmp_path / "out") == before
    assert main([*command, "--retry"]) == 0
    after = kept(tmp_path / "out")
    assert {path.parent.name for path in before if after[path] != before[path]} == {"fragile", "both"}
    assert (tmp_path / "tries").read_text() == "xx"
    own = ["compare", "--verify", str(cell_path(tmp_path / "out", "digits", "both", 0))]
    capsys.readouterr()
    assert main(own) == 1
    assert "'fragile_model.Fragile' is not one of our classes, and a kept file imports" in capsys.readouterr().err
    assert main([*own, "--config", config]) == 0


def test_of_cells_that_all_failed_there_is_a_table_of_cells(tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    config = write(
        tmp_path / "c.yaml", data={"t": {"class_path": "Table", "init_args": {"path": "no.csv"}}}, models=CLASSICAL
    )
    assert main(["compare", "--config", config, "--output", str(tmp_path / "out")]) == 1
    assert "none of the 6 cells has a result: t/random/0" in capsys.readouterr().err
    with open(tmp_path / "out" / "cells.csv") as file:
        assert all("no.csv" in row["error"] for row in csv.DictReader(file))


HUNGRY = '''
import os, signal
from deepad.baselines.base import Baseline
class Hungry(Baseline):
    """Ends its process when it is fitted."""
    fitted = ()
    def __init__(self): pass
    def _fit(self, x): os.kill(os.getpid(), signal.SIGKILL)
    def _score(self, x): return x[:, 0]
'''


def test_a_cell_whose_process_dies_is_a_row_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "hungry_model.py").write_text(HUNGRY)
    monkeypatch.syspath_prepend(str(tmp_path))
    models = {"hungry": "hungry_model.Hungry", "z": "ZScore"}
    config = write(tmp_path / "c.yaml", data={"digits": "Digits"}, models=models)
    assert main(["compare", "--config", config, "--output", str(tmp_path / "out"), "--jobs", "1"]) == 1
    assert "1 of 6 cells failed, such as digits/hungry/0: the process was ended by SIGKILL" in capsys.readouterr().err
    cells = {cell["model"]: cell for cell in read_cells(Plan.read(config), tmp_path / "out")}
    assert cells["z"]["error"] is None
    assert cells["z"]["metrics"]["n"] == 503


def test_series_are_compared_by_their_events_too(tmp_path):
    data = {
        "class_path": "Series",
        "init_args": {"generator": "sensors", "generator_args": {"rows": 1500, "rate": 0.05}, "window_size": 8},
    }
    config = write(
        tmp_path / "c.yaml", data={"sensors": data}, models={"drift": "ControlChart", "gauss": "MultivariateGaussian"},
        calibration={"alpha": 0.05, "rule": "mean"}, whole_series=True,
    )  # fmt: skip
    assert main(["compare", "--config", config, "--output", str(tmp_path / "out"), "--jobs", "1"]) == 0
    plan = Plan.read(config)
    for cell in read_cells(plan, tmp_path / "out"):
        assert cell["error"] is None
        series = cell["metrics"]["series"]
        assert 0 <= series["ranking"]["vus_pr"] <= 1
        assert series["n_events"] > 0
        assert 0 < cell["metrics"]["whole_series"]["vus_roc"] <= 1
        assert cell["metrics"]["at_threshold"]["law_99"] is None  # steps are promised nothing
        assert "auroc_95" not in cell["metrics"]["ranking"]  # which depend on each other
    found = summarize(plan, read_cells(plan, tmp_path / "out"), tmp_path / "out")
    assert found.metric == "whole_series.vus_pr"
    assert all(row["vus_pr"] is not None for row in found.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --config FILE of a comparison, or --verify CELL"),
        (["--config", "nothing.yaml"], "cannot read nothing.yaml"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(arguments, message, capsys):
    assert main(["compare", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
