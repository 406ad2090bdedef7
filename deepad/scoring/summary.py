"""What a calibration has bought, in two lines: the promise, and what to expect of it and what less would take."""

from typing import Any

from deepad.clock import UNITS
from deepad.scoring.budget import Budget
from deepad.scoring.guarantee import LAWFUL, Guarantee, GuaranteeKind
from deepad.scoring.promise import required_n
from deepad.scoring.ranks import required_blocks
from deepad.scoring.scorer import Scorer

THOUSAND = 1000
MILLION = 1_000_000
"""Of more samples than these the share of false alarms is taken, whose spread hardly shrinks any more."""


def summary(scorer: Scorer) -> tuple[str, str]:
    """The promise of a scorer; then the 95 % range of false alarms to come, and what a tenth of the level takes."""
    thresholds = scorer.thresholds  # each time they are asked for they are made again, a tail with its bootstrap
    mildest, strictest = thresholds[0], thresholds[-1]
    promise = str(mildest if scorer.decision.rule is not None else mildest.guarantee)
    if scorer.decision.tiers is not None:
        named = zip(scorer.decision.tiers, thresholds, strict=True)
        promise = "; ".join(f"{name}: {threshold.guarantee}" for name, threshold in named)
    asked: dict[str, Any] = (scorer.provenance or {}).get("asked") or {}
    return promise, f"{_expected(mildest.guarantee, asked.get('volume'))}; {_less(strictest.guarantee)}"


def _expected(guarantee: Guarantee, volume: str | None) -> str:
    """The range of false alarms among the next samples, and in the next day where their number is known."""
    if guarantee.kind == GuaranteeKind.BLOCK:
        law = guarantee.future_alarms(30)
        if law is None:
            return (
                f"{guarantee.attained:.4g} alarmed slots a {guarantee.unit} expected at most; no law gives their spread"
            )
        return f"with 95 % probability {law[0]} to {law[1]} of the next 30 normal ones raise a false alarm"
    daily = 0 if volume is None else round(Budget.parse(volume, name="volume").per(UNITS["day"]))
    coming = {f"the next {THOUSAND} normal samples": THOUSAND} | (
        {f"the next day ({daily} samples)": daily} if daily else {}
    )
    largest = max(guarantee.groups, key=lambda group: group[1])[0] if guarantee.groups else None
    ranges = []
    for what, m in coming.items():
        looked_at, about = min(m, MILLION), "about " if m > MILLION else ""
        law = guarantee.future_alarms(looked_at if largest is None else {largest: looked_at})
        if law is None:
            return "how many false alarms will come is not known"
        low, high = (count * m // looked_at for count in law)
        ranges.append(f"{about}{low} to {high} in {what}")
    where = "" if largest is None else f" of group {largest}"
    return f"false alarms with 95 % probability: {', '.join(ranges)}{where}"


def _less(guarantee: Guarantee) -> str:
    """What a tenth of the level would need."""
    tenth = guarantee.alpha / 10
    if guarantee.kind == GuaranteeKind.BLOCK:
        needed = required_blocks(tenth, guarantee.slots)
        return f"{tenth:.3g} a {guarantee.unit} needs {needed} normal ones, {guarantee.n // guarantee.slots} at hand"
    if guarantee.kind == GuaranteeKind.NONE and guarantee.k == 0 and not guarantee.groups:
        return "a level (alpha) in the place of the rule would have a promise, and its range"
    if guarantee.kind == GuaranteeKind.MODEL:
        return f"a promise needs {required_n(guarantee.alpha)} normal samples, {guarantee.n} at hand"
    if guarantee.kind not in LAWFUL:
        return "a promise needs independent samples, or blocks of a series (--block)"
    n = min([n for _, n, _ in guarantee.groups] or [guarantee.n])
    needed = required_n(tenth, kind=guarantee.kind, delta=guarantee.delta)
    each = " in each group" if guarantee.groups else ""
    return f"alpha={tenth:.3g} needs {needed} normal samples{each}, {n} at hand"
