"""Models as they are kept: what describes one, its digest, and the way back."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from deepad.baselines.base import Baseline
from deepad.channels import SeriesSchema
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector, plain_values
from deepad.errors import CalibrationMismatchError
from deepad.rooms import members
from deepad.schema import TableSchema
from deepad.scoring.artifact import canonical_json, sha256
from deepad.scoring.blocks import Model
from deepad.scoring.composed import Composed, Ensemble, Hybrid

COMPOSED: dict[str, type[Composed]] = {"Ensemble": Ensemble, "Hybrid": Hybrid}
CONTRACTS = {"detectors": "Detector", "baselines": "Baseline"}
Schema = TableSchema | SeriesSchema


def model_id(model: Model) -> str:
    """SHA-256 over class, arguments, shape and state arrays."""
    return digest_of_model(describe(model), model.state_arrays())


def digest_of_model(description: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """The id of a model as a manifest describes it, which may have been another version's words."""
    held = {name: [array.dtype.str, list(array.shape), sha256(array.tobytes())] for name, array in arrays.items()}
    return sha256(canonical_json([description, held]))


def describe(model: Model) -> dict[str, Any]:
    """Room, tag, arguments and shape of a model, as plain values, and what its parts are if it is made of some."""
    if isinstance(model, Detector):
        room, arguments = "detectors", dict(model.hparams)
    else:
        room, arguments = "composed" if isinstance(model, Composed) else "baselines", model.params
    parts = {name: describe(part) for name, part in model.parts.items()} if isinstance(model, Composed) else {}
    known = {
        "room": room,
        "tag": type(model).__name__,
        "arguments": plain_values(arguments),
        "shape": list(model.shape),
    }
    return known | ({"parts": parts} if parts else {})


def known_models(room: str) -> Mapping[str, type]:
    """The classes that a manifest may name in a room, by tag."""
    return COMPOSED if room == "composed" else members(room, CONTRACTS[room]) if room in CONTRACTS else {}


def is_member(model: Model) -> bool:
    """Whether a model is of a class that a manifest may name, not one of a user's own."""
    known = describe(model)
    return known_models(known["room"]).get(known["tag"]) is type(model)


def rebuild(description: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Model:
    """The model a manifest describes: one of ours, by its tag."""
    room = description.get("room") if isinstance(description, dict) else None
    known = {"room", "tag", "arguments", "shape"} | ({"parts"} if room == "composed" else set())
    if room is None or description.keys() != known:
        raise ValueError("the model entry is malformed")
    tag = description["tag"]
    kind = known_models(room).get(tag)
    if kind is None:
        raise ValueError(f"no model called {str(tag)[:60]!r} in this version of deepad")
    arguments, shape = description["arguments"], description["shape"]
    model: Model
    if issubclass(kind, Composed):
        parts, rest = {}, dict(arrays)
        for name, part in description["parts"].items():
            own = {key: rest.pop(key) for key in arrays if key.startswith(f"{name}.")}
            parts[name] = rebuild(part, {key.removeprefix(f"{name}."): array for key, array in own.items()})
        model = kind.of_parts(parts, arguments, rest)
    elif issubclass(kind, Baseline):
        model = kind.from_state(arguments, arrays, shape)
    else:
        model = kind.from_state(arguments, arrays)  # type: ignore[attr-defined]
    if list(model.shape) != shape:
        raise ValueError("the model takes samples of another shape than the manifest says")
    return model


def in_float32(model: Model) -> bool:
    """Whether a score has the rounding noise of float32: that of a detector, or of what is made of one."""
    return isinstance(model, Detector) or (isinstance(model, Composed) and any(map(in_float32, model.parts.values())))


def schema_from_dict(document: Any) -> Schema | None:
    """The schema that a dictionary describes; None for None.

    Raises:
        ValueError: it describes none.
    """
    if document is None:
        return None
    kinds: dict[Any, type[Schema]] = {"table": TableSchema, "series": SeriesSchema}
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError("the inputs are neither a table nor a series")
    return kinds[kind].from_dict(document)


def require_fit(shape: tuple[int, ...], steps: StepRule | None, inputs: Schema | None) -> None:
    """Refuse steps or inputs that are not those of a model for samples of this shape."""
    if steps is not None and (len(shape) != 2 or shape[0] != steps.window_size):
        raise ValueError(
            f"steps of a series are scored from windows ({steps.window_size}, C), the model takes samples of shape "
            f"{shape}: leave the rule out"
        )
    if steps is not None and isinstance(inputs, TableSchema):
        raise ValueError("the rows of a table are no steps of a series: leave the rule out")
    if inputs is not None and inputs.size != shape[-1]:
        raise ValueError(f"the inputs have {inputs.size} values, the model takes samples of shape {shape}")


def require_pair(calibrated: str, model: str) -> None:
    """Refuse a model whose id is not that of the model that was calibrated.

    Raises:
        CalibrationMismatchError: it is another one.
    """
    if calibrated != model:
        raise CalibrationMismatchError(
            f"the calibration belongs to model {calibrated[:12] or 'unknown'}, this model is {model[:12]}: calibrate "
            "this model on held-out normal data"
        )
