"""What a threshold promises, as data: kind, level, sample size and the assumptions it rests on.

From `n` held-out normal scores and integer ranks, strongest first:

| kind           | statement                                                               | needs                 |
|----------------|-------------------------------------------------------------------------|-----------------------|
| `simultaneous` | with probability >= 1 - delta over the calibration draw, for every      | independent draws     |
|                | threshold at once, the false-alarm rate is <= its bound                 |                       |
| `pac`          | the same for this one threshold: it is <= alpha                         | independent draws     |
| `marginal`     | P(a new normal sample is flagged) <= alpha, averaged over calibrations  | exchangeable samples  |
| `block`        | the expected number of alarmed slots of a new normal block is <= alpha; | exchangeable blocks;  |
|                | with one slot a block: P(any alarm in it) <= alpha                      | inside them anything  |
| `cross`        | P(a new normal sample is flagged) <= about 2 alpha, usually near alpha  | exchangeable samples, |
|                |                                                                         | a symmetric training  |
| `budget`       | the long-run rate of *alarms*, true or false, is alpha                  | nothing; no detection |
| `model`        | what a fitted tail says                                                 | that the tail fits    |
| `none`         | nothing: the scores depend on each other, or the rule is a heuristic    | -                     |

None of them says how likely a flagged sample is to be an anomaly: that needs the prevalence.
Sources are with the ranks (`deepad.scoring.ranks`) and in the modules that make the other kinds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from deepad.scoring.counts import central_range
from deepad.scoring.envelope import confidence, percent, round_up

FIXED = "the scorer was fixed before calibration"
ASSUMPTIONS = {
    "simultaneous": ("calibration and new normal samples are i.i.d.", FIXED),
    "pac": ("calibration and new normal samples are i.i.d.", FIXED),
    "marginal": ("calibration and new normal samples are exchangeable", FIXED),
    "block": ("calibration and new normal blocks are exchangeable", "a new block has no more slots", FIXED),
    "cross": ("calibration and new normal samples are exchangeable", "training does not depend on the order of rows"),
    "budget": (),
    "model": ("the tail of normal scores is a generalised Pareto tail", "its peaks are independent", FIXED),
    "none": ("calibration scores depend on each other: the level asked for is nominal, not promised",),
}
RANKED = ("marginal", "pac", "simultaneous", "none")
"""Kinds that a rank among single scores can have."""

SMALLEST = 1e-300
"""No level below this is taken: the arithmetic of the next larger ones would overflow."""


class GuaranteeKind(StrEnum):
    """The kind of promise, see the module docstring."""

    SIMULTANEOUS = "simultaneous"
    PAC = "pac"
    MARGINAL = "marginal"
    BLOCK = "block"
    CROSS = "cross"
    BUDGET = "budget"
    MODEL = "model"
    NONE = "none"


WITH_DELTA = (GuaranteeKind.PAC, GuaranteeKind.SIMULTANEOUS)
LAWFUL = (*WITH_DELTA, GuaranteeKind.MARGINAL, GuaranteeKind.BLOCK)
"""Kinds under which the number of false alarms has a known law."""


@dataclass(frozen=True)
class Guarantee:
    """The promise a threshold carries.

    Attributes:
        kind: what is promised.
        alpha: false-alarm rate asked for, in (0, 1); for `block` the expected number of alarmed slots of a block.
        attained: the level that holds, <= alpha: for `marginal` the exact mean false-alarm rate k/(n+1) of continuous
            scores, for `pac` and `simultaneous` the upper bound at confidence 1 - delta; for `none` the share k/(n+1)
            aimed at, which holds for the calibration scores alone, or for a heuristic its certified upper bound. Above
            alpha only for heuristics and where that was accepted (`cross`, and `on_insufficient="max"`).
        n: number of calibration scores; for `block` of slots.
        k: rank of the threshold among them, counted from the largest; 0 where no rank decides.
        delta: probability of an unlucky calibration draw that `pac` and `simultaneous` allow, None for other kinds.
        assumptions: what must hold for the promise to hold.
        slots: for `block`, the slots of a block, each of which raises at most one alarm.
        unit: what is flagged: a `"sample"`, or for `block` how long a block is, in words.
        groups: name, number of calibration scores and rank of each group, where each has a threshold of its own; then
            `k` is 0, `n` counts all of them, and `attained` is the highest of all groups.
    """

    kind: GuaranteeKind
    alpha: float
    attained: float
    n: int
    k: int
    delta: float | None
    assumptions: tuple[str, ...]
    slots: int = 1
    unit: str = "sample"
    groups: tuple[tuple[str, int, int], ...] = ()

    def __str__(self) -> str:
        if not self.groups:
            return self._statement(f"the {self.n} calibration samples")
        sizes = [n for _, n, _ in self.groups]
        within = f"in each of {len(sizes)} groups of {min(sizes)} to {max(sizes)} calibration samples, taken by itself"
        return f"{within}: {self._statement('them')}"

    def _statement(self, whose: str) -> str:
        attained, asked = percent(self.attained), f"(asked: {self.alpha:.4g})"
        match self.kind:
            case GuaranteeKind.NONE if self.k == 0 and not self.groups:
                return f"no guarantee: {'; '.join(self.assumptions)} {asked}"
            case GuaranteeKind.NONE:
                if self.groups:
                    return f"no guarantee, their scores depend on each other {asked}"
                return (
                    f"no guarantee: the {self.n} calibration scores depend on each other; the threshold is number "
                    f"{self.k} of them from the top {asked}"
                )
            case GuaranteeKind.PAC | GuaranteeKind.SIMULTANEOUS:
                sure = confidence(self.delta or 0)
                every = ", for every threshold at once" if self.kind == GuaranteeKind.SIMULTANEOUS else ""
                return (
                    f"with probability {sure} over {whose}{every}, at most {attained} of "
                    f"new normal samples are flagged {asked}"
                )
            case GuaranteeKind.BLOCK:
                blocks = self.n // self.slots
                if self.slots == 1:
                    return (
                        f"a new normal {self.unit} raises a false alarm with probability at most {attained}, averaged "
                        f"over draws of the {blocks} calibrated on {asked}"
                    )
                return (
                    f"a new normal {self.unit} is expected to raise at most {round_up(self.attained, 4):g} false "
                    f"alarms, no more than one in each of its {self.slots} slots, averaged over draws of the {blocks} "
                    f"calibrated on {asked}"
                )
            case GuaranteeKind.CROSS:
                return (
                    f"a new normal sample is flagged with probability at most {attained}, usually near "
                    f"{self.alpha:.4g}, by models of {self.n} samples that each calibrate the others"
                )
            case GuaranteeKind.BUDGET:
                return (
                    f"in the long run {self.alpha:.4g} of all samples raise an alarm, whether or not they are anomalies"
                )
            case GuaranteeKind.MODEL:
                return (
                    f"no guarantee: a tail fitted to {whose} says that at most {attained} of "
                    f"new normal samples are flagged {asked}"
                )
            case _:
                return (
                    f"a new normal sample is flagged with probability at most {attained}, "
                    f"averaged over draws of {whose} {asked}"
                )

    def future_alarms(self, m: int | Mapping[str, int], *, level: float = 0.95) -> tuple[int, int] | None:
        """Central range of the number of false alarms among the next `m` normal samples; None where no law is known.

        The count is BetaBinomial(m, k, n + 1 - k) for continuous scores, over calibration draw and new samples. Of kind
        `block` with one slot a block it is that of alarmed blocks among the next `m`.
        A count above the range says that the data have drifted or that the assumptions do not hold.
        Source: Marques, *On the universal distribution of the coverage in split conformal prediction*, 2023.

        Args:
            m: number of samples; with groups, how many of them are in each group.
            level: probability of the range.

        Raises:
            ValueError: `m` below 1 or `level` outside (0, 1).
        """
        tail = (1 - check_level("level", level)) / 2
        if (m if isinstance(m, int) else sum(m.values())) < 1:
            raise ValueError(f"m must be at least 1 sample, got {m}")
        if self.kind not in LAWFUL or self.slots > 1:
            return None
        if isinstance(m, int):
            if self.k == 0:
                return None
            return central_range([(m, self.k, self.n)], tail)
        counts = [(m[name], k, n) for name, n, k in self.groups if m.get(name, 0)]
        return central_range(counts, tail) if counts else (0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lists = {"assumptions": list(self.assumptions), "groups": [list(group) for group in self.groups]}
        return {**asdict(self), "kind": self.kind.value, **lists}


def check_level(name: str, value: float) -> float:
    """Return a probability strictly between 0 and 1 as a float.

    Raises:
        TypeError: `value` is not a number.
        ValueError: `value` is not inside (0, 1).
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise TypeError(f"{name} must be a number in (0, 1), got {value!r}")
    if not SMALLEST < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)
