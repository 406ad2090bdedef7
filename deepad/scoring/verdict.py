"""The Verdict: what was decided about samples, and on what promise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.scoring.conformal import Scores
from deepad.scoring.guarantee import Guarantee, GuaranteeKind
from deepad.scoring.severity import name_tiers

_BY_SAMPLE = ("score", "p_value", "flagged", "threshold", "unscored", "tier", "group")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What was decided about N samples, and on what promise.

    Attributes:
        score: (N,) anomaly scores, higher is more anomalous; NaN where the model gave none.
        p_value: (N,) in [1/(n+1), 1]: the share of normal samples that would score at least as high; NaN if the score
            is, or if the sample is of a group that was not calibrated. Of a series calibrated in blocks it is the
            expected number of alarmed slots of a block with the threshold there, at most 1; it is flagged up to rank k.
        flagged: (N,) True where the score lies above the threshold, which is where p_value <= k / (n + 1) with the rank
            k of the guarantee (for `marginal` this is p_value <= alpha); and where no p-value can be given though there
            should be one: what a model fails to score is never called normal.
        alpha: false-alarm rate asked for; with tiers that of the mildest.
        threshold: score above which a sample is flagged; (N,) where each group has its own, NaN for unknown groups.
        guarantee: what the threshold promises.
        unscored: (N,) True for steps of a series that no window scores (the first ones, and what a recording lacks):
            they are neither normal nor flagged, their score is NaN. None for samples, which all have one.
        tier: (N,) how severe: 0 for what is not flagged, 1 for the mildest of `tiers`, and so on, -1 for what could not
            be judged. None without tiers.
        tiers: names of the tiers, mild to severe.
        group: (N,) the group each sample was compared with; None without groups.
    """

    score: Scores
    p_value: Scores
    flagged: NDArray[np.bool_]
    alpha: float
    threshold: float | Scores
    guarantee: Guarantee
    unscored: NDArray[np.bool_] | None = None
    tier: NDArray[np.int8] | None = None
    tiers: tuple[str, ...] = ()
    group: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def join(cls, parts: "Sequence[Verdict]") -> "Verdict":
        """One verdict of several that one scorer gave at one level, in their order."""
        columns = {name: [getattr(part, name) for part in parts] for name in _BY_SAMPLE}
        whole: dict[str, Any] = {
            name: np.concatenate(values) for name, values in columns.items() if isinstance(values[0], np.ndarray)
        }
        return replace(parts[0], **whole)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Verdict":
        """The verdict on some of the samples, by mask, positions or slice."""
        columns = {name: getattr(self, name) for name in _BY_SAMPLE}
        some: dict[str, Any] = {
            name: values[chosen] for name, values in columns.items() if isinstance(values, np.ndarray)
        }
        return replace(self, **some)

    @property
    def invalid(self) -> NDArray[np.bool_]:
        """(N,) True for what could not be judged: no score, or an unknown group; outside statements on false alarms."""
        missing = np.isnan(self.p_value)
        return missing if self.unscored is None else missing & ~self.unscored

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """(N,) True for samples of a group that was not calibrated."""
        return self.invalid & ~np.isnan(self.score)

    @property
    def n_unscored(self) -> int:
        """Number of steps that no window scores."""
        return 0 if self.unscored is None else int(self.unscored.sum())

    @property
    def tier_names(self) -> list[str]:
        """(N,) the tier of each sample by name, `""` for what is not flagged, `"invalid"` for what was not judged."""
        return name_tiers(self.tiers, np.zeros(len(self), np.int8) if self.tier is None else self.tier)

    def future_alarms(self, among: Any = None, *, level: float = 0.95) -> tuple[int, int] | None:
        """Central range of the false alarms among as many normal samples as were judged here; None without a law.

        Args:
            among: (N,) True for the samples that count, those that are normal; all that were judged if not given.
            level: probability of the range.
        """
        judged = ~np.isnan(self.p_value) if among is None else ~np.isnan(self.p_value) & among
        if self.guarantee.kind == GuaranteeKind.BLOCK or not judged.any():  # whose law is one of blocks
            return None
        if self.group is None:
            return self.guarantee.future_alarms(int(judged.sum()), level=level)
        return self.guarantee.future_alarms(Counter(self.group[judged].tolist()), level=level)
