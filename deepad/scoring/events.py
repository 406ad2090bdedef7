"""Events of a series: alarms that persist, blocks to calibrate on, alerts and episodes.

Scores of neighbouring steps depend on each other, so their ranks among calibration steps promise nothing: the realised
false-alarm rate of steps scatters far around its level, and its mean is off as well. What is exchangeable are blocks
well beyond the memory of the series, such as days. A block of L steps is cut into M slots, each of which raises at most
one alarm, and what is calibrated are the maxima of slots: with B blocks,

    t = the k-th largest of the B M maxima,     k the largest with (k - 1 + M) / (B + 1) <= budget,

keeps the expected number of alarmed slots of a new normal block within the budget. With M = 1 it is the probability of
any alarm in a block. Inside a block, dependence is free. It holds for what is calibrated: whatever is done to scores
(standardising, persistence) comes before, in the same causal way. It fails where blocks are not exchangeable: a drift,
weekdays beside weekends, blocks shorter than the memory. Runs of flagged steps are no slots: their number may fall as
the threshold falls, and no budget holds for it.

- `Persistence`: m of the last w scores above t, as a score: r_t > t with r_t the m-th largest of them.
- `Blocks`, `calibrate_blocks`: slots, their maxima, and the calibration made of them.
- `notify`: at most one alert a slot, as they were calibrated.
- `episodes`: what belongs together, for whoever looks at alarms afterwards.

Source: Angelopoulos, Bates, Fisch, Lei, Schuster, *Conformal risk control*, 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InsufficientCalibrationError, NonFiniteScoreError
from deepad.scoring.conformal import TIE_RTOL, Calibration, Scores, as_scores
from deepad.scoring.standardize import Persistence as Persistence  # an event as well: it is asked for here
from deepad.scoring.standardize import require_whole

Flags = NDArray[np.bool_]
Parts = Sequence[ArrayLike]  # of stretches, unbroken each
Starts = Sequence[int] | None

LONGEST = 1_000_000_000
"""Most steps of a block."""
MISSING = 10
"""A block counts if at most one in so many of its steps was not scored."""
TOP = 3
"""Most channels that are named as the cause of an episode."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of `length` steps that are exchangeable, cut into slots that raise at most one alarm each.

    Attributes:
        length: steps of a block, well beyond the memory of the series; a day holds its daily rhythm as well.
        slot: steps of a slot, within which a second alarm is no news; None: the whole block. If it does not divide the
            block, the last slot of each block is shorter.

    Raises:
        ValueError: an attribute outside its range.
    """

    length: int
    slot: int | None = None

    def __post_init__(self) -> None:
        require_whole("the length of a block", self.length, LONGEST)
        if self.slot is not None:
            require_whole("a slot", self.slot, self.length)

    @property
    def slots(self) -> int:
        """M, the number of slots of a block."""
        return -(-self.length // (self.slot or self.length))

    def slot_maxima(self, stretches: Parts, starts: Starts = None) -> Scores:
        """Largest score of each slot (B, M) of the whole blocks of stretches with scores (N,), one after the other.

        A block is left out if more than one in ten of its steps were not scored (NaN), or all of a slot; what remains
        behind the last whole block is left out as well.

        Args:
            stretches: unbroken each.
            starts: for each stretch the step at which its first block begins, say the first midnight; if not given
                the first step with a score.

        Raises:
            ValueError: not one start, a whole number of at least 0, for each stretch.
        """
        return self._maxima(stretches, starts)

    def n_blocks(self, stretches: Parts, starts: Starts = None) -> int:
        """B, the number of blocks that `slot_maxima` finds."""
        return len(self.slot_maxima(stretches, starts))

    def alarmed_slots(
        self, flagged: Parts, scores: Parts | None = None, starts: Starts = None, *, incomplete: bool = False
    ) -> Flags:
        """Which slots (B, M) of blocks have a flagged step, counted as in the calibration.

        The mean over normal blocks of their number in a block is what the budget is about.

        Args:
            flagged: (N,) of each stretch.
            scores: (N,) of each stretch: steps that have none do not count, and the blocks are those of `slot_maxima`.
                If not given, every step has one.
            starts: as in `slot_maxima`.
            incomplete: count in every block with any score, also those cut off at the ends of a stretch.
        """
        flags = [_as_flags(part) for part in flagged]
        given = [np.zeros(len(part)) for part in flags] if scores is None else [as_scores(part) for part in scores]
        if [len(part) for part in given] != [len(part) for part in flags]:
            raise ValueError("flags and scores are of other stretches: give one of each for every step")
        marks = [np.where(np.isnan(score), np.nan, flag) for score, flag in zip(given, flags, strict=True)]
        return np.asarray(self._maxima(marks, starts, incomplete) == 1)

    def notify(self, flagged: ArrayLike, start: int = 0) -> Flags:
        """True (N,) at the first flagged step of each slot, where blocks begin at step `start` and every `length`."""
        flags = _as_flags(flagged)
        steps = np.flatnonzero(flags)
        block, place = np.divmod(steps - start, self.length)
        _, first = np.unique(block * self.slots + place // (self.slot or self.length), return_index=True)
        alerts = np.zeros(len(flags), bool)
        alerts[steps[first]] = True
        return alerts

    def _maxima(self, stretches: Parts, starts: Starts, incomplete: bool = False) -> Scores:
        given = [as_scores(stretch) for stretch in stretches]
        if starts is None:
            starts = [int(np.argmax(~np.isnan(scores))) if len(scores) else 0 for scores in given]
        if len(starts) != len(given) or any(not isinstance(start, int | np.integer) or start < 0 for start in starts):
            raise ValueError(f"starts must be a step >= 0 for each of {len(given)} stretches, got {list(starts)!r}")
        found = [self._of_stretch(*pair, incomplete) for pair in zip(given, map(int, starts), strict=True)]
        return np.concatenate([np.empty((0, self.slots)), *found])

    def _of_stretch(self, scores: Scores, start: int, incomplete: bool) -> Scores:
        """Maxima (b, M) of the slots of one stretch; with `incomplete` NaN for a slot without scores."""
        length, slot = self.length, self.slot or self.length
        if incomplete:
            before = -start % length
            scores = np.pad(scores, (before, -(before + len(scores)) % length), constant_values=np.nan)
            blocks = scores.reshape(-1, length)
        else:
            count = max(0, (len(scores) - start) // length)
            blocks = scores[start : start + count * length].reshape(count, length)
        filled = np.pad(blocks, ((0, 0), (0, self.slots * slot - length)), constant_values=np.nan)
        maxima = np.fmax.reduce(filled.reshape(len(blocks), self.slots, slot), axis=2)  # NaN if all of them are
        missing = np.isnan(blocks).sum(1)
        whole = (missing <= length // MISSING) & ~np.isnan(maxima).any(1)
        return np.asarray(maxima[missing < length if incomplete else whole])


def calibrate_blocks(
    stretches: Parts,
    blocks: Blocks,
    *,
    unit: str,
    tie_rtol: float = TIE_RTOL,
    scorer_id: str = "",
    starts: Starts = None,
) -> Calibration:
    """Calibration of the blocks of normal stretches, whose threshold keeps a budget of alarmed slots of a block.

    Args:
        stretches: scores (N,) of steps that no fitting or model choice has seen, NaN where there is none.
        blocks: how stretches are cut.
        unit: how long a block is, in words.
        tie_rtol: relative tolerance of ties; 0 for exact scores.
        scorer_id: digest of the model.
        starts: as in `Blocks.slot_maxima`.

    Raises:
        InsufficientCalibrationError: no whole block.
        NonFiniteScoreError: a score is infinite.
        ValueError: a unit that says nothing of blocks.
    """
    if not unit or unit == "sample":  # single scores are promised other things
        raise ValueError(f"unit says how long a block is, such as '1 day', got {unit!r}")
    given = [as_scores(stretch) for stretch in stretches]
    for number, scores in enumerate(given):
        if (failed := np.isinf(scores)).any():
            raise NonFiniteScoreError(
                f"{failed.sum()} of {len(scores)} scores of stretch {number} are infinite (first at step "
                f"{np.argmax(failed)}): calibrate on clean normal steps, or look at what made the model overflow"
            )
    maxima = blocks.slot_maxima(given, starts)
    if len(maxima) == 0:
        scored = max((int((~np.isnan(scores)).sum()) for scores in given), default=0)
        ways = ("longer stretches of normal data", "shorter blocks")
        raise InsufficientCalibrationError(
            f"no stretch holds a whole block of {blocks.length} steps ({unit}), at most {scored} are scored: use "
            f"{' or '.join(ways)}",
            n=0,
            needed=1,
            options=ways,
        )
    return Calibration.fit(maxima.ravel(), tie_rtol=tie_rtol, scorer_id=scorer_id, slots=blocks.slots, unit=unit)


def notify(flagged: ArrayLike, slot: int) -> Flags:
    """True (N,) at the first flagged step of each `slot` steps: what a pager sends. Causal; of blocks, see `Blocks`."""
    return Blocks(slot).notify(flagged)


@dataclass(frozen=True)
class Episode:
    """Alarms that belong together; steps are counted from the beginning of the series.

    Attributes:
        onset: first step, flagged.
        end: the step after the last.
        flagged: number of flagged steps.
        peak: step of the highest score, the first of them.
        peak_score: its score.
        p_value: the smallest; None if not known.
        tier: the most severe, counted from 1; None if not known.
        channels: those that contributed most at the peak, at most three, the largest first; () if not known.
    """

    onset: int
    end: int
    flagged: int
    peak: int
    peak_score: float
    p_value: float | None = None
    tier: int | None = None
    channels: tuple[int, ...] = ()


def episodes(
    score: ArrayLike,
    flagged: ArrayLike,
    *,
    p_value: ArrayLike | None = None,
    tier: ArrayLike | None = None,
    contributions: ArrayLike | None = None,
    cooldown: int = 0,
    release: float | None = None,
) -> list[Episode]:
    """Episodes of alarms in a series of N steps, in their order. A summary: the budget of false alarms is one of slots.

    An episode opens at a flagged step. It stays open while scores lie above `release`, and flagged steps with at most
    `cooldown` others between them are of one episode. A step without score (NaN) never opens one, even if flagged; it
    does not close one either, as long as no more than `cooldown` of them follow each other.

    Args:
        score: (N,), NaN where there is none.
        flagged: (N,).
        p_value: (N,).
        tier: (N,) whole numbers, larger is more severe.
        contributions: (N, C) what each channel adds to the score.
        cooldown: steps, at least 0.
        release: at most the threshold; None: an episode consists of flagged steps.

    Raises:
        ValueError: lengths that differ, a negative cooldown, or a release above the score of a flagged step.
    """
    scores, flags = as_scores(score), _as_flags(flagged)
    p = None if p_value is None else as_scores(p_value, "p_value")
    tiers = None if tier is None else np.asarray(tier)
    parts = None if contributions is None else np.asarray(contributions, np.float64)
    columns = {"flagged": flags, "p_value": p, "tier": tiers, "contributions": parts}
    for name, values in columns.items():
        if values is not None and (len(values) != len(scores) or values.ndim != 1 + (name == "contributions")):
            raise ValueError(f"{name} must be of the {len(scores)} steps of the score, got shape {values.shape}")
    if isinstance(cooldown, bool) or not isinstance(cooldown, int) or cooldown < 0:
        raise ValueError(f"cooldown must be a whole number of steps of at least 0, got {cooldown!r}")
    alarms = flags & ~np.isnan(scores)
    if release is not None and not (scores[alarms] > release).all():
        raise ValueError(f"release={release!r} is not below all flagged scores: it must be at most the threshold")
    spans = _spans(scores, alarms, cooldown, release)
    return [_episode(first, last + 1, scores, alarms, p, tiers, parts) for first, last in spans]


def _spans(scores: Scores, alarms: Flags, cooldown: int, release: float | None) -> list[tuple[int, int]]:
    """First and last step of each episode."""
    held = alarms if release is None else alarms | (scores > release)
    fallen = np.cumsum(~held & ~np.isnan(scores))  # scored steps so far that would close an episode
    spans: list[tuple[int, int]] = []
    for step in np.flatnonzero(held).tolist():
        near = bool(spans) and step - spans[-1][1] - 1 <= cooldown
        if near and (alarms[step] or fallen[step] == fallen[spans[-1][1]]):
            spans[-1] = (spans[-1][0], step)
        elif alarms[step]:
            spans.append((step, step))
    return spans


def _episode(onset: int, end: int, scores: Scores, alarms: Flags, p_value: Any, tier: Any, parts: Any) -> Episode:
    inside = slice(onset, end)
    peak = onset + int(np.nanargmax(scores[inside]))
    known = None if p_value is None else p_value[inside][~np.isnan(p_value[inside])]
    channels: tuple[int, ...] = ()
    if parts is not None:
        order = np.argsort(-parts[peak], kind="stable")[:TOP]
        channels = tuple(int(channel) for channel in order if parts[peak, channel] > 0)
    least = None if known is None or not len(known) else float(known.min())
    worst = None if tier is None else int(tier[inside].max())
    return Episode(onset, end, int(alarms[inside].sum()), peak, float(scores[peak]), least, worst, channels)


def _as_flags(flagged: ArrayLike) -> Flags:
    flags = np.asarray(flagged)
    if flags.dtype != bool or flags.ndim != 1:
        raise ValueError(f"flagged must be true or false for each step, shape (N,), got {flags.dtype} {flags.shape}")
    return flags
