"""Layers the detectors are made of, and the running statistics they keep."""

import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepad.errors import InputError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

ScalingKind = Literal["standard", "range", "robust", "quantile", "none"]
KNOTS = 129
"""Quantiles that `Scaling` keeps of a feature for `kind="quantile"`."""
SAMPLE = 100_000
"""Most training rows that quantiles are taken from."""


def steady_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (.., K) times weight (N, K), plus bias (N,), with the same bits for a row wherever it stands in a batch.

    Matrix kernels treat the last rows of a batch in another way than the others if both the output is narrow and K is
    no multiple of the width of a register; zeros fill it up there. Measured over N < 132 and K < 1002: without them
    1 088 of 6 300 shapes differ in the last bits, all of them with N < 12; with them none.
    """
    short = -x.shape[-1] % 4
    if short and weight.shape[0] < 16:
        x, weight = functional.pad(x, (0, short)), functional.pad(weight, (0, short))
    return functional.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` by `steady_matmul`."""

    def forward(self, x: Tensor) -> Tensor:
        """x (.., in_features) to (.., out_features)."""
        return steady_matmul(x, self.weight, self.bias)


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
        layers += [Linear(before, after), ACTIVATIONS[activation](), nn.Dropout(dropout)]
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


class _Sample:
    """A uniform sample of at most `size` rows of a stream: those with the smallest of random keys."""

    def __init__(self, size: int) -> None:
        self.size, self.generator = size, torch.Generator().manual_seed(0)
        self.keys: list[Tensor] = []
        self.rows: list[Tensor] = []
        self.held, self.bound = 0, math.inf

    def add(self, x: Tensor) -> None:
        """Take rows (n, F) into account; all are kept as long as there are no more than `size`."""
        keys = torch.rand(len(x), generator=self.generator, dtype=torch.float64, device="cpu")
        chosen = (keys < self.bound).nonzero()[:, 0]
        self.keys.append(keys[chosen])
        self.rows.append(x[chosen.to(x.device)])
        self.held += len(chosen)
        if self.held > 2 * self.size:
            self._shrink()

    def _shrink(self) -> None:
        keys, rows = torch.cat(self.keys), torch.cat(self.rows)
        if len(keys) > self.size:
            smallest = keys.argsort()[: self.size].sort().values  # in the order of the stream
            keys, rows = keys[smallest], rows[smallest.to(rows.device)]
            self.bound = float(keys.max())
        self.keys, self.rows, self.held = [keys], [rows], len(keys)

    def quantiles(self, at: Tensor) -> Tensor:
        """Values (Q, F), float64, at places (Q,) of the sorted sample: fractions lie on the line between two rows."""
        at = at.to(self.rows[0].device)
        before = at.floor().long()
        after, share = at.ceil().long(), (at - before)[:, None]
        found = []
        for columns in torch.split(self.rows[0], 64, 1):  # a few at a time, for memory
            rows = columns.double().sort(0).values
            found.append(torch.lerp(rows[before], rows[after], share))
        return torch.cat(found, 1)

    def take(self) -> int:
        """End the sampling; returns the number of rows."""
        self._shrink()
        return self.held


