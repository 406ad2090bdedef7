"""How far a reconstruction is from its sample, and what that counts for.

The plain error of a reconstruction grows with the size of the sample: a heavy digit has more to get wrong than a thin
one, so thin anomalies look normal. Two scores of the same errors e_d are offered:

    error      s = sum_d e_d
    relative   s = sum_d e_d / E        E = energy of the sample, sum_d u_d^2 (or sum_d |u_d|), floored

Which is better depends on the data; docs/results/score-choice.md has the evidence behind the defaults.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

ErrorKind = Literal["squared", "absolute", "bernoulli"]
ScoreKind = Literal["error", "relative"]

ENERGY_FLOOR = 0.01
"""Least energy of one part of x, in scaled units: an empty sample must not divide by nothing."""


class ReconstructionError(nn.Module):
    """Errors of the parts of a reconstruction, and the score they add up to; see the module docstring.

    Args:
        shape: shape of one sample.
        error: error of one part: `"squared"` (u - v)^2, `"absolute"` |u - v|, or `"bernoulli"`, the cross entropy of u
            in [0, 1] against sigmoid(v) less the entropy of u, in nats; a value outside [0, 1] counts as the nearer
            end and adds its distance to it.
        score: `"error"` or `"relative"`.

    Raises:
        ValueError: an unknown error or score.
    """

    def __init__(self, shape: Sequence[int], error: ErrorKind, score: ScoreKind) -> None:
        super().__init__()
        if error not in ("squared", "absolute", "bernoulli"):
            raise ValueError(f"loss must be squared, absolute or bernoulli, got {error!r}")
        if score not in ("error", "relative"):
            raise ValueError(f"score must be error or relative, got {score!r}")
        self.size, self.error, self.score = prod(shape), error, score

    def loss(self, u: Tensor, v: Tensor) -> Tensor:
        """Mean error of a part, a scalar."""
        return functional.mse_loss(v, u) if self.error == "squared" else self.errors(u, v).mean()

    def errors(self, u: Tensor, v: Tensor) -> Tensor:
        """Errors (B, *shape) of scaled u against decoder output v, >= 0."""
        if self.error == "squared":
            return (u - v).square()
        if self.error == "absolute":
            return (u - v).abs()
        w = u.clamp(0, 1)
        entropy = -(torch.xlogy(w, w) + torch.xlogy(1 - w, 1 - w))
        return functional.binary_cross_entropy_with_logits(v, w, reduction="none") - entropy + (u - w).abs()

    def mean(self, u: Tensor) -> Tensor:
        """Decoder output v (B, *shape) as scaled values."""
        return u.sigmoid() if self.error == "bernoulli" else u

    def contributions(self, u: Tensor, v: Tensor) -> Tensor:
        """What each part adds to the score: (B, *shape), >= 0."""
        errors = self.errors(u, v)
        if self.score == "error":
            return errors
        energy = (u.abs() if self.error == "absolute" else u.square()).flatten(1).sum(1)
        return errors / energy.clamp_min(ENERGY_FLOOR * self.size).view(-1, *[1] * (u.dim() - 1))

    def log_mean(self, u: Tensor, v: Tensor) -> Tensor:
        """Logarithm (B,) of the mean error of a part."""
        return self.errors(u, v).flatten(1).mean(1).clamp_min(1e-12).log()


class GaussianErrors(nn.Module):
    """Gaussian model of the error vectors of a window, over steps and channels.

        e_tc ~ N(mean_c, s_t^2 Sigma)        score = sum_t || L^-1 (e_t - mean) ||^2 / s_t^2,    Sigma = L L'

    `s_t` is the typical size of the errors of step t of the window (a decoder is surer of its first steps), Sigma the
    covariance of the channels, shrunk towards a diagonal. Component c of L^-1 e is the error of channel c that is not
    explained by the errors of the channels before it, in standard deviations; its square is what the channel adds.

    Source: Malhotra et al., *LSTM-based encoder-decoder for multi-sensor anomaly detection*, 2016, section 2.2 (a
    Gaussian over the error vectors of all steps); shrinkage: Chen, Wiesel, Eldar, Hero, *Shrinkage algorithms for MMSE
    covariance estimation*, 2010, equation 23 (OAS).
    """

    mean: Tensor
    whiten: Tensor
    step: Tensor

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        steps, channels = shape
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whiten", torch.eye(channels))  # L^-1
        self.register_buffer("step", torch.ones(steps))

    def contributions(self, errors: Tensor) -> Tensor:
        """Squared standardised errors (B, T, C) of errors (B, T, C); their sum is the squared Mahalanobis distance."""
        standard = (errors - self.mean) / self.step[:, None]
        return (standard @ self.whiten.T).square()

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
        spread = covariance.diagonal().clamp_min(1e-12).sqrt()  # channels of very different sizes shrink as equals
        correlation = _shrunk(covariance / (spread[:, None] * spread), n)
        whiten = torch.linalg.solve_triangular(
            torch.linalg.cholesky(correlation), torch.eye(len(spread), dtype=torch.float64), upper=False
        )
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
