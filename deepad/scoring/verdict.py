"""The Verdict: what was decided about samples, and on what promise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.scoring.conformal import Scores
from deepad.scoring.guarantee import Guarantee


@dataclass(frozen=True, eq=False)
class Verdict:
    """What was decided about N samples, and on what promise.

    Attributes:
        score: (N,) anomaly scores, higher is more anomalous; NaN where the model gave none.
        p_value: (N,) in [1/(n+1), 1]: the share of normal samples that would score at least as high; NaN if it is.
        flagged: (N,) True where p_value <= k / (n + 1), with the rank k of the guarantee (for `marginal` this is
            p_value <= alpha), and where the score is NaN though there should be one: what a model fails to score is
            never called normal.
        alpha: false-alarm rate asked for.
        threshold: score above which a sample is flagged.
        guarantee: what the threshold promises.
        unscored: (N,) True for steps of a series that no window scores (the first ones, and what a recording lacks):
            they are neither normal nor flagged, their score is NaN. None for samples, which all have one.
    """

    score: Scores
    p_value: Scores
    flagged: NDArray[np.bool_]
    alpha: float
    threshold: float
    guarantee: Guarantee
    unscored: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def join(cls, parts: "Sequence[Verdict]") -> "Verdict":
        """One verdict of several that one scorer gave at one level, in their order."""
        whole: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "p_value", "flagged")
        }
        if parts[0].unscored is not None:
            whole["unscored"] = np.concatenate([part.unscored for part in parts])
        return replace(parts[0], **whole)

    @property
    def invalid(self) -> NDArray[np.bool_]:
        """(N,) True where the model failed to score; such rows are outside every statement about false alarms."""
        missing = np.isnan(self.score)
        return missing if self.unscored is None else missing & ~self.unscored

    @property
    def n_unscored(self) -> int:
        """Number of steps that no window scores."""
        return 0 if self.unscored is None else int(self.unscored.sum())

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Verdict":
        """The verdict on some of the samples, by mask, positions or slice."""
        return replace(
            self,
            score=self.score[chosen],
            p_value=self.p_value[chosen],
            flagged=self.flagged[chosen],
            unscored=None if self.unscored is None else self.unscored[chosen],
        )
