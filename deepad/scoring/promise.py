"""From n scores to a promise: the rank that keeps a level and the `Guarantee` it earns, or the refusal.

Nothing is clamped: a level that n scores cannot promise is refused with the number that could and the other ways out.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from scipy.special import betaincinv

from deepad.errors import InsufficientCalibrationError
from deepad.scoring.envelope import envelope_bounds, round_up
from deepad.scoring.guarantee import (
    ASSUMPTIONS,
    RANKED,
    SMALLEST,
    WITH_DELTA,
    Guarantee,
    GuaranteeKind,
    check_level,
)
from deepad.scoring.ranks import block_rank, marginal_rank, pac_rank, required, required_blocks, simultaneous_rank

FEWEST_FOR_TAIL = 2500
"""Scores of which the uppermost 2 % are the 50 peaks that `deepad.scoring.tail` needs."""


def required_n(alpha: float, *, kind: str = "marginal", delta: float | None = None) -> int:
    """Smallest number of calibration scores from which `alpha` can be guaranteed.

    Raises:
        ValueError: `alpha` or `delta` outside (0, 1), or a `delta` that does not go with the kind.
    """
    alpha, delta = check_level("alpha", alpha), check_delta(kind, delta)
    return required(alpha, kind=kind, delta=delta)


def check_delta(kind: str, delta: float | None) -> float | None:
    """Return delta where the kind needs one and None where it does not.

    Raises:
        ValueError: a kind that no rank has, `pac` or `simultaneous` without delta, or another kind with one.
    """
    if kind not in RANKED:
        raise ValueError(f"kind must be one of {', '.join(RANKED)}, got {kind!r}")
    if kind in WITH_DELTA:
        if delta is None:
            raise ValueError(
                f"kind={str(kind)!r} needs delta, the allowed probability of an unlucky calibration set (say 0.05)"
            )
        return check_level("delta", delta)
    if delta is not None:
        raise ValueError(f"delta={delta} belongs to kind='pac' or 'simultaneous'; kind={str(kind)!r} takes none")
    return None


def rank_of(alpha: float, n: int, kind: str, delta: float | None) -> int:
    """Rank of the threshold of a kind, 0 if there is none; arguments are in order."""
    if delta is None:
        return marginal_rank(alpha, n)
    return (pac_rank if kind == "pac" else simultaneous_rank)(alpha, n, delta)


def guaranteed_rank(
    alpha: float, n: int, *, kind: str = "marginal", delta: float | None = None
) -> tuple[int, Guarantee]:
    """Rank k of the threshold (the k-th largest of n scores) and the promise it carries.

    Raises:
        InsufficientCalibrationError: no rank can promise `alpha` from `n` scores; the message says what could.
        ValueError: arguments out of range.
    """
    alpha, delta = check_level("alpha", alpha), check_delta(kind, delta)
    k = rank_of(alpha, n, kind, delta)
    if k == 0:
        needed = required(alpha, kind=kind, delta=delta)
        ways = _ways(alpha, n, kind, delta)
        raise InsufficientCalibrationError(
            f"alpha={alpha:g} ({kind}{'' if delta is None else f', delta={delta:g}'}) needs at least {needed} "
            f"calibration scores, got {n}: use {', or '.join(ways)}",
            n=n,
            needed=needed,
            options=tuple(ways),
        )
    if delta is None:
        attained = k / (n + 1)
    elif kind == "pac":
        attained = float(betaincinv(k, n + 1 - k, 1 - delta))
    else:
        attained = float(envelope_bounds(n, delta, k))
    return k, Guarantee(GuaranteeKind(kind), alpha, min(attained, alpha), n, k, delta, ASSUMPTIONS[kind])


def block_guarantee(budget: float, blocks: int, slots: int, unit: str) -> Guarantee:
    """The promise about the expected number of alarmed slots of a new block, from the slots of `blocks` normal ones.

    Args:
        budget: alarmed slots of a block, in (0, slots); with one slot the probability of an alarm in a block.
        blocks: normal blocks, which are exchangeable with the new one.
        slots: slots of a block, which may depend on each other in any way.
        unit: how long a block is, in words.

    Raises:
        InsufficientCalibrationError: so few alarms cannot be promised from so few blocks.
        ValueError: a budget outside its range.
    """
    if not SMALLEST < budget < slots:
        raise ValueError(
            f"the budget must lie strictly between 0 and the {slots} slots of a {unit}, got {budget!r}: every slot "
            "raises at most one alarm"
        )
    k = block_rank(budget, blocks, slots)
    if k == 0:
        needed = required_blocks(budget, slots)
        least = round_up(slots / (blocks + 1))
        ways = [f"{needed} blocks of normal data"] + ([f"a budget >= {least:.10g}"] if least < slots else [])
        ways += ["longer slots"] if slots > 1 else []
        raise InsufficientCalibrationError(
            f"a budget of {budget:.4g} false alarms a {unit} ({slots} slots) needs at least {needed} normal blocks, "
            f"got {blocks}: use {', or '.join(ways)}",
            n=blocks,
            needed=needed,
            options=tuple(ways),
        )
    level, attained = float(budget), (k - 1 + slots) / (blocks + 1)
    return Guarantee(GuaranteeKind.BLOCK, level, attained, blocks * slots, k, None, ASSUMPTIONS["block"], slots, unit)


def of_groups(parts: Mapping[str, Guarantee]) -> Guarantee:
    """What holds in every group, from the promise of each by name; all of one kind and level."""
    worst = max(parts.values(), key=lambda part: part.attained)
    ranks = tuple((name, part.n, part.k) for name, part in parts.items())
    return replace(worst, n=sum(part.n for part in parts.values()), k=0, groups=ranks)


def _ways(alpha: float, n: int, kind: str, delta: float | None) -> list[str]:
    """What can be done where `alpha` cannot be guaranteed from `n` scores, the best first."""
    if n == 0 or delta is None:
        best = 1 / (n + 1)
    else:
        best = -math.expm1(math.log(delta) / n) if kind == "pac" else float(envelope_bounds(n, delta, 1))
    advised = round_up(best)
    if delta is not None and advised < 1 and not rank_of(advised, n, kind, delta):  # met exactly but for rounding
        advised = round_up(advised * (1 + 1e-9))
    ways = [f"alpha >= {advised}"] if advised < 1 else []
    ways.append("more normal data for calibration")
    if delta is not None and marginal_rank(alpha, n):
        ways.append("kind='marginal'")
    if n >= FEWEST_FOR_TAIL and alpha >= 1 / (50 * n):
        ways.append("kind='model', a fitted tail without guarantee")
    return ways
