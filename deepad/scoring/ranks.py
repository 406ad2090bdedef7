"""Ranks: which of n held-out normal scores, counted from the largest, is the threshold that keeps a level.

One count serves all kinds: "flag above the k-th largest of n". What differs is which k may be promised.

| kind           | largest k with                                                    | source                         |
|----------------|-------------------------------------------------------------------|--------------------------------|
| `marginal`     | k / (n + 1) <= alpha                                              | Vovk et al. 2005               |
| `block`        | (k - 1 + M) / (B + 1) <= budget, of the n = B M slots             | Angelopoulos et al. 2024       |
| `pac`          | P(Bin(n, alpha) >= k) >= 1 - delta                                | Wilks 1941; Vovk 2012, sec. 3  |
| `simultaneous` | b_k <= alpha, with the envelope b of `deepad.scoring.envelope`    | Bates et al. 2023, sec. 3      |

Of `block`, B exchangeable blocks have M slots each, which may depend on each other in any way; the level is the
expected number of slots of a new block above the threshold. The M slots of the new block are counted as if all of them
were: that is what pays for the dependence. With one slot a block it is `marginal` for blocks.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.special import betainc

from deepad.scoring.envelope import envelope_bounds


def marginal_rank(alpha: float, n: int) -> int:
    """Largest integer k with k/(n+1) <= alpha, 0 if there is none.

    The division is rounded once and then compared, so that *p <= alpha* and *rank <= k* agree bit for bit;
    `floor(alpha * (n + 1))` rounds the product instead and is off by one for example at alpha=0.29, n=99.
    """
    return _largest(lambda k: k / (n + 1) <= alpha, n + 1)


def block_rank(budget: float, blocks: int, slots: int) -> int:
    """Largest integer k with (k - 1 + slots)/(blocks + 1) <= budget, 0 if there is none.

    With the threshold at the k-th largest slot, at most `budget` slots of a new block are expected to raise an alarm.
    Source: Angelopoulos, Bates, Fisch, Lei, Schuster, *Conformal risk control*, 2024.
    """
    return _largest(lambda k: (k - 1 + slots) / (blocks + 1) <= budget, blocks * slots)


def pac_rank(alpha: float, n: int, delta: float) -> int:
    """Largest k with P(Bin(n, alpha) >= k) >= 1 - delta, 0 if there is none.

    The false-alarm rate of "flag above the k-th largest of n" is Beta(k, n + 1 - k) for continuous scores, and
    P(Beta(k, n + 1 - k) <= alpha) = P(Bin(n, alpha) >= k). Source: Vovk 2012, section 3.
    """
    return _largest(lambda k: bool(betainc(k, n + 1 - k, alpha) >= 1 - delta), n)


def simultaneous_rank(alpha: float, n: int, delta: float) -> int:
    """Largest k whose bound in the simultaneous envelope is at most alpha, 0 if there is none."""
    return _largest(lambda k: bool(envelope_bounds(n, delta, k) <= alpha), n)


def required(alpha: float, *, kind: str, delta: float | None) -> int:
    """Smallest n for which the rank of this kind is at least 1."""
    if kind == "pac" and delta is not None:
        most = math.ceil(Fraction(math.log(delta)) / Fraction(math.log1p(-alpha))) + 2
        return _largest(lambda n: bool(betainc(1, n, alpha) < 1 - delta), most) + 1
    if kind == "simultaneous" and delta is not None:  # b_1 = 1 - delta^(1/h), where h = 1 for n < 4
        unlucky = np.log(delta)
        most = math.ceil(Fraction(float(unlucky)) / Fraction(math.log1p(-alpha))) + 2
        h = _largest(lambda h: bool(-np.expm1(unlucky / float(h)) > alpha), most) + 1
        return 2 * h if h > 1 else 1
    most = math.ceil(1 / Fraction(alpha))
    return _largest(lambda n: 1 / n > alpha, most)  # 1/(n+1) > alpha is what refuses n


def required_blocks(budget: float, slots: int) -> int:
    """Smallest number of blocks for which `block_rank` is at least 1."""
    most = math.ceil(slots / Fraction(budget))
    return _largest(lambda blocks: slots / blocks > budget, most)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """Largest k in 1..most for which a condition holds that fails from some k on; 0 if it holds for none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
