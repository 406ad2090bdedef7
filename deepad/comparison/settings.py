"""The other sections of a comparison's YAML, and the keys of an ensemble: plain values, checked one by one."""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any, get_args

import pytorch_lightning as pl

from deepad.data.windows import StepRule
from deepad.errors import InputError
from deepad.scoring.ensemble import Transform
from deepad.scoring.guarantee import check_level
from deepad.scoring.promise import check_delta

ENSEMBLE = {"members", "weights", "transform", "level"}
CALIBRATION = {"alpha", "kind", "delta", "rule"}
TRAINER = {"max_epochs": 50, "accelerator": "cpu", "devices": 1}
"""Arguments of the Trainer that are not given. On a CPU a cell has the same bits whatever runs beside it."""
OURS = {"callbacks", "default_root_dir", "enable_checkpointing"}
"""Arguments of the Trainer that a cell needs for itself: its best checkpoint is taken."""
TRAINER_ARGUMENTS = set(inspect.signature(pl.Trainer).parameters) - OURS


def table_of(given: Any, where: str, known: set[str]) -> dict[str, Any]:
    """What was given, if it is a table of known keys; `InputError` if not."""
    if not isinstance(given, dict) or not given.keys() <= known:
        odd = sorted(map(str, given.keys() - known)) if isinstance(given, dict) else [type(given).__name__]
        raise InputError(f"{where} takes {', '.join(sorted(known))}, got {', '.join(odd)}")
    return given


def trainer_of(given: Any, where: str) -> dict[str, Any]:
    """Arguments of the Trainer; `InputError` for those that it or a comparison does not take."""
    return table_of({} if given is None else given, where, TRAINER_ARGUMENTS)


def ensemble_of(where: str, given: Any) -> dict[str, Any]:
    """The entry of an ensemble; `InputError` for members, weights, a transform or a level that it cannot have."""
    spec = {key: value for key, value in table_of(given, where, ENSEMBLE).items() if value is not None}
    parts, weights, level = spec.get("members"), spec.get("weights"), spec.get("level")
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise InputError(f"{where}: members is a list of models, got {parts!r}")
    if len(set(parts)) < len(parts):
        raise InputError(f"{where}: a model is a member once, got {parts!r}")
    if weights is not None and not (
        isinstance(weights, dict)
        and weights.keys() == set(parts)
        and all(type(weight) in (int, float) and 0 < weight < inf for weight in weights.values())
    ):
        raise InputError(f"{where}: weights has a number above 0 for each of {parts}, got {weights!r}")
    if spec.get("transform", "loglik") not in get_args(Transform):
        raise InputError(f"{where}: transform is one of {', '.join(get_args(Transform))}, got {spec['transform']!r}")
    if (spec.get("transform") == "vote") != (level is not None):
        raise InputError(f"{where}: transform: vote and its level go together, got level {level!r}")
    if level is not None:
        with _refused(where):
            check_level("level", level)
    return spec


def seeds_of(given: Any) -> tuple[int, ...]:
    """Different seeds that every library takes; `InputError` if they are not."""
    whole = isinstance(given, list) and all(type(seed) is int and 0 <= seed < 2**32 for seed in given)
    if not whole or not given:
        raise InputError(f"seeds must be a list of whole numbers >= 0 and below 2**32, got {given!r}")
    if len(set(given)) < len(given):
        raise InputError(f"seeds must differ, got {given}")
    return tuple(given)


def calibration_of(given: Any, series: Mapping[str, bool]) -> dict[str, Any]:
    """How alarms are decided.

    Args:
        given: as in the file.
        series: by data set whether it is a series.

    Raises:
        InputError: a level, kind or rule that is none, or that these data cannot have.
    """
    given = table_of({} if given is None else given, "calibration", CALIBRATION)
    found = {"alpha": 0.05, **{key: value for key, value in given.items() if value is not None}}
    kind, delta, rule = (found.get(key) for key in ("kind", "delta", "rule"))
    with _refused("calibration"):
        check_level("alpha", found["alpha"])
        check_delta(("marginal" if delta is None else "pac") if kind is None else kind, delta)
        if rule is not None:
            StepRule(1, rule)
    if any(series.values()) and (delta is not None or kind not in (None, "none")):
        raise InputError(f"calibration: kind {kind or 'pac'!r} cannot be promised for the steps of a series, which "
                         "depend on each other: leave it out (the level is nominal then)")  # fmt: skip
    if rule is not None and not any(series.values()):
        raise InputError(f"calibration: the rule {rule!r} is for the steps of a series, there is none: leave it out")
    return found


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """What a checker refuses is an entry at fault."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def require_plain(document: Any) -> None:
    """Refuse what cannot be kept as JSON: dates, numbers that are not finite, keys of several types."""
    try:
        json.dumps(document, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"a comparison has plain values, quoted dates and finite numbers: {error}") from None
