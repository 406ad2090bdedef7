"""Many models on many data sets: which differ by more than chance.

The table has a row for each of S data sets and a column for each of M models, of one metric, NaN where a model failed.
Data sets are the samples here: what is said holds for data sets like these, and only if they are many and do not derive
from each other. Ranks (1 = best, ties share their mean) need no common unit.

`friedman` asks whether any model differs, with mean ranks R_j over N data sets and k models:

    chi2 = 12 N/(k (k + 1)) (sum_j R_j^2 - k (k + 1)^2/4),      F = (N - 1) chi2/(N (k - 1) - chi2),

chi2 corrected for ties, F with k - 1 and (k - 1)(N - 1) degrees of freedom. Then two mean ranks differ if they are at
least CD = q_alpha sqrt(k (k + 1)/(6 N)) apart (Nemenyi).

Whether two models differ by their mean ranks depends on which others are in the table: enough models that rank between
them part them. `pairs` tests each pair on its own values (signed ranks, Holm's correction): prefer it where the two
disagree. On 5 data sets no pair can reach 5 %: the smallest p-value of S data sets is 2/2^S before correction.

Only data sets on which all compared models have a value count: all models for ranks, the two models for a pair.

Source: Demšar, *Statistical comparisons of classifiers over multiple data sets*, 2006, section 3.2; Iman & Davenport,
*Approximations of the critical region of the Friedman statistic*, 1980; Conover, *Practical Nonparametric Statistics*,
1999 (ties, and rankings that all agree); Benavoli, Corani, Mangili, *Should we really use post-hoc tests based on
mean-ranks?*, 2016; Streitberg & Röhmel, *Exact distributions for permutation and rank tests*, 1986 (signed ranks with
ties); Holm, *A simple sequentially rejective multiple test procedure*, 1979.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from deepad.errors import InputError

Values = NDArray[np.float64]

MOST_EXACT = 50
"""Data sets up to which signed ranks are tested by their exact law, as scipy does where nothing ties."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of M models, 1 = best.

    Attributes:
        by_set: (N, M), of the data sets on which every model has a value.
        left_out: data sets on which one has none.
    """

    by_set: Values
    left_out: int

    @property
    def mean(self) -> Values:
        """Mean ranks (M,) in [1, M]."""
        return np.asarray(self.by_set.mean(axis=0))


@dataclass(frozen=True)
class Friedman:
    """Whether any model differs.

    Attributes:
        chi2: Friedman's statistic, corrected for ties.
        f: that of Iman and Davenport; infinite if all data sets rank alike.
        p_value: of F, in [0, 1]: how often models that do not differ look as different as these.
    """

    chi2: float
    f: float
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Two models on the data sets that have values of both.

    Attributes:
        a: column of the one.
        b: column of the other.
        wins: data sets on which `a` is better, by more than the tolerance.
        ties: data sets on which they differ by no more than that.
        losses: data sets on which `b` is better.
        p_value: of Wilcoxon's signed-rank test, in [0, 1]; 1 where they share no data set.
        p_holm: corrected for the number of pairs, in [0, 1]: call different what is at most alpha, and no more
            than a share alpha of all tables has a false difference.
    """

    a: int
    b: int
    wins: int
    ties: int
    losses: int
    p_value: float
    p_holm: float


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """What a table says of its M models; see the functions of the same names.

    Attributes:
        ranks: of the complete data sets.
        friedman: whether any model differs.
        critical_difference: of mean ranks.
        groups: columns that mean ranks cannot tell apart, best first; all in one where Friedman's test rejects nothing.
        pairs: every two models.
        alpha: level of the critical difference and the groups.
    """

    ranks: Ranks
    friedman: Friedman
    critical_difference: float
    groups: tuple[tuple[int, ...], ...]
    pairs: tuple[Pair, ...]
    alpha: float


def leaderboard(
    values: ArrayLike, *, alpha: float = 0.05, tolerance: float = 0.0, higher_is_better: bool = True
) -> Leaderboard:
    """Ranks, tests, groups and pairs of a table (S, M).

    Args:
        values: of one metric, a row a data set, a column a model, NaN where a model failed.
        alpha: level in (0, 1).
        tolerance: difference up to which two values count as a tie, for wins and losses only.
        higher_is_better: False for a metric such as a false-positive rate.

    Raises:
        InputError: fewer than 2 models, or than 2 data sets with values of all, or infinite values.
        ValueError: alpha or tolerance out of range.
    """
    ranks = rank(values, higher_is_better=higher_is_better)
    sets, models = ranks.by_set.shape
    difference, test = critical_difference(models, sets, alpha), friedman(ranks)
    same = groups(ranks.mean, difference if test.p_value <= alpha else math.inf)
    both = pairs(values, tolerance=tolerance, higher_is_better=higher_is_better)
    return Leaderboard(ranks, test, difference, same, both, alpha)


def rank(values: ArrayLike, *, higher_is_better: bool = True) -> Ranks:
    """Ranks of M models on each data set of a table (S, M) that has values of all.

    Raises:
        InputError: fewer than 2 models, or than 2 such data sets, or infinite values.
    """
    table = _as_table(values, higher_is_better)
    missing = np.isnan(table)
    complete = table[~missing.any(axis=1)]
    if len(complete) < 2:
        worst = int(missing.sum(axis=0).argmax())
        raise InputError(
            f"{len(complete)} of {len(table)} data sets have a value of every model, at least 2 are needed: leave out "
            f"models that failed often (column {worst} failed on {missing[:, worst].sum()})"
        )
    return Ranks(stats.rankdata(-complete, axis=1), len(table) - len(complete))


