"""Whether a training taught a model anything: checks that refuse what only looks trained."""

from collections.abc import Mapping

import torch
from torch import Tensor

from deepad.errors import LearningError


def require_touched(before: Mapping[str, Tensor], after: Mapping[str, Tensor], x: Tensor) -> None:
    """Raise `LearningError` if a weight has the bits it had before training; rows x all equal teach nothing."""
    untouched = [name for name, weight in before.items() if torch.equal(weight, after[name])]
    if untouched and not _all_same(x):
        raise LearningError(
            f"training did not change {', '.join(untouched[:3])}{' and more' if len(untouched) > 3 else ''}: "
            "check lr and that the loss reaches every layer"
        )


def require_spread(scores: Tensor, x: Tensor) -> None:
    """Raise `LearningError` if scores (B,) of different rows x (B, *shape) are all the same."""
    same = scores.max() - scores.min() <= 1e-6 * scores.abs().max()
    if same and not _all_same(x):
        raise LearningError(
            f"all {len(scores)} validation scores equal {scores[0].item():.6g}: the model has collapsed; "
            "lower lr or weight_decay, or widen it"
        )


def _all_same(x: Tensor) -> bool:
    return torch.equal(x, x[:1].expand_as(x))
