"""The scripts are examples: each runs, is short, and uses what users can use."""

import ast
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
LIMIT = 90


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
