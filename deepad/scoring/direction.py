"""Whether a score has the right sign: higher must be more anomalous.

A model that gives similarities or likelihoods instead would flag the most normal samples, and no calibration would
notice: the rate of false alarms is the same. Here normal samples are compared with surrogates in which each value was
dealt anew among the samples, so that values are usual and only their combination is not. A score that falls by that
points the wrong way.

Members of deepad are held to the sign by their tests; this is for models of one's own. It fails, without a warning,
where values do not depend on each other (then surrogates are normal samples) and for scores that look at each value
alone; and with one, though nothing is wrong, for scores of a total, a mean or a latent code, which shuffling brings
closer to their middle.
"""

import math
import warnings
from math import prod

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.base import BLOCK
from deepad.scoring.blocks import Model, score_block
from deepad.scoring.models import is_member

LEAST = 30
"""Fewest samples that are compared."""
DEVIATIONS = 5
"""Standard errors of the rank statistic by which surrogates must score lower."""


def warn_if_upside_down(model: Model, normal: NDArray[np.generic] | None) -> None:
    """Warn if a model that is no member scores surrogates of normal samples (n, *shape) lower than them.

    Warns:
        UserWarning: the share of pairs in which the surrogate scores higher is `DEVIATIONS` standard errors below 1/2.
    """
    if is_member(model) or normal is None or len(normal) < LEAST or prod(model.shape) < 2:
        return
    normal = normal[:BLOCK]
    n = len(normal)
    dealt = np.random.default_rng(0).permuted(normal.reshape(n, -1), axis=0).reshape(normal.shape)
    score, surrogate = score_block(model, normal), score_block(model, dealt)
    higher = ((surrogate[:, None] > score).mean() + (surrogate[:, None] >= score).mean()) / 2
    if higher < 0.5 - DEVIATIONS * math.sqrt((2 * n + 1) / 12) / n:  # the error of the Mann-Whitney statistic
        warnings.warn(
            f"{type(model).__name__} scores normal samples higher than samples whose values were shuffled (in "
            f"{1 - higher:.0%} of pairs): a higher score must mean more anomalous; if it is a similarity or a "
            "likelihood, give -score",
            stacklevel=3,
        )
