"""How far a reconstruction is from its sample, and what that counts for.

The plain error of a reconstruction grows with the size of the sample: a heavy digit has more to get wrong than a thin
one, so thin anomalies look normal. Two scores of the same errors e_d are offered:

    error      s = sum_d e_d
    relative   s = sum_d e_d / E        E = energy of the sample, sum_d u_d^2 (or sum_d |u_d|), floored

Which is better depends on the data; docs/results/score-choice.md has the evidence behind the defaults.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepad.nn import steady_matmul

ErrorKind = Literal["squared", "absolute", "bernoulli"]
ScoreKind = Literal["error", "relative"]

LEAST_ERROR = 0.01
"""Least standard deviation of an error, in scaled units: what never varied is no emergency when it moves a little."""
ENERGY_FLOOR = 0.01
"""Least energy of one part of x, in scaled units: an empty sample must not divide by nothing."""


@dataclass(frozen=True)
class ReconstructionError:
    """Errors of the parts of a reconstruction, and the score they add up to; see the module docstring.

    Args:
        error: error of one part: `"squared"` (u - v)^2, `"absolute"` |u - v|, or `"bernoulli"`, the divergence of
            sigmoid(v) from u in [0, 1] in nats (`bernoulli_divergence`).
        score: `"error"` or `"relative"`.

    Raises:
        ValueError: an unknown error or score.
    """

    error: ErrorKind
    score: ScoreKind

    def __post_init__(self) -> None:
        if self.error not in ("squared", "absolute", "bernoulli"):
            raise ValueError(f"loss must be squared, absolute or bernoulli, got {self.error!r}")
        if self.score not in ("error", "relative"):
            raise ValueError(f"score must be error or relative, got {self.score!r}")

    def loss(self, u: Tensor, v: Tensor) -> Tensor:
        """Mean error of a part, a scalar."""
        return functional.mse_loss(v, u) if self.error == "squared" else self.errors(u, v).mean()

    def errors(self, u: Tensor, v: Tensor) -> Tensor:
        """Errors (B, *shape) of scaled u against decoder output v, >= 0."""
        if self.error == "squared":
            return (u - v).square()
        if self.error == "absolute":
            return (u - v).abs()
        return bernoulli_divergence(u, v)

    def mean(self, v: Tensor) -> Tensor:
        """Decoder output v (B, *shape) as scaled values."""
        return v.sigmoid() if self.error == "bernoulli" else v

    def contributions(self, u: Tensor, v: Tensor) -> Tensor:
        """What each part adds to the score: (B, *shape), >= 0."""
        errors = self.errors(u, v)
        if self.score == "error":
            return errors
        return errors / energy(u, absolute=self.error == "absolute").view(-1, *[1] * (u.dim() - 1))

    def log_mean(self, u: Tensor, v: Tensor) -> Tensor:
        """Logarithm (B,) of the mean error of a part."""
        return self.errors(u, v).flatten(1).mean(1).clamp_min(1e-12).log()


def energy(u: Tensor, *, absolute: bool = False) -> Tensor:
    """Energy (B,) of samples (B, *shape): sum u_d^2, or sum |u_d|, at least `ENERGY_FLOOR` for each part."""
    parts = (u.abs() if absolute else u.square()).flatten(1)
    return parts.sum(1).clamp_min(ENERGY_FLOOR * parts.shape[1])


def bernoulli_divergence(u: Tensor, v: Tensor) -> Tensor:
    """KL(Bernoulli(u) || Bernoulli(sigmoid(v))) in nats, elementwise for u that broadcasts to v, >= 0.

    For u = 0 and u = 1 this is -log p(u), for values between it is the cross entropy less the entropy of u, which no
    model can avoid. A value outside [0, 1] counts as the nearer end and adds its distance to it.
    """
    w = u.clamp(0, 1)
    entropy = -(torch.xlogy(w, w) + torch.xlogy(1 - w, 1 - w))
    divergence = functional.binary_cross_entropy_with_logits(v, w.expand_as(v), reduction="none") - entropy
    return divergence.clamp_min(0) + (u - w).abs()  # rounding may leave less than 0


def require_unit_range(argument: str, scaling: str) -> None:
    """Raise `ValueError` for a scaling whose values leave [0, 1], where `argument` is `"bernoulli"`."""
    if scaling not in ("range", "none"):
        raise ValueError(
            f"{argument}='bernoulli' needs values in [0, 1], which scaling={scaling!r} does not give: use 'range', or "
            "'none' if they are already"
        )


class GaussianErrors(nn.Module):
    """Gaussian model of the error vectors of a window, over steps and channels.

        e_tc ~ N(mean_c, s_t^2 V^1/2 P V^1/2)        score = sum_t || P^-1/2 V^-1/2 (e_t - mean) ||^2 / s_t^2

    `s_t` is the typical size of the errors of step t of the window (a decoder is surer of its first steps), V and P are
    variances and correlations of the channels, shrunk towards none. P^-1/2 is symmetric: of all ways to whiten it
    leaves component c most like the standardised error of channel c, so its square is what the channel adds.

    Source: Malhotra et al., *LSTM-based encoder-decoder for multi-sensor anomaly detection*, 2016, section 2.2 (a
    Gaussian over the error vectors of all steps); contributions: Garthwaite, Koch, *Evaluating the contributions of
    individual variables to a quadratic form*, 2016; shrinkage: Chen, Wiesel, Eldar, Hero, *Shrinkage algorithms for
    MMSE covariance estimation*, 2010, equation 23 (OAS).
    """

    mean: Tensor
    whiten: Tensor
    step: Tensor

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        steps, channels = shape
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whiten", torch.eye(channels))  # P^-1/2 V^-1/2
        self.register_buffer("step", torch.ones(steps))

    def contributions(self, errors: Tensor) -> Tensor:
        """Squared standardised errors (B, T, C) of errors (B, T, C); their sum is the squared Mahalanobis distance."""
        standard = (errors - self.mean) / self.step[:, None]
        return steady_matmul(standard, self.whiten).square()

    @torch.no_grad()
    def learn(self, errors: Iterable[Tensor]) -> None:
        """Fit to the errors of normal validation windows, batches (B, T, C), in one pass and float64."""
        n, first, second = 0, torch.zeros(1), torch.zeros(1)
        for batch in errors:
            e = batch.double().cpu()
            n, first, second = n + len(e), first + e.sum(0), second + torch.einsum("btc,btd->tcd", e, e)
        first, second = first / n, second / n  # (T, C) and (T, C, C)
        mean = first.mean(0)
        cross = first[:, :, None] * mean
        central = second - cross - cross.transpose(1, 2) + mean[:, None] * mean
        size = central.diagonal(dim1=1, dim2=2).mean(1).clamp_min(0).sqrt()
        step = (size / size.mean().clamp_min(1e-12)).clamp_min(1e-2)
        covariance = (central / step.square()[:, None, None]).mean(0)
        covariance.diagonal().clamp_(min=LEAST_ERROR**2)  # a channel without errors must not be infinitely sure
        spread = covariance.diagonal().sqrt()  # channels of very different sizes shrink as equals
        # by the number of windows: one step apart, as validation windows are, that is how many steps there are
        correlation = _shrunk(covariance / (spread[:, None] * spread), n)
        values, vectors = torch.linalg.eigh(correlation)
        whiten = (vectors / values.sqrt()) @ vectors.T
        self.mean.copy_(mean)
        self.step.copy_(step)
        self.whiten.copy_(whiten / spread)


def _shrunk(s: Tensor, n: int) -> Tensor:
    """Covariance s (C, C) of n vectors, shrunk towards a multiple of the identity; see `GaussianErrors`."""
    p, square, trace = len(s), s.square().sum(), s.trace()
    below = (n + 1 - 2 / p) * (square - trace**2 / p)
    rho = (((1 - 2 / p) * square + trace**2) / below).clamp(0, 1) if below > 0 else torch.ones_like(trace)
    rho = rho.clamp_min(1e-4)  # never singular, whatever the channels
    identity = torch.eye(p, dtype=s.dtype)
    return (1 - rho) * s + rho * trace / p * identity
