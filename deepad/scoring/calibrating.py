"""From the scores of held-out normal data to a calibration, and the refusal of promises that nothing supports."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.channels import SeriesSchema
from deepad.clock import UNITS
from deepad.data.windows import StepRule
from deepad.errors import InputError
from deepad.fingerprint import Fingerprints, digest_of
from deepad.scoring.budget import Budget
from deepad.scoring.conformal import Calibration, Scores
from deepad.scoring.decision import Decision
from deepad.scoring.eventrule import EventRule
from deepad.scoring.events import calibrate_blocks
from deepad.scoring.explaining import require_reference
from deepad.scoring.grouping import Grouping
from deepad.scoring.groups import AnyCalibration, GroupedCalibration
from deepad.scoring.models import Schema, require_fit

DEPENDENT = "steps of a series depend on each other"
OVERLAPPING = "windows of a series depend on each other"
MOST = 1e15
"""Samples of a day, that a volume may have."""


def require_one_way(
    tiers: Any,
    rule: str | None,
    budget: str | None,
    volume: str | None,
    groups: Any,
    min_group: Any,
    contamination: Any = None,
) -> None:
    """Refuse arguments of a calibration that exclude each other, or that have no meaning or would be left without."""
    if contamination is not None:
        raise InputError(
            f"contamination={contamination!r} says how common anomalies are, which decides no rate of false alarms: "
            "give alpha, the share of normal samples that may be flagged (threshold_rule='contamination:0.05' is the "
            "quantile of calibration scores that other libraries take, with the range of false alarms it brings)"
        )
    given = [f"{name}={value!r}" for name, value in (("tiers", tiers), ("threshold_rule", rule)) if value is not None]
    if budget is not None and given:
        raise ValueError(f"budget={budget!r} and {given[0]} both say when to raise an alarm: give one of them")
    if volume is not None:
        daily = Budget.parse(volume, name="volume").per(UNITS["day"])
        if daily > MOST:
            raise ValueError(
                f"volume={volume!r} are {daily:.3g} samples a day, more than can be meant: at most {MOST:.0e}"
            )
    if min_group is None:
        return
    if type(min_group) is not int or min_group < 1:
        raise ValueError(f"min_group must be a whole number of samples of at least 1, got {min_group!r}")
    if groups is None:
        raise ValueError(f"min_group={min_group} merges small groups, and there are no groups: leave it out")


def spend(
    budget: str, volume: str | None, events: EventRule | None, steps: StepRule | None, inputs: Schema | None
) -> tuple[EventRule | None, float]:
    """The blocks in which a budget is kept, and the level that keeps to it."""
    asked = Budget.parse(budget)
    if steps is None:
        return events, asked.alpha(None if volume is None else Budget.parse(volume, name="volume"))
    interval = inputs.interval if isinstance(inputs, SeriesSchema) else None
    if interval is None:
        raise ValueError(f"the budget {budget!r} is one of time, this series has no timestamps: give blocks and alpha")
    events = replace(events or EventRule(), interval=interval)
    if events.block is None:
        events = replace(events, block=max(1, round(UNITS["day"] / interval)))
    return events, asked.per((events.block or 1) * interval)


def calibrated(
    parts: list[Scores],
    events: EventRule | None,
    grouping: Grouping | None,
    min_group: int | None,
    stepwise: bool,
    shared: dict[str, Any],
) -> AnyCalibration:
    """The calibration of the scores of samples, or of the steps of stretches, where NaN was not scored."""
    if events is not None and events.blocks is not None:
        return calibrate_blocks(parts, events.blocks, unit=events.unit, **shared)
    scores = np.concatenate(parts)
    counted = ~np.isnan(scores) if stepwise else np.ones(len(scores), bool)  # of a sample NaN is refused
    if grouping is None:
        return Calibration.fit(scores[counted], **shared)
    if len(grouping.labels) != len(scores):
        raise InputError(f"got {len(grouping.labels)} groups for {len(scores)} samples: give one a sample")
    return GroupedCalibration.fit(scores[counted], grouping.labels[counted], min_group=min_group, **shared)


def require_sound(
    shape: tuple[int, ...],
    calibration: AnyCalibration,
    decision: Decision,
    *,
    steps: StepRule | None,
    inputs: Schema | None,
    events: EventRule | None,
    groups: str | None,
    reference: NDArray[Any] | None,
) -> None:
    """Refuse parts of a scorer that do not go together, or a promise that they cannot make, before it is used.

    Args:
        shape: of the samples that the model takes.
        calibration, decision, steps, inputs, events, groups, reference: of the scorer.

    Raises:
        InsufficientCalibrationError: the level cannot be guaranteed.
        ValueError: anything else.
    """
    require_fit(shape, steps, inputs)
    if (groups is None) != isinstance(calibration, Calibration):
        raise ValueError("a calibration by groups and the name of its groups go together")
    if events is not None and steps is None:
        raise ValueError("events are of the steps of a series: give the rule that scores them")
    if reference is not None:
        require_reference(reference, shape)
    require_blocks(calibration, events, steps)
    require_promise(decision, steps, inputs, events, asked_none=decision.kind == "none")
    decision.thresholds(calibration)


def require_promise(
    decision: Decision,
    steps: StepRule | None,
    inputs: Schema | None,
    events: EventRule | None,
    *,
    asked_none: bool = False,
) -> None:
    """Refuse a promise where there is a reason to be without one; `asked_none`: the scorer was made without."""
    without = "this scorer was calibrated without one" if asked_none else None
    if steps is not None:
        without = without if events is not None and events.block is not None else DEPENDENT
    elif isinstance(inputs, SeriesSchema):
        without = OVERLAPPING
    if without is None:
        return
    if decision.rule is not None:
        raise ValueError(
            f"the rule {decision.rule!r} cannot be certified: {without}; use alpha, with blocks for a promise"
        )
    if decision.kind != "none":
        raise ValueError(
            f"kind={decision.kind!r} cannot be promised: {without}; use kind='none', whose level is nominal"
        )


def require_blocks(calibration: AnyCalibration, events: EventRule | None, steps: StepRule | None) -> None:
    """Refuse a calibration of other blocks than those that are to be judged, and blocks that share their windows."""
    blocks = None if events is None else events.blocks
    if events is not None and blocks is not None and steps is not None:
        memory = steps.window_size + (events.persistence or (1, 1))[1] - 1
        if blocks.length < 2 * memory:
            raise ValueError(
                f"a block of {blocks.length} steps is too short: a score looks back over {memory} steps, so that short "
                f"blocks depend on each other; give at least {2 * memory}, better a day"
            )
    held = (calibration.slots, calibration.unit) if isinstance(calibration, Calibration) else (1, "sample")
    if held != ((1, "sample") if events is None or blocks is None else (blocks.slots, events.unit)):
        raise ValueError("the calibration is not one of the blocks that the events name")


def provenance_of(
    rows: Fingerprints, fit_rows: Fingerprints | None, budget: str | None, volume: str | None
) -> dict[str, Any]:
    """Where the data of a calibration came from and what was asked for, as plain values."""
    provenance: dict[str, Any] = {
        "calibration": {"n": len(rows), "digest": digest_of(rows)},
        "fit": None if fit_rows is None else {"n": len(fit_rows), "digest": digest_of(fit_rows)},
    }
    if budget is None and volume is None:
        return provenance
    return {**provenance, "asked": {"budget": budget, "volume": volume}}
