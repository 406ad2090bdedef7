"""Scores of raw samples by any model, in blocks of one size.

Matrix kernels choose their order of summation by the size of a batch, so a row would get other bits in another batch.
Every block is therefore filled up to `BLOCK` rows: a row has the same bits alone, in any batch and in any order.
Only where a device has no memory for a block are the last bits those of a smaller one, within the tolerance of ties.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepad.baselines.base import BLOCK, Baseline, filled
from deepad.detectors.base import Detector
from deepad.errors import DeepadError, InputError
from deepad.scoring.conformal import Scores

Model = Detector | Baseline


def blockwise(function: Callable[[NDArray[Any]], NDArray[Any]], x: NDArray[Any]) -> NDArray[Any]:
    """What a function of at most `BLOCK` samples makes of x (N, ...), N >= 1, block by block."""
    return np.concatenate([function(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)])


def score_block(model: Model, block: NDArray[Any]) -> Scores:
    """Scores (B,) of at most `BLOCK` samples (B, *shape)."""
    if isinstance(model, Baseline):
        whole = block.dtype.kind in "iu"  # whose exactness was looked at where they came in
        return model.score(block.astype(np.float64) if whole else block)
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
    """What a function makes of at most `BLOCK` samples (B, *shape) on the device of a detector, in float32.

    The detector is in evaluation mode meanwhile, and autocast is off, whatever the caller has set. Where a block does
    not fit into memory it goes in halves, down to one sample, which may cost the last bits.

    Raises:
        InputError: the weights have another width than float32.
        DeepadError: one sample does not fit into memory.
    """
    require_float32(model)
    if switched := [module for module in model.modules() if module.training]:
        model.eval()
    try:
        with torch.inference_mode(), torch.autocast(model.device.type, enabled=False), np.errstate(over="ignore"):
            x = torch.from_numpy(filled(block, np.float32))  # a value too large for float32 scores +inf
            return _in_memory(model, x, len(block), function)
    finally:
        for module in switched:
            module.training = True


def _in_memory(model: Detector, x: Tensor, n: int, function: Callable[[Tensor], Tensor]) -> Scores:
    """What a function makes of the first n of samples x (B, *shape), as many at once as fit into memory."""
    made: list[Scores] = []
    done, size = 0, len(x)
    while done < n:
        try:
            part = function(x[done : done + size].to(model.device)).double().cpu().numpy()
        except torch.OutOfMemoryError:
            if size == 1:
                raise DeepadError(
                    f"one sample of shape {model.shape} does not fit into the memory of {model.device}: free some of "
                    "it, or move the detector to another device"
                ) from None
            size //= 2
            continue
        made.append(part)
        done += size
    return np.concatenate(made)[:n] if len(made) > 1 else made[0][:n]


def require_float32(detector: Detector) -> None:
    """Raise `InputError` for a detector whose weights are not of the width in which scores are made."""
    odd = {weight.dtype for weight in detector.parameters()} - {torch.float32}
    if odd:
        kind, name = min(map(str, odd)), type(detector).__name__
        raise InputError(
            f"this {name} has weights in {kind}, scores are made in torch.float32: call float() on it first"
        )
