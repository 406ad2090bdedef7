"""Scores of raw samples by any model, in blocks of one size.

Matrix kernels choose their order of summation by the size of a batch, so a row would get other bits in another batch.
Every block is therefore filled up to `BLOCK` rows: a row has the same bits alone, in any batch and in any order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepad.baselines.base import BLOCK, Baseline, filled
from deepad.detectors.base import Detector
from deepad.scoring.conformal import Scores

Model = Detector | Baseline


def blockwise(function: Callable[[NDArray[Any]], NDArray[Any]], x: NDArray[Any]) -> NDArray[Any]:
    """What a function of at most `BLOCK` samples makes of x (N, ...), N >= 1, block by block."""
    return np.concatenate([function(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)])


def score_block(model: Model, block: NDArray[Any]) -> Scores:
    """Scores (B,) of at most `BLOCK` samples (B, *shape)."""
    if isinstance(model, Baseline):
        return model.score(block)
    return detect(model, block, model.score)


def score_steps_of_block(model: Model, block: NDArray[Any], *, last: bool = False) -> Scores:
    """What each step, or only the last, adds to the score of its window: (B, T) or (B, 1) of at most `BLOCK` windows.

    A model that does not split its score is taken to spread it evenly over the steps.
    """
    chosen = slice(-1, None) if last else slice(None)
    if isinstance(model, Baseline):
        if model.explains:
            return np.asarray(model.contributions(block)[:, chosen].sum(2))
        steps = block.shape[1]
        return np.repeat(model.score(block)[:, None] / steps, 1 if last else steps, axis=1)
    return detect(model, block, lambda x: model.contributions(x)[:, chosen].sum(2, dtype=torch.float64))


def contributions_of_block(model: Model, block: NDArray[Any]) -> Scores:
    """What each value adds to the score of its sample: (B, *shape) of at most `BLOCK` samples.

    Raises:
        InputError: a baseline that does not split its score.
    """
    if isinstance(model, Baseline):
        return model.contributions(block)
    return detect(model, block, model.contributions)


def rebuilt_of_block(model: Model, block: NDArray[Any]) -> Scores | None:
    """What the model expects in place of at most `BLOCK` samples (B, *shape), in their units; None if nothing."""
    if isinstance(model, Baseline):
        return model.reconstruct(block)
    return detect(model, block, model.reconstruct)


def scaled_of_block(model: Model, block: NDArray[Any]) -> Scores:
    """At most `BLOCK` samples as rows (B, D) in the units in which the model compares them."""
    if isinstance(model, Baseline):
        return model.scaled(block)
    return detect(model, block, model.scaling).reshape(len(block), -1)


def detect(model: Detector, block: NDArray[Any], function: Callable[[Tensor], Tensor]) -> Scores:
    """What a function makes of at most `BLOCK` samples (B, *shape) on the device of a detector in evaluation mode."""
    training = model.training
    if training:
        model.eval()
    with torch.inference_mode(), np.errstate(over="ignore"):  # a value too large for float32 scores +inf
        score = function(torch.from_numpy(filled(block, np.float32)).to(model.device))
    if training:
        model.train()
    return np.asarray(score[: len(block)].double().cpu().numpy())
