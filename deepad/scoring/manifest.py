"""How a Scorer is kept: which entries its manifest has, and the way back from a file that others may have written."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import deepad
from deepad.data.windows import StepRule
from deepad.errors import ArtifactCorruptError, CalibrationMismatchError, InputError, visible
from deepad.scoring.artifact import read_artifact, write_artifact
from deepad.scoring.blocks import Model
from deepad.scoring.budget import Budget
from deepad.scoring.calibrating import require_one_way, require_sound
from deepad.scoring.conformal import Calibration
from deepad.scoring.decision import Decision
from deepad.scoring.eventrule import EventRule
from deepad.scoring.groups import OTHER, AnyCalibration, GroupedCalibration
from deepad.scoring.models import (
    digest_of_model,
    is_member,
    known_models,
    model_id,
    rebuild,
    require_pair,
    schema_from_dict,
)

MANIFEST = "scorer.json"
FORMAT = "deepad.scorer"
_KEYS = frozenset(
    {"calibration", "created_utc", "data", "decision", "deepad", "events", "groups", "id", "inputs", "model", "steps"}
)
_ADDED = {2: {"inputs": None, "steps": None}, 3: {"events": None, "groups": None}}
_HELD = {"n", "tie_rtol", "scorer_id"}
_OPTIONAL = frozenset({"reference"})
"""Groups of arrays that a scorer may have."""


def write_scorer(
    folder: str | Path,
    description: dict[str, Any],
    model: Model,
    calibration: AnyCalibration,
    reference: NDArray[Any] | None,
) -> None:
    """Save what a scorer is, atomically; what was there before is replaced.

    Raises:
        InputError: the folder cannot be written, or the model is of a class that `read_scorer` would not find.
    """
    if not is_member(model):
        room, tag = description["model"]["room"], description["model"]["tag"]
        raise InputError(
            f"{tag} is not one of deepad's {room}, so what is saved could not be loaded: "
            f"add it to deepad/{room} as one file"
        )
    document = {
        "format": FORMAT,
        "deepad": deepad.__version__,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        **description,
    }
    parts = {"": calibration} if isinstance(calibration, Calibration) else calibration.parts
    scores = np.concatenate([parts[name].scores for name in sorted(parts)])  # as JSON sorts their names
    arrays = {"model": model.state_arrays(), "calibration": {"scores": scores}}
    if reference is not None:
        arrays["reference"] = {"samples": reference}
    write_artifact(folder, MANIFEST, document, arrays, optional=_OPTIONAL)


def read_scorer(folder: str | Path) -> dict[str, Any]:
    """The fields of a saved scorer. Nothing is unpickled and nothing is imported by a name from the file.

    Raises:
        ArtifactError: missing, altered, cut short, from a newer schema, or not a deepad artifact.
        CalibrationMismatchError: model and calibration do not belong together.
    """
    document, arrays = _read(folder)
    with describing(folder):
        fields = _all_but_the_model(document, arrays)
        model = rebuild(_migrated(document["model"], document["schema"]), arrays["model"])
        # this version may describe the model in other words
        return {**fields, "model": model, "calibration": _calibration(document, arrays, model_id(model))}


def check_scorer(folder: str | Path) -> dict[str, Any]:
    """Check a saved scorer without building its model: that it is whole, and that its parts belong together.

    Returns:
        What it says of itself, as plain values: `id`, `model`, `schema`, `deepad`, `created_utc`, `n` calibration
        scores, and `files` with their sizes in bytes.

    Raises:
        ArtifactError, CalibrationMismatchError: as `read_scorer`, but that arrays fit the class of the model.
    """
    document, arrays = _read(folder)
    with describing(folder):
        fields = _all_but_the_model(document, arrays)
        calibration = _calibration(document, arrays, document["id"])
        require_pair(calibration.scorer_id, document["id"])
        decision = fields.pop("decision")
        fields.pop("provenance")
        require_sound(tuple(document["model"]["shape"]), calibration, decision, **fields)
        tag = document["model"]["tag"]
        if known_models(document["model"]["room"]).get(tag) is None:
            raise ValueError(f"no model called {str(tag)[:60]!r} in this version of deepad")
    told = {name: document[name] for name in ("id", "model", "schema", "deepad", "created_utc")}
    files = {entry["file"]: entry["bytes"] for entry in document["payloads"].values()}
    return {**told, "n": calibration.n, "files": {MANIFEST: (Path(folder) / MANIFEST).stat().st_size, **files}}


def _read(folder: str | Path) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]]:
    """Manifest and arrays, whose model is the one that the manifest names."""
    groups = frozenset({"model", "calibration"})
    document, arrays = read_artifact(
        folder, MANIFEST, format=FORMAT, keys=_KEYS, added=_ADDED, groups=groups, optional=_OPTIONAL
    )
    with describing(folder):
        if document["id"] != digest_of_model(document["model"], arrays["model"]):
            raise ValueError("the model is not the one the manifest names")
    return document, arrays


def _all_but_the_model(document: dict[str, Any], arrays: dict[str, dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """The fields of a scorer but for the model and its calibration."""
    name, events = document["groups"], document["events"]
    if name is not None and not isinstance(name, str):
        raise ValueError("groups are named by text")
    return {
        "decision": Decision.from_dict(document["decision"]),
        "provenance": _provenance(document["data"]),
        "steps": None if document["steps"] is None else StepRule(**document["steps"]),
        "inputs": schema_from_dict(document["inputs"]),
        "events": None if events is None else EventRule.from_dict(events),
        "groups": name,
        "reference": arrays["reference"]["samples"] if "reference" in arrays else None,
    }


def _migrated(model: dict[str, Any], schema: int) -> dict[str, Any]:
    """The model entry as this version would write it."""
    if schema < 4 and model.get("room") == "baselines":  # which took raw units and had no choice
        return {**model, "arguments": {"scaling": "none", **model["arguments"]}}
    return model


class describing:  # a context manager, which reads as a verb
    """Whatever fails in the entries of a manifest means that it does not describe a scorer."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        failures = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)
        if isinstance(error, failures) and not isinstance(error, CalibrationMismatchError):
            reason = visible(str(error)[:160])  # it may quote the file
            raise ArtifactCorruptError(f"{self.folder} does not describe a scorer: {reason}") from None


