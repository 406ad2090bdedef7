"""Scores of raw samples by any model, in blocks of one size.

Matrix kernels choose their order of summation by the size of a batch, so a row would get other bits in another batch.
Every block is therefore filled up to `BLOCK` rows: a row has the same bits alone, in any batch and in any order.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepad.baselines.base import Baseline
from deepad.detectors.base import Detector
from deepad.scoring.conformal import Scores

BLOCK = 256

Model = Detector | Baseline


def score_block(model: Model, block: NDArray[Any]) -> Scores:
    """Scores (B,) of at most `BLOCK` samples (B, *shape)."""
    if isinstance(model, Baseline):
        return model.score(_filled(block, np.float64))[: len(block)]
    return _detect(model, block, lambda x: model.score(x))


def score_steps_of_block(model: Model, block: NDArray[Any], *, last: bool = False) -> Scores:
    """What each step, or only the last, adds to the score of its window: (B, T) or (B, 1) of at most `BLOCK` windows.

    Raises:
        InputError: a baseline that does not split its score over its input.
    """
    chosen = slice(-1, None) if last else slice(None)
    if isinstance(model, Baseline):
        parts = model.contributions(_filled(block, np.float64))
        return np.asarray(parts[: len(block), chosen].sum(2))
    return _detect(model, block, lambda x: model.contributions(x)[:, chosen].sum(2, dtype=torch.float64))


def _detect(model: Detector, block: NDArray[Any], function: Any) -> Scores:
    training = model.training
    if training:
        model.eval()
    with torch.inference_mode(), np.errstate(over="ignore"):  # a value too large for float32 scores +inf
        score = function(torch.from_numpy(_filled(block, np.float32)).to(model.device))
    if training:
        model.train()
    return np.asarray(score[: len(block)].double().cpu().numpy())


def _filled(block: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """The block with its last row repeated up to `BLOCK` rows."""
    filled = np.empty((BLOCK, *block.shape[1:]), dtype)
    filled[: len(block)] = block
    filled[len(block) :] = block[-1]
    return filled
