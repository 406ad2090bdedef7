"""From the scores of held-out normal data to a calibration, and the refusal of promises that nothing supports."""

from dataclasses import replace
from typing import Any

import numpy as np

from deepad.channels import SeriesSchema
from deepad.clock import UNITS
from deepad.data.windows import StepRule
from deepad.errors import InputError
from deepad.scoring.budget import Budget
from deepad.scoring.conformal import Calibration, Scores
from deepad.scoring.decision import Decision
from deepad.scoring.eventrule import EventRule
from deepad.scoring.events import calibrate_blocks
from deepad.scoring.grouping import Grouping
from deepad.scoring.groups import AnyCalibration, GroupedCalibration
from deepad.scoring.models import Schema

DEPENDENT = "steps of a series depend on each other"
OVERLAPPING = "windows of a series depend on each other"


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


def dependence(steps: StepRule | None, inputs: Schema | None, events: EventRule | None) -> str | None:
    """Why nothing can be promised, None if it can be."""
    if steps is not None:
        return None if events is not None and events.block is not None else DEPENDENT
    return OVERLAPPING if isinstance(inputs, SeriesSchema) else None


def require_promise(decision: Decision, without: str | None) -> None:
    """Refuse a promise where there is a reason to be without one."""
    if without is None:
        return
    if decision.rule is not None:
        raise ValueError(f"the rule {decision.rule!r} cannot be certified: {without}; calibrate blocks, or use alpha")
    if decision.kind != "none":
        raise ValueError(
            f"kind={decision.kind!r} cannot be promised: {without}; use kind='none', whose level is nominal"
        )


def require_same_blocks(calibration: AnyCalibration, events: EventRule | None) -> None:
    """Refuse a calibration of other blocks than those that are to be judged."""
    blocks = None if events is None else events.blocks
    held = (calibration.slots, calibration.unit) if isinstance(calibration, Calibration) else (1, "sample")
    if held != ((1, "sample") if events is None or blocks is None else (blocks.slots, events.unit)):
        raise ValueError("the calibration is not one of the blocks that the events name")