def _provenance(data: Any) -> dict[str, Any] | None:
    """Where the data came from: free but for what was asked, which is read again."""
    if data is None:
        return None
    if not isinstance(data, dict):
        raise ValueError("where the data came from is no table")
    if (asked := data.get("asked")) is not None:
        if asked.keys() != {"budget", "volume"}:
            raise ValueError("unknown keys of what was asked")
        if asked["budget"] is not None:
            Budget.parse(asked["budget"])
        require_one_way(None, None, asked["budget"], asked["volume"], None, None)
    return data


def _calibration(document: dict[str, Any], arrays: dict[str, dict[str, NDArray[Any]]], model: str) -> AnyCalibration:
    """The calibration, of a model that goes by this id if it is the one that was calibrated."""
    held, scores = document["calibration"], arrays["calibration"]["scores"]
    if scores.dtype != np.float64 or type(held["n"]) is not int or scores.shape != (held["n"],):
        raise ValueError("calibration scores of another size or type")
    if not isinstance(held["scorer_id"], str) or not held["scorer_id"].isalnum():
        raise ValueError("the calibration does not name its model")
    calibrated = model if held["scorer_id"] == document["id"] else held["scorer_id"]
    shared = {"tie_rtol": held["tie_rtol"], "scorer_id": calibrated}
    if held.keys() == _HELD | {"groups", "merged"}:
        sizes, merged = dict(sorted(held["groups"].items())), held["merged"]
        if not isinstance(merged, list) or not all(
            isinstance(name, str) and name not in sizes.keys() - {OTHER} for name in merged
        ):
            raise ValueError("merged groups are named by text, and are in no other group")
        if not sizes or any(type(n) is not int or n < 1 for n in sizes.values()) or sum(sizes.values()) != len(scores):
            raise ValueError("groups of other sizes")
        ends = np.cumsum(list(sizes.values()))[:-1]
        parts = {name: _sorted(part, shared) for name, part in zip(sizes, np.split(scores, ends), strict=True)}
        return GroupedCalibration(parts, tuple(merged))
    if held.keys() == _HELD | {"slots", "unit"}:
        shared |= {"slots": held["slots"], "unit": str(held["unit"])}
    elif held.keys() != _HELD:
        raise ValueError("unknown keys")
    return _sorted(scores, shared)


def _sorted(scores: NDArray[Any], shared: dict[str, Any]) -> Calibration:
    if (scores[1:] < scores[:-1]).any():
        raise ValueError("calibration scores are not sorted")
    return Calibration.fit(scores, **shared)
