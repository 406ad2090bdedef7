"""Models as they are kept: what describes one, its digest, and the way back."""

from typing import Any

from numpy.typing import NDArray

from deepad.baselines.base import Baseline
from deepad.channels import SeriesSchema
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector, plain_values
from deepad.rooms import members
from deepad.schema import TableSchema
from deepad.scoring.artifact import canonical_json, sha256
from deepad.scoring.blocks import Model

CONTRACTS = {"detectors": "Detector", "baselines": "Baseline"}
Schema = TableSchema | SeriesSchema


def model_id(model: Model) -> str:
    """SHA-256 over class, arguments, shape and state arrays."""
    arrays = {
        name: [array.dtype.str, list(array.shape), sha256(array.tobytes())]
        for name, array in model.state_arrays().items()
    }
    return sha256(canonical_json([describe(model), arrays]))


def describe(model: Model) -> dict[str, Any]:
    """Room, tag, arguments and shape of a model, as plain values."""
    room, arguments = ("detectors", dict(model.hparams)) if isinstance(model, Detector) else ("baselines", model.params)
    return {"room": room, "tag": type(model).__name__, "arguments": plain_values(arguments), "shape": list(model.shape)}


def rebuild(description: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Model:
    """The model a manifest describes: one of ours, by its tag."""
    if description.keys() != {"room", "tag", "arguments", "shape"}:
        raise ValueError("the model entry is malformed")
    tag, room = description["tag"], description["room"]
    known = members(room, CONTRACTS[room]) if room in CONTRACTS else {}
    if tag not in known:
        raise ValueError(f"no model called {str(tag)[:60]!r} in this version of deepad")
    model: Model = known[tag].from_state(description["arguments"], arrays)  # type: ignore[attr-defined]
    if isinstance(model, Baseline):
        model.shape = tuple(description["shape"])
    return model


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