class Scaling(nn.Module):
    """Map from raw units x to scaled units u, learned from training data: u = (x - shift) / scale, or by quantiles.

    Statistics are per feature for samples (D,), per channel for (C, H, W) and (T, C), and are part of the model's
    state, so whoever scores brings raw units. A feature that never varies keeps scale 1: an epsilon on it stays one.

    | kind       | u of the training rows                                                              |
    |------------|-------------------------------------------------------------------------------------|
    | `standard` | mean 0, standard deviation 1                                                        |
    | `range`    | from 0 to 1                                                                         |
    | `robust`   | median 0, interquartile range 1 (where that is 0, standard deviation 1)             |
    | `quantile` | normal: the i-th smallest of n becomes Phi^-1((i - 1/2) / n), equal values about    |
    |            | their middle; linear between `KNOTS` quantiles, which are evenly spaced in u        |
    | `none`     | x                                                                                   |

    Beyond the training range `quantile` goes on as a line, with the mean slope of the last unit of u: clipped to the
    range, as by scikit-learn's QuantileTransformer, an outlier would look like the largest normal value.
    Quantiles (`robust`, `quantile`) are those of a seeded uniform sample of `SAMPLE` rows (steps, pixels), and of all
    rows if there are no more.

    Args:
        shape: shape of one sample.
        kind: see the table.
    """

    shift: Tensor
    scale: Tensor
    fitted: Tensor
    knots: Tensor
    normal_scores: Tensor

    def __init__(self, shape: Sequence[int], kind: ScalingKind = "standard") -> None:
        super().__init__()
        if kind not in (known := get_args(ScalingKind)):
            raise ValueError(f"scaling must be {', '.join(known[:-1])} or {known[-1]}, got {kind!r}")
        if not 1 <= len(shape) <= 3:
            raise ValueError(f"scaling takes samples (D,), (T, C) or (C, H, W), got shape {tuple(shape)}")
        self.kind = kind
        kept = 1 if len(shape) == 2 else 0
        self._axis = 1 + kept
        """The axis of a batch (B, *shape) that statistics are kept for."""
        statistics = [size if axis == kept else 1 for axis, size in enumerate(shape)]
        self.register_buffer("shift", torch.zeros(statistics))
        self.register_buffer("scale", torch.ones(statistics))
        self.register_buffer("fitted", torch.tensor(kind == "none"))
        if kind == "quantile":  # F features: raw values and what they become; the outer two carry the slopes beyond
            line = torch.linspace(-1, 1, KNOTS + 2).repeat(math.prod(statistics), 1)
            self.register_buffer("knots", line)
            self.register_buffer("normal_scores", line.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Raw x (B, *shape) of any real dtype to scaled u (B, *shape), in the dtype of the model."""
        x = x.to(self.shift.dtype)
        if self.kind == "quantile":
            return self._bend(x, self.knots, self.normal_scores)
        return (x - self.shift).div_(self.scale)

    def inverse(self, u: Tensor) -> Tensor:
        """Scaled u (B, *shape) back to raw units."""
        if self.kind == "quantile":
            return self._bend(u, self.normal_scores, self.knots)
        return u * self.scale + self.shift

    def _bend(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """The piecewise linear map of x (B, *shape) that takes source (F, K) to target (F, K)."""
        moved = x.movedim(self._axis, 0).contiguous()
        flat = moved.flatten(1)
        left = torch.searchsorted(source, flat.detach(), right=True).sub_(1).clamp_(0, source.shape[1] - 2)
        near = left.clamp_min(1)  # the outer lines start from their inner ends, where they must be exact
        width, height = (knots.diff(dim=1).gather(1, left) for knots in (source, target))
        # width > 0: of equal knots the last is left
        bent = target.gather(1, near) + height * ((flat - source.gather(1, near)) / width)
        return bent.view(moved.shape).movedim(0, self._axis).contiguous()

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor], *, indicators: Sequence[int] = ()) -> None:
        """Learn the statistics in one pass over raw batches (B, *shape), accumulated in float64.

        Args:
            batches: training rows.
            indicators: places of features that say whether something is so: it may never have been so in training,
                which is worth no warning.

        Raises:
            InputError: no rows, or features that vary by less than float32 can tell.
        """
        if self.kind == "none":
            return
        axes = [0, *(axis + 1 for axis in range(self.shift.dim()) if axis + 1 != self._axis)]
        moments, sample = _Moments(axes), _Sample(SAMPLE)
        low, high = torch.tensor(math.inf, dtype=torch.float64), torch.tensor(-math.inf, dtype=torch.float64)
        for x in batches:
            if len(x) == 0:
                continue
            x = x.to(self.shift.device)
            low = torch.minimum(low.to(x.device), x.amin(axes, keepdim=True)[0].double())
            high = torch.maximum(high.to(x.device), x.amax(axes, keepdim=True)[0].double())
            if self.kind in ("standard", "robust"):
                moments.add(x.double())
            if self.kind in ("robust", "quantile"):
                sample.add(x.movedim(self._axis, 0).flatten(1).T)
        if bool((low > high).any()):
            raise InputError("scaling cannot be learned from no rows")
        if self.kind == "quantile":
            spread, size = high - low, torch.maximum(high.abs(), low.abs())
            self._require_told_apart(spread, size, high == low)
            self._learn_knots(sample, low.flatten(), high.flatten())
        else:
            self._learn_line(moments, sample, low, high)
        constant = (high == low).index_fill(0, torch.tensor(indicators, dtype=torch.int64), False)
        self._warn_of_constants(constant)
        self.fitted.fill_(True)

    def _learn_line(self, moments: _Moments, sample: _Sample, low: Tensor, high: Tensor) -> None:
        """Learn shift and scale."""
        constant, spread, size = high == low, high - low, torch.maximum(high.abs(), low.abs())
        if self.kind == "range":
            shift, scale = low, spread
        elif self.kind == "standard":
            shift, scale = moments.mean, moments.deviation()
        else:
            n = sample.take()
            quarters = sample.quantiles(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64) * (n - 1))
            shift, scale = quarters[1].view(low.shape), (quarters[2] - quarters[0]).view(low.shape)
            scale = torch.where(scale == 0, moments.deviation(), scale)
            spread, size = scale, shift.abs()
        if self.kind != "range":
            self._require_told_apart(spread, size, constant)
        self.shift.copy_(shift)
        self.scale.copy_(torch.where(constant, torch.ones_like(high), scale))
        if (faint := self.scale == 0).any():
            raise InputError(
                f"{int(faint.sum())} of {faint.numel()} features vary by less than float32 tells from 0: rescale them"
            )

    def _learn_knots(self, sample: _Sample, low: Tensor, high: Tensor) -> None:
        """Learn knots and their normal scores; low and high (F,) are the training range."""
        n = sample.take()
        end = torch.special.ndtri(torch.tensor(1 - 0.5 / n, dtype=torch.float64))
        share = torch.special.ndtr(torch.linspace(-1, 1, KNOTS, dtype=torch.float64) * end).to(low.device)
        knots = sample.quantiles((n * share - 0.5).clamp(0, n - 1))
        knots[0], knots[-1] = low, high
        knots = knots.clamp(low, high).cummax(0).values.T.to(self.knots.dtype).contiguous()  # as they will be compared
        first, last = torch.searchsorted(knots, knots), torch.searchsorted(knots, knots, right=True) - 1
        scores = torch.special.ndtri((share[first] + share[last]) / 2)
        scores = (scores * 2**16).round() / 2**16  # float32 adds such numbers exactly, so no line overshoots its knot
        self._set_knots(knots.double(), scores)

    def _set_knots(self, knots: Tensor, scores: Tensor) -> None:
        """Keep knots and normal scores (F, KNOTS) with an outer pair that carries the slopes beyond the range."""
        constant = (knots[:, :1] == knots[:, -1:]).expand(-1, 2)
        scores = torch.where(constant[:, :1], torch.zeros_like(scores), scores)
        # a unit of u inwards from both ends, or as far as the knots go
        after = torch.searchsorted(scores, scores[:, :1] + 1)
        before = torch.searchsorted(scores, scores[:, -1:] - 1, right=True) - 1
        inner = torch.cat([after, before], 1).clamp(0, KNOTS - 1)
        outer = torch.tensor([0, KNOTS - 1], device=knots.device).expand_as(inner)
        ones = torch.ones_like(constant, dtype=torch.float64)
        run = torch.where(constant, ones, (knots.gather(1, outer) - knots.gather(1, inner)).abs())
        rise = torch.where(constant, ones, (scores.gather(1, outer) - scores.gather(1, inner)).abs())
        stretch = (knots.gather(1, outer).abs() * 2**-20 / run).clamp_min(1)  # far enough for float32 to tell
        stretch = stretch.log2().ceil().exp2()  # a power of two, so that slope 1 stays exact
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=knots.device)
        beyond = knots.gather(1, outer) + sign * run * stretch
        above = scores.gather(1, outer) + sign * rise * stretch
        self.knots.copy_(torch.cat([beyond[:, :1], knots, beyond[:, 1:]], 1))
        self.normal_scores.copy_(torch.cat([above[:, :1], scores, above[:, 1:]], 1))

    def _require_told_apart(self, spread: Tensor, size: Tensor, constant: Tensor) -> None:
        drowned = ~constant & (spread < 2**-20 * size)
        if drowned.any():
            raise InputError(
                f"{int(drowned.sum())} of {drowned.numel()} features vary by less than a millionth of their size, "
                "which float32 cannot tell: subtract an offset from them first"
            )

    def _warn_of_constants(self, constant: Tensor) -> None:
        if constant.any():
            kept = "feature" if constant.dim() == 1 else "channel"
            warnings.warn(
                f"{int(constant.sum())} of {constant.numel()} {kept}s never vary in training: they keep scale 1",
                stacklevel=4,  # whoever called `fit`, past the decorator
            )
