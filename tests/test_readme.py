"""What the README shows works as written."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[0])
def test_the_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_the_main_example_is_short():
    lines = [line for line in PYTHON[0].splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10


def test_the_commands_exist(capsys):
    from deepad.cli import main

    for verb in re.findall(r"^deepad (\w+)", README, re.MULTILINE):
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
        assert "usage" in capsys.readouterr().out


def test_the_make_targets_exist():
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_nothing_is_left_to_fill_in():
    for path in [ROOT / "README.md", *(ROOT / "configs").glob("*.yaml"), *(ROOT / "docs").rglob("*.md")]:
        assert "PENDING" not in path.read_text(), path
