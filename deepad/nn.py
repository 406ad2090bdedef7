"""Layers the detectors are made of, and the running statistics they keep."""

import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
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
    for before, after in pairwise(dims):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation](), nn.Dropout(dropout)]
    return nn.Sequential(*(layer for layer in layers[:-2] if not (isinstance(layer, nn.Dropout) and dropout == 0)))


class RunningMean:
    """Running mean of a loss over the rows of an epoch; the device is not waited for."""

    def __init__(self) -> None:
        self.sum: Tensor | float = 0.0
        self.rows = 0

    def add(self, loss: Tensor, rows: int) -> None:
        """Take the mean loss of some rows into account."""
        self.sum, self.rows = self.sum + loss.detach() * rows, self.rows + rows

    def take(self) -> Tensor:
        """The mean so far; the next one starts anew."""
        mean = torch.as_tensor(self.sum) / max(self.rows, 1)
        self.sum, self.rows = 0.0, 0
        return mean


class _Moments:
    """Mean and variance over some axes of a stream of batches, exact for large offsets with small spread.

    Source: Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*, 1979.
    """

    def __init__(self, axes: list[int]) -> None:
        self.axes, self.count = axes, 0
        self.mean = self.squares = torch.tensor(0.0, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        n = math.prod(x.shape[axis] for axis in self.axes)
        mean = x.mean(self.axes, keepdim=True)
        delta = mean[0] - self.mean
        total = self.count + n
        self.squares = (
            self.squares + (x - mean).square().sum(self.axes, keepdim=True)[0] + delta**2 * self.count * n / total
        )
        self.mean, self.count = self.mean + delta * n / total, total

    def deviation(self) -> Tensor:
        """Standard deviation of the population."""
        return (self.squares / self.count).sqrt()


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
        return (x.to(self.shift.dtype) - self.shift).div_(self.scale)

    def inverse(self, u: Tensor) -> Tensor:
        """Scaled u (B, *shape) back to raw units."""
        return u * self.scale + self.shift

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Learn shift and scale in one pass over raw batches (B, *shape), accumulated in float64.

        Raises:
            ValueError: no rows.
        """
        if self.kind == "none":
            return
        axes = [0, *(axis + 1 for axis in range(self.shift.dim()) if axis not in self._kept)]
        moments = _Moments(axes)
        low, high = torch.tensor(math.inf, dtype=torch.float64), torch.tensor(-math.inf, dtype=torch.float64)
        for x in batches:
            if len(x) == 0:
                continue
            x = x.to(self.shift.device)
            low = torch.minimum(low.to(x.device), x.amin(axes, keepdim=True)[0].double())
            high = torch.maximum(high.to(x.device), x.amax(axes, keepdim=True)[0].double())
            if self.kind == "standard":
                moments.add(x.double())
        if bool((low > high).any()):
            raise ValueError("scaling cannot be learned from no rows")
        shift, scale = (low, high - low) if self.kind == "range" else (moments.mean, moments.deviation())
        constant = high == low
        drowned = ~constant & (high - low < 2**-20 * torch.maximum(high.abs(), low.abs()))
        if self.kind == "standard" and drowned.any():
            raise ValueError(
                f"{int(drowned.sum())} of {drowned.numel()} features vary by less than a millionth of their size, "
                "which float32 cannot tell: subtract an offset from them first"
            )
        if constant.any():
            kept = "feature" if len(self._kept) and self.shift.dim() == 1 else "channel"
            warnings.warn(
                f"{int(constant.sum())} of {constant.numel()} {kept}s never vary in training: they keep scale 1",
                stacklevel=2,
            )
        self.shift.copy_(shift)
        self.scale.copy_(torch.where(constant, torch.ones_like(high), scale))
        self.fitted.fill_(True)
