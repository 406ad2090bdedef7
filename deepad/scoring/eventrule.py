"""What becomes of the scores of the steps of a series before they are calibrated, and in which blocks they are.

    step scores -> standardised causally -> persistence (m of w) -> maxima of the slots of blocks -> calibration

Each part may be left out. Without blocks the calibration is one of steps, which depend on each other: nothing is
promised. With blocks, which may depend on each other inside in any way, it is the number of alarmed slots that is
(`deepad.scoring.events`). Whatever is done to scores is done *before* calibration, in the same causal way when scoring.
"""

from dataclasses import dataclass
from typing import Any

from deepad.clock import duration, in_words
from deepad.scoring.events import LONGEST, Blocks, Persistence
from deepad.scoring.standardize import RollingStandardize


@dataclass(frozen=True)
class EventRule:
    """How scores of steps become events; all lengths in steps.

    Attributes:
        standardize: steps of the rolling window that takes level and spread out of the scores; None: they stay.
        persistence: (m, w): an alarm needs m of the last w scores above the threshold; None: one is enough.
        block: steps of an exchangeable block, well beyond the memory of the series, such as a day; None: no blocks.
        slot: steps in which at most one alert is sent; None: a block is one slot.
        interval: seconds between steps, None if they are not known.

    Raises:
        ValueError: an attribute outside its range, or slots without blocks.
    """

    standardize: int | None = None
    persistence: tuple[int, int] | None = None
    block: int | None = None
    slot: int | None = None
    interval: float | None = None

    def __post_init__(self) -> None:
        if self.slot is not None and self.block is None:
            raise ValueError(f"slot={self.slot} is a part of a block: give the block as well, or leave it out")
        if self.interval is not None and not (type(self.interval) in (int, float) and 0 < self.interval < 1e10):
            raise ValueError(f"the interval of steps is a positive number of seconds, got {str(self.interval)[:40]}")
        _ = self.transforms(), self.blocks  # which check themselves

    def __str__(self) -> str:
        parts = [] if self.standardize is None else [f"scores relative to the {self.standardize} before"]
        if self.persistence is not None:
            parts.append("an alarm needs {} of the last {} above the threshold".format(*self.persistence))
        if self.block is not None:
            slots = "" if self.slot is None else f", at most one alert in each slot of {self.slot}"
            parts.append(f"calibrated in blocks of {self.block} steps{slots}")
        return "; ".join(parts)

    @classmethod
    def of_times(
        cls,
        interval: float | None,
        *,
        block: int | str | None = None,
        slot: int | str | None = None,
        persistence: tuple[int, int] | None = None,
        standardize: int | str | None = None,
    ) -> "EventRule | None":
        """The rule for lengths in steps or as times (`"1 day"`), a step being `interval` seconds; None if all are None.

        Raises:
            ValueError: a time where the interval is not known, or one that is less than a step.
        """
        if block is None and slot is None and persistence is None and standardize is None:
            return None

        def steps(name: str, length: int | str | None) -> int | None:
            if length is None or isinstance(length, int):
                return length
            if str(length).strip().isdecimal():
                return int(length)
            if interval is None:
                raise ValueError(f"{name}={length!r}: this series has no timestamps, give a number of steps")
            count = round(min(duration(length) / interval, 2.0 * LONGEST))  # which is refused below, as too long
            if count < 1:
                raise ValueError(f"{name}={length!r} is less than one step of {in_words(interval)}")
            return count

        pair = None if persistence is None else (int(persistence[0]), int(persistence[1]))
        return cls(steps("standardize", standardize), pair, steps("block", block), steps("slot", slot), interval)

    @property
    def blocks(self) -> Blocks | None:
        """How stretches are cut into blocks; None without."""
        return None if self.block is None else Blocks(self.block, self.slot)

    @property
    def unit(self) -> str:
        """How long a block is, in words."""
        if self.block is None:
            return "step"
        length = f"{self.block} steps" if self.interval is None else in_words(self.block * self.interval)
        return f"block of {length}"

    def transforms(self) -> list[Any]:
        """What is done to the scores of one unbroken stretch, each part new and with a `push`."""
        return [part.begin() for part in self.parts()]

    def parts(self) -> list[Any]:
        """The rules of what is done to scores, in their order, each with `begin` and `from_state`."""
        chosen: list[Any] = [] if self.standardize is None else [RollingStandardize(self.standardize)]
        return chosen + ([] if self.persistence is None else [Persistence(*self.persistence)])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `from_dict` reads them."""
        return {**vars(self), "persistence": None if self.persistence is None else list(self.persistence)}

    @classmethod
    def from_dict(cls, document: Any) -> "EventRule":
        """Read what `to_dict` wrote, from a file that others may have written.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(document, dict) or document.keys() != set(cls.__dataclass_fields__):
            raise ValueError("this does not describe events")
        pair = document["persistence"]
        return cls(**{**document, "persistence": None if pair is None else tuple(pair)})
