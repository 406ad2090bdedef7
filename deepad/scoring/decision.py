"""How alarms are decided: the level, its kind, tiers of severity or a classical rule, as plain values that are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepad.scoring.groups import AnyCalibration, AnyThreshold, GroupedCalibration
from deepad.scoring.guarantee import WITH_DELTA, GuaranteeKind
from deepad.scoring.rules import certified, parse_rule
from deepad.scoring.severity import SeverityPolicy

DELTA = 0.05
"""Allowed probability of an unlucky calibration draw where tiers or a rule need one and none is given."""


@dataclass(frozen=True)
class Decision:
    """How alarms are decided.

    Attributes:
        alpha: false-alarm rate; for blocks the expected number of alarmed slots of a block; that of the mildest tier.
        kind: guarantee, see `deepad.scoring.guarantee`.
        delta: allowed probability of an unlucky calibration draw, where the kind has one.
        tiers: levels by name, mild to severe, see `deepad.scoring.severity`; None for one level.
        rule: a classical rule in the place of a level, such as `"sigma:3"`, see `deepad.scoring.rules`.

    Raises:
        ValueError: tiers and a rule at once, or tiers that are none.
    """

    alpha: float = 0.05
    kind: str = "marginal"
    delta: float | None = None
    tiers: Mapping[str, float] | None = None
    rule: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float | np.floating):
            raise TypeError(f"alpha must be a number, got {self.alpha!r}")
        if self.kind not in set(GuaranteeKind):
            raise ValueError(f"kind must be one of {', '.join(GuaranteeKind)}, got {self.kind!r}")
        if self.tiers is not None and self.rule is not None:
            raise ValueError(f"the rule {self.rule!r} has one threshold: leave the tiers out")
        if self.rule is not None:
            if not isinstance(self.rule, str):
                raise TypeError(f"a rule is written as 'sigma:3', got {self.rule!r}")
            parse_rule(self.rule)
            if self.kind != "marginal":
                raise ValueError(
                    f"the certificate of the rule {self.rule!r} needs independent samples, kind={self.kind!r} is for "
                    "others: leave the rule out, or assert kind='marginal'"
                )
        if self.tiers is not None:
            policy = SeverityPolicy(self.tiers, self.kind, self.delta)
            object.__setattr__(self, "tiers", policy.levels)
            object.__setattr__(self, "alpha", next(iter(policy.levels.values())))

    @classmethod
    def make(
        cls,
        alpha: float = 0.05,
        kind: str | None = None,
        delta: float | None = None,
        tiers: Mapping[str, float] | None = None,
        rule: str | None = None,
        *,
        usual: str = "marginal",
    ) -> "Decision":
        """The decision that is meant where `kind` or `delta` are not said; `usual` is the kind of this data."""
        promised = usual == "marginal"
        if kind is None:
            kind = usual if delta is None or rule is not None else "pac"  # delta of a rule is that of its certificate
            if promised and tiers is not None:
                kind = "simultaneous"
        if delta is None and tiers is not None and kind in WITH_DELTA:
            delta = DELTA
        return cls(alpha, kind, delta, tiers, rule)

    def at(self, alpha: float | None, kind: str | None, delta: float | None) -> "Decision":
        """The decision of a call that asks for a level of its own; it has neither tiers nor a rule."""
        if alpha is None and kind is None and delta is None:
            return self
        if kind is None:
            own = None if self.rule is not None else self.delta
            kind, delta = (self.kind, own) if delta is None else ("pac", delta)
        return Decision(self.alpha if alpha is None else alpha, kind, delta)

    def thresholds(self, calibration: AnyCalibration) -> tuple[AnyThreshold, ...]:
        """The thresholds of the tiers, mild to severe; one if there are none.

        Raises:
            InsufficientCalibrationError: a level that cannot be guaranteed.
            ValueError: a rule or tiers that do not go with this calibration.
        """
        if self.rule is not None:
            if isinstance(calibration, GroupedCalibration):
                raise ValueError(f"the rule {self.rule!r} has one threshold: leave the groups out")
            return (certified(parse_rule(self.rule), calibration, delta=self.delta or DELTA),)
        if self.tiers is not None:
            return SeverityPolicy(self.tiers, self.kind, self.delta).thresholds(calibration)
        return (calibration.threshold(self.alpha, kind=self.kind, delta=self.delta),)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; tiers as a list, whose order is kept."""
        tiers = None if self.tiers is None else [[name, level] for name, level in self.tiers.items()]
        return {**vars(self), "tiers": tiers}

    @classmethod
    def from_dict(cls, document: Any) -> "Decision":
        """Read what `to_dict` wrote, from a file that others may have written.

        Raises:
            ValueError: anything else.
        """
        document = {"tiers": None, "rule": None, **document}  # not known to older ones
        if document.keys() != set(cls.__dataclass_fields__):
            raise ValueError("unknown keys of a decision")
        tiers = document["tiers"]
        return cls(**{**document, "tiers": None if tiers is None else dict(tiers)})
