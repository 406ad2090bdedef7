"""What the pages of docs show works as written: each example prints what stands below it, and figures exist."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from deepad.cli import main
from deepad.comparison.plan import Plan
from deepad.evaluation import nab
from deepad.evaluation.metrics import evaluate
from deepad.evaluation.series_metrics import evaluate_series
from deepad.report import figures
from deepad.rooms import members
from deepad.scoring.conformal import Calibration
from deepad.scoring.judging import judge

DOCS = Path(__file__).parents[1] / "docs"
PAGE, COMPARING, PAGES = ((DOCS / f"{name}.md").read_text() for name in ("calibration", "comparing", "pages"))
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^deepad [a-z]+ --.*$", PAGE, re.MULTILINE)


SCORES = Calibration.fit(range(99))
VERDICT = judge(SCORES, (SCORES.threshold(0.1),), np.arange(40.0) * 3)
RECORDING = [np.arange(40.0)], [np.arange(40) > 30], [(np.arange(40) > 35).astype(int)]
FOUND = [evaluate(VERDICT, np.arange(40) > 35), evaluate_series(*RECORDING, seconds=1)]
METRICS = {key for found in FOUND for part in ("ranking", "at_threshold") for key in found[part]}


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


def test_the_example_of_models_made_of_models_prints_what_stands_below_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", COMPARING, re.DOTALL)
    exec(compile(code, "comparing.md", "exec"), {})
    assert capsys.readouterr().out.split()[-1:] == said(code)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGES, re.DOTALL), ids=["explain", "figure"])
def test_the_examples_of_pages_print_what_stands_below_them(code, capsys):
    exec(compile(code, "pages.md", "exec"), {})
    assert capsys.readouterr().out.split() == said(code)


def test_the_page_on_pages_names_all_figures():
    named = set(re.findall(r"`(\w+)`", PAGES.split("## 3")[1]))
    drawn = {name for name in figures.__all__ if callable(getattr(figures, name))} - {"as_svg", "canvas"}
    assert drawn <= named


def test_the_plan_of_the_page_can_be_read(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", COMPARING, re.DOTALL)
    (tmp_path / "digits.yaml").write_text(text)
    plan = Plan.read(tmp_path / "digits.yaml")
    assert len(plan.cells()) == 3 * 3 * (4 + 4)


def test_the_table_of_baselines_names_all_and_says_what_splits():
    known = members("baselines", "Baseline")
    rows = re.findall(r"^\| (`.*?)\|.*?\|(.*?)\|", COMPARING, re.MULTILINE)
    named = {}
    for names, splits in rows:
        classes = re.findall(r"`(\w+)`", names)
        said = [word.strip() == "yes" for word in splits.split(",")]
        if set(classes) <= known.keys():
            named |= dict(zip(classes, said if len(said) == len(classes) else said * len(classes), strict=True))
    assert named == {name: kind.explains.fget(kind()) for name, kind in known.items()}


def test_the_numbers_of_series_are_those_that_are_given():
    for name in re.findall(r"`([a-z]+_[a-z_]+)`", COMPARING.split("## 4")[1].split("F1 with adjusted")[0]):
        assert name in METRICS or hasattr(nab, name) or any(key.startswith(name.rstrip("*")) for key in METRICS), name


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
