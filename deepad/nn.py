"""Layers the detectors are made of."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

ScalingKind = Literal["standard", "range", "none"]


def mlp(dims: Sequence[int], *, activation: str = "silu", dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of the given widths, with activation and dropout between them and a linear last layer.

    Raises:
        ValueError: fewer than two widths, a width below 1, an unknown activation, or dropout outside [0, 1).
    """
    if len(dims) < 2 or any(not isinstance(dim, int) or isinstance(dim, bool) or dim < 1 for dim in dims):
        raise ValueError(f"layer widths must be positive whole numbers, got {list(dims)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout!r}")
    layers: list[nn.Module] = []
    for before, after in zip(dims, dims[1:], strict=False):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation](), nn.Dropout(dropout)]
    return nn.Sequential(*(layer for layer in layers[:-2] if not (isinstance(layer, nn.Dropout) and dropout == 0)))


class Scaling(nn.Module):
    """Affine map from raw units x to scaled units u = (x - shift) / scale, learned from training data.

    Statistics are per feature for samples (D,), per channel for (C, H, W) and (T, C), and are part of the model's
    state, so whoever scores brings raw units. A feature that never varies keeps scale 1: an epsilon on it stays one.

    Args:
        shape: shape of one sample.
        kind: `"standard"` (mean 0, standard deviation 1), `"range"` (the training range becomes [0, 1]) or `"none"`.
    """

    shift: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, shape: Sequence[int], kind: ScalingKind = "standard") -> None:
        super().__init__()
        if kind not in ("standard", "range", "none"):
            raise ValueError(f"scaling must be standard, range or none, got {kind!r}")
        self.kind = kind
        self._kept = {1: (0,), 2: (1,), 3: (0,)}.get(len(shape), ())
        statistics = [size if axis in self._kept else 1 for axis, size in enumerate(shape)]
        self.register_buffer("shift", torch.zeros(statistics))
        self.register_buffer("scale", torch.ones(statistics))
        self.register_buffer("fitted", torch.tensor(kind == "none"))

    def forward(self, x: Tensor) -> Tensor:
        """Raw x (B, *shape) of any real dtype to scaled u (B, *shape), in the dtype of the model."""
        return (x.to(self.shift.dtype) - self.shift) / self.scale

    def inverse(self, u: Tensor) -> Tensor:
        """Scaled u (B, *shape) back to raw units."""
        return u * self.scale + self.shift

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Learn shift and scale in one pass over raw batches (B, *shape), accumulated in float64.

        The merge of means and squared deviations is exact for large offsets with small spread.
        Source: Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*, 1979.
        """
        if self.kind == "none":
            return
        count, mean, squares, low, high = 0, 0.0, 0.0, torch.tensor(math.inf), torch.tensor(-math.inf)
        axes = [0, *(axis + 1 for axis in range(self.shift.dim()) if axis not in self._kept)]
        for x in batches:
            x = x.to(self.shift.device, torch.float64)
            n = x.numel() // max(math.prod(x.shape[axis + 1] for axis in self._kept), 1)
            if n == 0:
                continue
            batch_mean = x.mean(axes, keepdim=True)[0]
            delta = batch_mean - mean
            squares = squares + (x - batch_mean).square().sum(axes, keepdim=True)[0] + delta**2 * count * n / (count + n)
            count, mean = count + n, mean + delta * n / (count + n)
            low = torch.minimum(low.to(x), x.amin(axes, keepdim=True)[0])
            high = torch.maximum(high.to(x), x.amax(axes, keepdim=True)[0])
        if count == 0:
            raise ValueError("scaling cannot be learned from no rows")
        shift, scale = (low, high - low) if self.kind == "range" else (mean, (squares / count) ** 0.5)
        constant = high == low
        if constant.any():
            kept = "feature" if len(self._kept) and self.shift.dim() == 1 else "channel"
            warnings.warn(
                f"{int(constant.sum())} of {constant.numel()} {kept}s never vary in training: they keep scale 1",
                stacklevel=2,
            )
        self.shift.copy_(shift)
        self.scale.copy_(torch.where(constant, torch.ones_like(high), scale))
        self.fitted.fill_(True)
