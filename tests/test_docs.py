"""What docs/calibration.md shows works as written: each example prints what stands below it, and figures exist."""

import re
import shlex
from pathlib import Path

import pytest

from deepad.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "calibration.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^deepad [a-z]+ --.*$", PAGE, re.MULTILINE)


def title(code):
    return code.strip().splitlines()[0]


def said(code):
    """The comments of an example that stand alone in their lines: what it prints, or the error it ends with."""
    return " ".join(re.findall(r"^# (.*)$", code, re.MULTILINE)).split()


@pytest.mark.parametrize("code", PYTHON, ids=title)
def test_an_example_prints_what_stands_below_it(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "from pyod" in code:
        pytest.importorskip("pyod")
    names = {}
    if code is not PYTHON[0]:
        exec(compile(PYTHON[0], "the first example", "exec"), names)
        capsys.readouterr()
    try:
        exec(compile(code, title(code), "exec"), names)
    except ValueError as error:  # as all refusals are
        if f"# {type(error).__name__}" not in code:
            raise
        print(f"{type(error).__name__}: {error}")
    assert capsys.readouterr().out.split() == said(code)


def test_the_figures_exist_are_small_and_are_all_shown():
    shown = re.findall(r"!\[.+?\]\((figures/.+?)\)", PAGE)
    assert sorted(shown) == sorted(f"figures/{path.name}" for path in (DOCS / "figures").iterdir())
    for name in shown:
        data = (DOCS / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < 80_000


def test_what_the_page_links_to_exists():
    headings = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", PAGE, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert target[1:] in headings if target.startswith("#") else (DOCS / target).exists(), target
    for name in re.findall(r"^python (\S+)", PAGE, re.MULTILINE):
        assert (DOCS.parent / name).exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_have_the_options_that_are_shown(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 1  # there is no such checkpoint; wrong usage would be 2, by SystemExit
    assert re.search(r"best\.ckpt|scorer", capsys.readouterr().err)


def test_the_options_of_the_table_are_known(capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", "--help"])
    known = capsys.readouterr().out
    options = set(re.findall(r"--[a-z-]+", " ".join(line for line in PAGE.splitlines() if line.startswith("| "))))
    assert len(options) >= 9
    for option in options:
        assert option in known
