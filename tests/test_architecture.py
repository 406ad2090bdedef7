"""The import table of the package, read from the code."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from deepad.rooms import members

PACKAGE = Path(__file__).parents[1] / "deepad"
LEAVES = {
    "atomic",
    "channels",
    "clock",
    "errors",
    "fingerprint",
    "frames",
    "loaders",
    "nn",
    "quiet",
    "rooms",
    "schema",
    "versions",
}

# what each place may import from deepad, beside the leaves; a room may always import itself
ALLOWED = {
    "__init__": {
        "baselines.base",
        "data.base",
        "detectors.base",
        "scoring.conformal",
        "scoring.scorer",
        "scoring.verdict",
    },  # types only
    "__main__": {"cli"},
    "nn": set(),
    "data": set(),
    "detectors": set(),
    "baselines": {"data.windows"},
    "scoring": {"baselines.base", "data.windows", "detectors.base"},
    "evaluation": {"scoring.events", "scoring.verdict"},
    "report": {"scoring.counts", "scoring.explaining", "scoring.guarantee", "scoring.verdict"},
    "sklearn": {"data.base", "scoring.conformal", "scoring.promise", "scoring.scorer"},
}
ON_TOP = {"cli", "comparison", "exhibits", "fit", "looking", "protocol", "reading", "run", "tally", "verbs"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deepad":
            inner = (node.module or "").removeprefix("deepad").removeprefix(".")
            for alias in node.names:
                submodule = PACKAGE / inner.replace(".", "/") / f"{alias.name}.py"
                yield f"{inner}.{alias.name}".lstrip(".") if submodule.exists() else inner
        elif isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix("deepad").lstrip(".") for a in node.names if a.name.split(".")[0] == "deepad"
            )


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_rooms_import_only_what_the_table_allows(module, path):
    room = module.split(".")[0]
    if room in ON_TOP:
        return
    for target in imported(path):
        own = target.split(".")[0] == room
        leaf = target in LEAVES or target == ""
        assert own or leaf or target in ALLOWED.get(room, set()), f"deepad.{module} imports deepad.{target}"


def test_leaves_import_only_leaves():
    for module, path in modules():
        if module in LEAVES:
            assert set(imported(path)) <= {"clock", "errors", "fingerprint", "frames"}, module


def test_members_import_no_sibling_but_their_contract_and_files_that_hold_no_member():
    for room, contract in {"data": "DataModule", "detectors": "Detector", "baselines": "Baseline"}.items():
        hold_members = {found.__module__ for found in members(room, contract).values()}
        for path in (PACKAGE / room).glob("*.py"):
            siblings = {f"deepad.{target}" for target in imported(path) if target.split(".")[0] == room}
            assert not siblings & hold_members, path


def test_synthetic_data_need_nothing_of_the_rest():
    for module, path in modules():
        if module.startswith("data.synthetic"):
            own = {target for target in imported(path) if target.startswith("data.synthetic")}
            assert set(imported(path)) - own <= {"errors"}, module


@pytest.mark.parametrize(
    "statement",
    [
        "import deepad",
        "import deepad.cli",
        "from deepad.scoring import conformal",
        "from deepad.data.synthetic import generate",
    ],
)
def test_light_imports_bring_no_torch(statement):
    code = f"{statement}; import sys; sys.exit('torch' in sys.modules or 'pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_nothing_in_the_package_can_unpickle():
    forbidden = (
        "import pickle",
        "import joblib",
        "import dill",
        "weights_only=False",
        "allow_pickle=True",
        "full_load",
        "eval(",
    )
    for module, path in modules():
        text = path.read_text().replace(".eval()", "")
        assert not [word for word in forbidden if word in text], module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), module


def test_every_module_says_what_it_is():
    for module, path in modules():
        assert ast.get_docstring(ast.parse(path.read_text())), module


def test_modules_stay_readable():
    for module, path in modules():
        assert len(path.read_text().splitlines()) <= 340, f"{module} has grown too long to read in one go"


@pytest.mark.parametrize("room", ["data", "detectors", "baselines"])
def test_a_room_lists_its_members_and_names_them_when_one_is_missing(room):
    package = importlib.import_module(f"deepad.{room}")
    assert dir(package)
    for name in dir(package):
        assert getattr(package, name).__module__.startswith(f"deepad.{room}.")
    with pytest.raises(AttributeError, match=dir(package)[0]):
        _ = package.Nonsense
