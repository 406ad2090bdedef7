"""Alert budgets: how many false alarms a period, written as people say it, and the level that follows.

    2 per week      1 per day      5 per hour      3 per 10000

For samples that come at a known rate (`volume`), N of them in a period, the level is `alpha = alarms / N`: the expected
number of false alarms then keeps to the budget. For a series the budget is one of blocks (`deepad.scoring.events`).
"""

import re
from dataclasses import dataclass

from deepad.clock import duration

_WRITTEN = re.compile(r"([\d.eE+-]+)\s*(?:per|/|an|a|each|every)\s*(.+)")


@dataclass(frozen=True)
class Budget:
    """So many events in a period.

    Attributes:
        count: events, positive.
        seconds: length of the period; None if it is counted in samples.
        samples: length of the period in samples; None if it is a time.
        text: as it was written.
    """

    count: float
    seconds: float | None
    samples: int | None
    text: str

    @classmethod
    def parse(cls, text: str, *, name: str = "budget") -> "Budget":
        """Read `2 per week`, `1 per 12 hours` or `3 per 10000` (samples).

        Raises:
            ValueError: anything else.
        """
        found = _WRITTEN.fullmatch(str(text).strip())
        try:
            if found is None:
                raise ValueError
            count, period = float(found[1]), found[2].strip()
            if not 0 < count < float("inf"):
                raise ValueError
            counted = re.fullmatch(r"(\d[\d_ ]*)\s*(samples?|rows?)?", period)
            if counted:
                samples = int(re.sub(r"[_ ]", "", counted[1]))
                if samples < 1:
                    raise ValueError
                return cls(count, None, samples, str(text))
            return cls(count, duration(period), None, str(text))
        except ValueError:
            raise ValueError(
                f"a {name} is written as '2 per week', '1 per 12 hours' or '3 per 10000', got {text!r}"
            ) from None

    def per(self, seconds: float) -> float:
        """Expected events in so many seconds.

        Raises:
            ValueError: the period is counted in samples.
        """
        if self.seconds is None:
            raise ValueError(f"the budget {self.text!r} counts samples, here a time is needed: say '2 per week'")
        return self.count * seconds / self.seconds

    def alpha(self, volume: "Budget | None") -> float:
        """The false-alarm rate of samples that keeps to the budget.

        Args:
            volume: how many samples come in a period, such as `20000 per day`; not needed where the budget counts
                samples.

        Raises:
            ValueError: no volume where one is needed, or a budget that lets every sample raise an alarm.
        """
        if self.samples is not None:
            alpha = self.count / self.samples
        elif volume is None or volume.seconds is None or self.seconds is None:
            raise ValueError(
                f"the budget {self.text!r} needs the number of samples in a time: give the volume, say '20000 per day'"
            )
        else:
            alpha = self.count / volume.per(self.seconds)
        if not alpha < 1:
            raise ValueError(f"the budget {self.text!r} allows an alarm for every sample: nothing is left to decide")
        return alpha
