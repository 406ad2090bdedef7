"""A saved scorer is checked without building its model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.cli import main
from deepad.errors import ArtifactCorruptError, ArtifactError, CalibrationMismatchError
from deepad.scoring.artifact import canonical_json, sealed
from deepad.scoring.eventrule import EventRule
from deepad.scoring.manifest import check_scorer, write_scorer

KEPT = sorted(path.parent / "scorer" for path in Path(__file__).parents[1].glob("artifacts/*/verdict.json"))


@pytest.fixture(name="kept")
def _kept(tmp_path):
    rng = np.random.default_rng(0)
    scorer = Scorer.calibrate(PCAResidual(2).fit(rng.normal(size=(100, 4))), rng.normal(size=(60, 4)), alpha=0.1)
    scorer.save(tmp_path / "scorer")
    return tmp_path / "scorer"


def change(folder, **entries):
    """Alter entries of the manifest and seal it again, as someone would who means harm."""
    path = folder / "scorer.json"
    document = json.loads(path.read_text())
    for name, entry in entries.items():
        document[name] = {**(document[name] or {}), **entry} if isinstance(entry, dict) else entry
    path.write_bytes(canonical_json(sealed(document)))


@pytest.mark.filterwarnings("ignore:all 60 calibration scores equal 0")  # of ConstantScore
@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.parent.name)
def test_a_scorer_of_any_version_is_told_as_it_is_loaded(folder):
    told, scorer = check_scorer(folder), Scorer.load(folder)
    assert told["n"] == scorer.calibration.n
    assert told["model"]["tag"] == type(scorer.model).__name__
    assert told["files"] == {path.name: path.stat().st_size for path in folder.iterdir()}


def test_every_altered_byte_is_found(kept):
    for path in sorted(kept.iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            changed = bytearray(whole)
            changed[place] ^= 0x04
            path.write_bytes(changed)
            with pytest.raises(ArtifactError):
                check_scorer(kept)
        path.write_bytes(whole)
    check_scorer(kept)


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ({"calibration": {"scorer_id": "0" * 64}}, CalibrationMismatchError),
        ({"id": "0" * 64}, ArtifactCorruptError),
        ({"model": {"tag": "Nope"}}, ArtifactCorruptError),
        ({"model": {"arguments": {"n_components": 3, "scaling": "standard"}}}, ArtifactCorruptError),
        ({"calibration": {"n": 59}}, ArtifactCorruptError),
        ({"decision": {"alpha": 1e-9}}, ArtifactCorruptError),
        ({"steps": {"window_size": 7, "rule": "last", "stride": 1}}, ArtifactCorruptError),
        ({"inputs": {"kind": "nonsense"}}, ArtifactCorruptError),
    ],
    ids=str,
)
def test_parts_that_do_not_belong_together_are_refused_as_loading_would(kept, entries, error):
    change(kept, **entries)
    for read in (check_scorer, Scorer.load):
        with pytest.raises(error):
            read(kept)


@pytest.fixture(scope="module", name="of_events")
def _of_events(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("events"), np.random.default_rng(0)
    model = PCAResidual(2).fit(rng.normal(size=(200, 4, 2)))
    events = EventRule(persistence=(2, 3), block=20, slot=5)
    Scorer.calibrate(model, rng.normal(size=(600, 2)), steps="last", events=events, alpha=1.0).save(folder)
    return folder


@pytest.mark.parametrize(
    "entries",
    [
        {"groups": "shop"},
        {"events": None},
        {"events": {"slot": None}},
        {"calibration": {"unit": "block of 7 steps"}},
        {"steps": None},
        {"decision": {"kind": "marginal"}},
    ],
    ids=str,
)
def test_entries_that_contradict_each_other_are_refused_as_loading_would(of_events, tmp_path, entries):
    shutil.copytree(of_events, tmp_path / "scorer")
    check_scorer(tmp_path / "scorer")
    change(tmp_path / "scorer", **entries)
    for read in (check_scorer, Scorer.load):
        with pytest.raises(ArtifactCorruptError):
            read(tmp_path / "scorer")


@pytest.mark.parametrize(
    "reference", [np.zeros((5, 3)), np.zeros(4), np.full((5, 4), np.nan), np.zeros((5, 4), np.int64)], ids=str
)
def test_a_reference_of_other_samples_is_refused_as_loading_would(kept, reference):
    scorer = Scorer.load(kept)
    description = scorer.describe()
    write_scorer(kept, description, scorer.model, scorer.calibration, reference)
    for read in (check_scorer, Scorer.load):
        with pytest.raises(ArtifactCorruptError):
            read(kept)


def test_the_model_is_not_built(kept):
    """Arguments that its class would refuse are no matter of a check that does not build it."""
    from deepad.scoring.artifact import read_artifact
    from deepad.scoring.models import digest_of_model

    document = json.loads((kept / "scorer.json").read_text())
    document["model"]["arguments"] = {"nonsense": 1}
    keys = frozenset(document) - {"format", "schema", "payloads", "sha256"}
    groups = frozenset(document["payloads"])
    _, arrays = read_artifact(kept, "scorer.json", format="deepad.scorer", keys=keys, groups=groups)
    name = digest_of_model(document["model"], arrays["model"])
    change(kept, model=document["model"], id=name, calibration={"scorer_id": name})
    assert check_scorer(kept)["model"]["arguments"]["nonsense"] == 1
    with pytest.raises(ArtifactCorruptError, match="does not describe a scorer"):
        Scorer.load(kept)


def test_the_command_says_so_with_its_exit_status(kept, capsys):
    assert main(["info", "--verify", str(kept)]) == 0
    assert "is whole: 4 files" in capsys.readouterr().out
    assert main(["info", "--verify", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 60
    next(kept.glob("model-*")).unlink()
    assert main(["info", "--verify", str(kept)]) == 1
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert "is missing" in error


def test_names_of_a_file_cannot_steer_the_terminal(kept, tmp_path, capsys):
    shutil.copytree(kept, tmp_path / "odd")
    change(tmp_path / "odd", deepad="\x1b[2J9.9")
    for extra in ([], ["--verify"]):
        assert main(["info", *extra, str(tmp_path / "odd")]) == 0
        assert "\x1b" not in capsys.readouterr().out
