"""The scripts are examples: each runs, is short, and uses what users can use."""

import ast
import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from sklearn.metrics import roc_auc_score

from deepad.baselines import PCAResidual
from deepad.data.synthetic import generate
from deepad.evaluation.vus import vus

SCRIPTS = Path(__file__).parents[1] / "scripts"
LIMIT = 120


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_is_short_documented_and_uses_no_private_name(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LIMIT
    assert f"python scripts/{path.name}" in ast.get_docstring(ast.parse(text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deepad"):
            assert not any(alias.name.startswith("_") for alias in node.names)


def test_train_then_score(tmp_path, monkeypatch, capsys, digits):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "train.py", "--epochs", 5, "--output", tmp_path / "scorer")
    assert "promised:" in capsys.readouterr().out
    np.save(tmp_path / "x.npy", digits.splits.test.x[digits.splits.test.index].numpy())
    run(monkeypatch, "score.py", "--scorer", tmp_path / "scorer", "--input", tmp_path / "x.npy")
    assert "503 flagged" in capsys.readouterr().out.replace("of 503", "503")


def test_write_digits(tmp_path, monkeypatch, digits):
    run(monkeypatch, "write_digits.py", "--output", tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == len(digits.splits.test)


def test_mnist_held_out_and_the_benchmark(tmp_path, monkeypatch, capsys, deepad_data):
    monkeypatch.setenv("DEEPAD_DATA", str(deepad_data))
    run(
        monkeypatch, "mnist_held_out.py", "--digits", 1, "--seeds", 0, "--epochs", 1, "--output", tmp_path / "table.csv"
    )
    assert capsys.readouterr().out.count("\n") == 10
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 7
    config = SCRIPTS.parent / "configs" / "mnist-dense.yaml"
    run(monkeypatch, "benchmark_training.py", "--config", config, "--epochs", 1)
    assert "deepad / bare" in capsys.readouterr().out


def test_choose_score(tmp_path, monkeypatch, capsys, deepad_data):
    run(
        monkeypatch, "choose_score.py", "--root", deepad_data, "--only", "40_vowels", "--output", tmp_path / "table.csv"
    )
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 + 3
    assert all(0.5 < float(row.split(",")[-1]) <= 1 for row in rows[1:])


def test_many_recordings(tmp_path, monkeypatch, capsys):
    for seed in (0, 1):
        table = generate("sensors", rows=900, seed=seed).rename_columns(
            ["time", "temperature", "pressure", "vibration", "flow", "anomaly", "changepoint"]
        )
        pyarrow.parquet.write_table(table, tmp_path / f"{seed}.parquet")
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    run(monkeypatch, "many_recordings.py", "--config", SCRIPTS.parent / "configs" / "skab-dense.yaml", *paths)
    shown = capsys.readouterr().out
    assert "pooled over 2 recordings" in shown
    assert shown.count("parquet |") == 2


def test_percentile_recipe(monkeypatch, capsys):
    run(monkeypatch, "percentile_recipe.py", "--generators", "agents", "--seeds", 0)
    recipe, _, ours = (line.split("|") for line in capsys.readouterr().out.splitlines()[2:])
    assert float(ours[-2].split("%")[0]) > float(recipe[-2].split("%")[0])


def test_the_benchmarks_of_series(monkeypatch, capsys):
    run(monkeypatch, "benchmark_series.py", "--steps", 3000, "--epochs", 2, "--rounds", 1)
    assert "training:" in capsys.readouterr().out
    run(monkeypatch, "benchmark_memory.py", "--steps", 20_000)
    assert "x the series" in capsys.readouterr().out


def test_the_benchmark_of_pages(monkeypatch, capsys):
    run(monkeypatch, "benchmark_pages.py", "--rows", 2000)
    *_, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| 2000 | ")
    assert 100 < int(row.split("|")[4]) < 3000


def test_false_alarm_law(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "false_alarm_law.py", "--only", "breast_cancer", "--seeds", 0, "--output", tmp_path / "table.csv")
    assert "| breast_cancer | isolation forest | 0.01 |" in capsys.readouterr().out
    with open(tmp_path / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3
    assert {(row["n"], row["m"]) for row in rows} == {("119", "119")}
    assert all(float(row["p"]) > 1e-6 for row in rows)


def test_adbench_grid(tmp_path, monkeypatch, capsys, deepad_data):
    monkeypatch.setenv("DEEPAD_DATA", str(deepad_data))
    sets = ["45_wine", "40_vowels"]
    run(monkeypatch, "adbench_grid.py", "--only", *sets, "--seeds", 0, "--output", tmp_path / "table.csv")
    assert "40_vowels {'inside': 6}" in capsys.readouterr().out
    with open(tmp_path / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["40_vowels"] * 6 + ["45_wine"] * 6  # in the order of their numbers
    refused = [row for row in rows if row["outcome"] == "refused"]
    assert {(row["set"], row["alpha"], row["n"], row["needed"]) for row in refused} == {("45_wine", "0.01", "30", "99")}
    assert all(int(row["low"]) <= int(row["alarms"]) <= int(row["high"]) for row in rows if row not in refused)


def test_every_mutant_still_finds_the_line_it_breaks():
    mutants = runpy.run_path(str(SCRIPTS / "mutants.py"))
    for name, (_, _, old, new, files) in mutants["MUTANTS"].items():
        ast.parse(mutants["mutated"](name))
        assert old != new
        assert all((SCRIPTS.parent / "tests" / "scoring" / f"test_{file}.py").is_file() for file in files.split())


def test_the_figures_of_the_calibration_page(tmp_path, monkeypatch, capsys):
    docs = SCRIPTS.parent / "docs"
    for name in ("calibration_figures.py", "calibration_rules.py"):
        run(monkeypatch, name, "--output", tmp_path)
        for line in capsys.readouterr().out.splitlines():
            assert line in (docs / "calibration.md").read_text()
    run(monkeypatch, "calibration_series.py", "--output", tmp_path, "--draws", 100)
    assert "found stale at step 1" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (docs / "figures").iterdir()}


def test_drift_scenarios(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "drift_scenarios.py", "--seeds", 1, "--output", tmp_path / "table.csv")
    assert "slow drift by 3 spreads | standardised" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 7 * 6


def test_series_budget(tmp_path, monkeypatch, capsys, deepad_data):
    monkeypatch.setenv("DEEPAD_DATA", str(deepad_data))
    run(monkeypatch, "series_budget.py", "--only", "art_daily_small_noise", "--output", tmp_path / "table.csv")
    assert "raw, asked 0.25: 1 series" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 3 * 2


def test_the_benchmark_of_calibration(monkeypatch, capsys):
    run(monkeypatch, "benchmark_calibration.py", "--n", 40_000, "--rounds", 1)  # which compares parts with their twins
    assert capsys.readouterr().out.count("\n| ") == 15


def test_standardized_ranking(tmp_path, monkeypatch, capsys, deepad_data):
    monkeypatch.setenv("DEEPAD_DATA", str(deepad_data))
    run(
        monkeypatch,
        "standardized_ranking.py",
        "--only",
        "ec2_cpu_utilization_24ae8d",
        "--output",
        tmp_path / "table.csv",
    )
    assert "AUROC" in capsys.readouterr().out
    assert "ec2_cpu_utilization_24ae8d" in (tmp_path / "table.csv").read_text().splitlines()[1]


def test_the_floors_agree_with_published_values(monkeypatch, capsys, deepad_data):
    monkeypatch.setenv("DEEPAD_DATA", str(deepad_data))
    published = SCRIPTS.parent / "docs" / "results" / "adbench-published.csv"
    sets = ["40_vowels", "12_fault", "4_breastw"]  # the last one has too few rows, and is left out
    run(monkeypatch, "adbench_published.py", "--published", published, "--seeds", 0, "--only", *sets)
    shown = capsys.readouterr().out
    assert "breastw" not in shown
    assert "| 40_vowels | 82.21, 82.21 |" in shown
    assert "| 12_fault | 58.73, 58.73 | 55.87, 55.87 |" in shown
    assert "k-NN: largest difference 0.00 points" in shown
    assert "PCA of PyOD: largest difference " in shown
    script = runpy.run_path(str(SCRIPTS / "adbench_published.py"))  # the floor itself has a column of its own
    train, test, y = script["split"](deepad_data / "adbench" / "12_fault.npz", 0)
    floor = 100 * roc_auc_score(y, PCAResidual().fit(train).score(test))
    (line,) = (line for line in shown.splitlines() if line.startswith("| 12_fault "))
    assert line.split(" | ")[-1] == f"{floor:.2f} |"
    assert abs(floor - 55.87) > 1


def test_the_benchmark_of_metrics(monkeypatch, capsys):
    run(monkeypatch, "benchmark_metrics.py", "--steps", 12_000, "--rounds", 1)
    assert capsys.readouterr().out.count("\n| ") == 4


def test_the_plain_side_of_the_benchmark_has_the_areas_of_ours():
    plain_vus = runpy.run_path(str(SCRIPTS / "benchmark_metrics.py"))["plain_vus"]
    rng = np.random.default_rng(0)
    for events in (0.02, 0.2):  # far apart, and close enough for buffers to meet
        y = np.convolve(rng.random(200) < events, np.ones(3))[:200].astype(bool).astype(int)
        score = rng.normal(size=200) + y
        for buffer in (0, 5, 12):
            assert plain_vus(score, y, buffer, 20) == pytest.approx(vus(score, y, buffer, 20).roc, abs=1e-9)


@pytest.mark.parametrize(
    ("says", "line", "status"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "0 in 1 packages", 0),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', "1 unknown", 0),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}',
            "a 1: CVE-1, fixed in 2",
            1,
        ),
        ("no network", "not looked up", 0),
    ],
    ids=["none", "unknown", "one", "offline"],
)
def test_the_audit_tells_what_is_known_from_what_could_not_be_asked(says, line, status, tmp_path, monkeypatch, capsys):
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho '{says}'\n")
    tool.chmod(0o755)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "audit.py", tool, tmp_path)
    assert stop.value.code == status
    assert line in capsys.readouterr().out