def friedman(ranks: Ranks) -> Friedman:
    """Whether any model differs from the others, from ranks (N, M)."""
    sets, models = ranks.by_set.shape
    centred = ranks.by_set - (models + 1) / 2
    spread = float((centred**2).sum())
    if spread == 0:  # every model ties with every other everywhere
        return Friedman(0.0, 0.0, 1.0)
    if (ranks.by_set == ranks.by_set[0]).all():  # F has no limit; that all data sets agree has a known probability
        _, ties = np.unique(ranks.by_set[0], return_counts=True)
        orders = math.factorial(models) // math.prod(math.factorial(int(tied)) for tied in ties)
        return Friedman(sets * (models - 1.0), math.inf, math.exp((1 - sets) * math.log(orders)))
    chi2 = (models - 1) * float((centred.sum(axis=0) ** 2).sum()) / spread
    f = (sets - 1) * chi2 / (sets * (models - 1) - chi2)
    return Friedman(chi2, f, float(stats.f.sf(f, models - 1, (models - 1) * (sets - 1))))


def critical_difference(models: int, sets: int, alpha: float = 0.05) -> float:
    """Distance of two mean ranks from which they differ, after Nemenyi, for M models on N data sets.

    Raises:
        InputError: fewer than 2 models or data sets.
        ValueError: alpha outside (0, 1).
    """
    if models < 2 or sets < 2:
        raise InputError(f"got {models} models on {sets} data sets: a comparison needs at least 2 of each")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha!r}")
    q = stats.studentized_range.ppf(1 - alpha, models, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(models * (models + 1) / (6 * sets)))


def groups(mean_ranks: ArrayLike, difference: float) -> tuple[tuple[int, ...], ...]:
    """Largest runs of models, best first, whose mean ranks (M,) are all less than the difference apart.

    A group says that its models could not be told apart, not that they are equal; groups may overlap. A model that
    differs from all others is in none.
    """
    means = np.asarray(mean_ranks, np.float64)
    order = np.argsort(means, kind="stable")
    found, end = [], 0
    for start, lowest in enumerate(means[order]):
        stop = int((means - lowest < difference).sum())
        if stop > end and stop - start > 1:
            found.append(tuple(order[start:stop].tolist()))
        end = max(end, stop)
    return tuple(found)


def pairs(values: ArrayLike, *, tolerance: float = 0.0, higher_is_better: bool = True) -> tuple[Pair, ...]:
    """Wins, ties, losses and Wilcoxon's signed-rank test with Holm's correction, of every two models of a table (S, M).

    The test is two-sided, and exact for up to 50 data sets, ties included; it uses the differences as they are,
    whatever the tolerance. Ranks of zero differences are split between both sides, as Demšar does.

    Raises:
        InputError: fewer than 2 models or data sets, or infinite values.
        ValueError: a tolerance below 0.
    """
    table = _as_table(values, higher_is_better)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and at least 0, got {tolerance!r}")
    columns = list(combinations(range(table.shape[1]), 2))
    gaps = [_gaps(table, a, b) for a, b in columns]
    p_values = [_signed_rank(gap) for gap in gaps]
    rows = zip(columns, gaps, p_values, holm(p_values), strict=True)
    return tuple(
        Pair(a, b, _count(gap > tolerance), _count(np.abs(gap) <= tolerance), _count(gap < -tolerance), p, corrected)
        for (a, b), gap, p, corrected in rows
    )


def holm(p_values: ArrayLike) -> list[float]:
    """P-values (P,) corrected for their number after Holm: at most alpha where the step-down test rejects at alpha."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in corrected]


def _as_table(values: ArrayLike, higher_is_better: bool) -> Values:
    """Values (S, M), turned so that higher is better."""
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise InputError(f"got a table of shape {table.shape}: give (S, M), at least 2 data sets by 2 models")
    if np.isinf(table).any():
        raise InputError(f"{np.isinf(table).sum()} values are infinite: give NaN where a model failed")
    return table if higher_is_better else -table


def _gaps(table: Values, a: int, b: int) -> Values:
    """Differences (S',) where both models have a value, without the rounding noise that parts 0.8 - 0.7 from 0.1.

    The noise is of the size of the two values, whatever stands elsewhere in the table.
    """
    both = table[:, [a, b]][~np.isnan(table[:, [a, b]]).any(axis=1)]
    sizes = np.abs(both).max(axis=1)
    powers = np.ceil(np.log10(np.where(sizes > 0, sizes, 1.0))).astype(int)
    gaps = zip((both[:, 0] - both[:, 1]).tolist(), powers.tolist(), strict=True)
    return np.array([round(gap, 12 - power) for gap, power in gaps], np.float64)


def _count(chosen: NDArray[np.bool_]) -> int:
    return int(chosen.sum())


def _signed_rank(gaps: Values) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of differences (S',), in [0, 1]; 1 without any."""
    if len(gaps) > MOST_EXACT:
        return float(stats.wilcoxon(gaps, zero_method="zsplit").pvalue)
    doubled = np.rint(2 * stats.rankdata(np.abs(gaps))).astype(np.int64)  # whole numbers, whatever ties
    law = np.ones(1)  # of the sum of positive ranks, each of which is positive or not by a fair coin
    for step in doubled[gaps != 0]:
        law = (np.pad(law, (0, step)) + np.pad(law, (step, 0))) / 2
    off_centre = np.abs(2 * np.arange(len(law)) - (len(law) - 1))
    seen = abs(int((np.sign(gaps) * doubled).sum()))
    return float(min(law[off_centre >= seen].sum(), 1.0))
