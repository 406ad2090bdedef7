"""The Verdict: what was decided about samples, and on what promise."""

from dataclasses import dataclass

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
            p_value <= alpha), and where the score is NaN: what cannot be scored is never called normal.
        alpha: false-alarm rate asked for.
        threshold: score above which a sample is flagged.
        guarantee: what the threshold promises.
    """

    score: Scores
    p_value: Scores
    flagged: NDArray[np.bool_]
    alpha: float
    threshold: float
    guarantee: Guarantee

    def __len__(self) -> int:
        return len(self.score)

    @property
    def invalid(self) -> NDArray[np.bool_]:
        """(N,) True where there is no score; such rows are outside every statement about false alarms."""
        return np.isnan(self.score)
