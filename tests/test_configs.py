"""Every config builds a run, and its model survives a batch of its data."""

import itertools
import os
from pathlib import Path

import pytest
import torch

from deepad.comparison.plan import Plan
from deepad.fit import FitCLI

EVERY = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
COMPARISONS = [path for path in EVERY if path.stem.startswith("compare-")]
CONFIGS = [path for path in EVERY if path not in COMPARISONS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds_and_its_model_survives_a_batch(path, tmp_path):
    if "\n    path:" in path.read_text() and not os.environ.get("DEEPAD_DATA"):
        pytest.skip("DEEPAD_DATA is not set: the files of this config are not here")
    cli = FitCLI(["--config", str(path), "--run", str(tmp_path / "run")])
    x = torch.randint(0, 17, (8, *cli.datamodule.shape), dtype=torch.uint8)
    cli.model.scaling.fit([x])
    cli.model.loss(x).backward()
    assert all(weight.grad is not None for weight in cli.model.parameters())
    assert cli.model.eval().score(x).shape == (8,)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_a_comparison_can_be_planned(path):
    if not os.environ.get("DEEPAD_DATA") and "path:" in path.read_text():
        pytest.skip("DEEPAD_DATA is not set: the files of this comparison are not here")
    plan = Plan.read(path)
    assert {plan.kind(model) for model in plan.models} >= {"floor", "classical", "deep"}
    assert len(plan.seeds) >= 3


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_a_config_says_what_it_is_for_and_what_it_gave(path):
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    header = "\n".join(lines)
    for word in ("# Purpose", "# Command", "# Time", "# Result"):
        assert word in header
    assert f"configs/{path.name}" in header
