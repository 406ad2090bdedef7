"""Variational autoencoder: a probability model of normal samples; an anomaly is improbable under it.

    q(z|x) = N(mu(u), diag sigma(u)^2),   p(z) = N(0, I),   p(u|z) = prod_d p(u_d | decoder(z))
    loss   = E_q[-log p(u|z)] + beta * KL(q(z|x) || p(z))                              (per part of x, in nats)

Three scores, all in nats and higher for what is less probable, with z_1..z_S = mu + sigma * (stored draws):

    probability   -1/S sum_s log p(u|z_s)                       reconstruction probability (An, Cho 2015, algorithm 4)
    elbo          the same + KL(q || p)                         negative evidence lower bound (Kingma, Welling 2014)
    importance    -log 1/S sum_s p(u|z_s) p(z_s) / q(z_s|x)     a tighter bound (Burda et al. 2016, equation 8)

The draws are stored with the model, so a score is deterministic and the same alone or in any batch. Densities are in
scaled units: scores of Gaussian models may be negative, and scores of models with different scalings do not compare.

Assumption: normal samples are what the decoder makes of Gaussian codes. It fails where improbable is a matter of size:
a thin digit has few parts to get wrong and is more probable than any normal one.

Source: Kingma, Welling, *Auto-encoding variational Bayes*, 2014; An, Cho, *Variational autoencoder based anomaly
detection using reconstruction probability*, 2015; Burda, Grosse, Salakhutdinov, *Importance weighted autoencoders*,
2016; beta: Higgins et al., *beta-VAE*, 2017; warm-up: Sønderby et al., *Ladder variational autoencoders*, 2016.
"""

import math
from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepad.detectors.base import Detector
from deepad.detectors.residuals import bernoulli_divergence, energy, require_unit_range
from deepad.nn import ScalingKind, mlp

LEAST_VARIANCE = 1e-3
"""Of a part given the code, in squared scaled units: a part that never varies must not outweigh all others."""
VALIDATION_DRAWS = 4
"""Stored draws that the validation loss uses: enough to choose weights by."""


class VariationalAutoencoder(Detector):
    """Variational autoencoder of fully connected layers, for samples of any shape (they are flattened).

    Args:
        shape: shape of one sample, `(D,)`, `(C, H, W)` or `(T, C)`.
        hidden_dims: widths from the input towards the latent code.
        latent_dim: width of the latent code.
        decoder_dims: widths from the latent code towards the output; `hidden_dims` in reverse if not given.
        activation: one of `deepad.nn.ACTIVATIONS`.
        dropout: share of hidden units dropped in training, in [0, 1).
        likelihood: `"bernoulli"` for parts in [0, 1], `"gaussian"` with a variance that is learned; the default is
            bernoulli for images and gaussian for all else. A grey value counts as a probability, and -log p as the
            divergence of the predicted probability from it: the same for 0 and 1, and 0 where they agree.
        variance: of the gaussian: `"feature"`, one for each part, or `"sample"`, given by the decoder for each part of
            each sample.
        beta: weight of the KL term, > 0.
        warmup: share of the training steps over which that weight rises to beta, in [0, 1]; it is never 0.
        score: `"probability"`, `"elbo"` or `"importance"`, in nats, see the module docstring. Default: probability for
            images and elbo for all else, which ranked better in docs/results/score-choice.md.
        relative: divide the score by the energy of the sample (`residuals.energy`); for bernoulli.
        draws: number of stored latent draws, an even number >= 2.
        scaling: see `Detector`; the default suits the likelihood (`"range"` for bernoulli, else `"standard"`).
        lr: see `Detector`.
        weight_decay: see `Detector`.
        patience: see `Detector`.

    Raises:
        ValueError: an argument outside its range.
    """

    draws: Tensor
    variance: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        hidden_dims: Sequence[int] = (256, 64),
        latent_dim: int = 8,
        decoder_dims: Sequence[int] | None = None,
        activation: str = "silu",
        dropout: float = 0.0,
        likelihood: Literal["bernoulli", "gaussian"] | None = None,
        variance: Literal["feature", "sample"] = "feature",
        beta: float = 1.0,
        warmup: float = 0.1,
        score: Literal["probability", "elbo", "importance"] | None = None,
        relative: bool = False,
        draws: int = 16,
        scaling: ScalingKind | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
    ) -> None:
        if likelihood is None:
            likelihood = "bernoulli" if len(tuple(shape)) == 3 else "gaussian"
        if score is None:
            score = "probability" if len(tuple(shape)) == 3 else "elbo"
        if scaling is None:
            scaling = "range" if likelihood == "bernoulli" else "standard"
        super().__init__(shape, scaling=scaling, lr=lr, weight_decay=weight_decay, patience=patience)
        _check(likelihood, variance, score, scaling, beta=beta, warmup=warmup, draws=draws)
        if relative and likelihood != "bernoulli":
            raise ValueError("relative=True is for likelihood='bernoulli': nats of a density may be negative")
        size = prod(self.shape)
        decoder_dims = tuple(reversed(hidden_dims)) if decoder_dims is None else decoder_dims
        by_sample = likelihood == "gaussian" and variance == "sample"
        self.encoder = mlp([size, *hidden_dims, 2 * latent_dim], activation=activation, dropout=dropout)
        self.decoder = mlp([latent_dim, *decoder_dims, size * (1 + by_sample)], activation=activation, dropout=dropout)
        by_feature = likelihood == "gaussian" and variance == "feature"
        self.register_parameter("variance", nn.Parameter(torch.zeros(size)) if by_feature else None)  # before softplus
        self.register_buffer("draws", torch.empty(draws, latent_dim))
        if not self.draws.is_meta:  # there a file may announce any size
            half = np.random.default_rng(0).standard_normal((draws // 2, latent_dim), dtype=np.float32)
            self.draws.copy_(torch.from_numpy(np.stack([half, -half], 1)).view(draws, latent_dim))
        self.likelihood, self.by_sample, self.kind = likelihood, by_sample, score
        self.beta, self.warmup, self.relative = beta, warmup, relative

    # ---- training ----------------------------------------------------------------------------------------------

    def loss(self, x: Tensor) -> Tensor:
        """Negative evidence lower bound of a part of x, in nats; in validation with stored draws and full beta."""
        u = self.scaling(x).flatten(1)
        mu, log_var = self._encode(u)
        if self.training:
            z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
            surprise = self._surprise(u, self.decoder(z)).sum(1)
            weight = self.beta * self._warm()
        else:
            draws = self.draws[:VALIDATION_DRAWS]
            drawn = [surprise.sum(1) for _, surprise in self._by_draw(u, mu, log_var, draws)]
            surprise = torch.stack(drawn).mean(0)
            weight = self.beta
        loss: Tensor = (surprise + weight * kl_from_standard(mu, log_var)).mean() / u.shape[1]
        return loss

    def _warm(self) -> float:
        """Share of beta at this training step, in (0, 1]."""
        if self._trainer is None or self.warmup == 0:
            return 1.0
        steps = self.warmup * self.trainer.estimated_stepping_batches
        return min(1.0, (self.trainer.global_step + 1) / max(steps, 1)) if math.isfinite(steps) else 1.0

    # ---- scoring -----------------------------------------------------------------------------------------------

    def contributions(self, x: Tensor) -> Tensor:
        """Nats each part of x adds to the score: (B, *shape); they may be negative.

        What belongs to no part (the KL term, the importance weights) is spread evenly.
        """
        u = self.scaling(x).flatten(1)
        mu, log_var = self._encode(u)
        parts, rest = self._parts(u, mu, log_var)
        nats = parts + rest[:, None] / u.shape[1]
        return torch.as_tensor(nats / energy(u)[:, None] if self.relative else nats).view(x.shape)

    def _parts(self, u: Tensor, mu: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
        """Nats of the parts (B, D) and nats of no part (B,); one draw at a time, so that memory is that of one."""
        if self.kind == "importance":
            return self._importance_parts(u, mu, log_var)
        parts = torch.zeros_like(u)
        for _, surprise in self._by_draw(u, mu, log_var, self.draws):
            parts += surprise
        kl = kl_from_standard(mu, log_var) if self.kind == "elbo" else torch.zeros_like(mu[:, 0])
        return parts / len(self.draws), kl

    def _importance_parts(self, u: Tensor, mu: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
        """Parts weighed by the importance of their draw; sums are kept relative to the largest weight so far."""
        parts, total, largest = torch.zeros_like(u), torch.zeros_like(u[:, 0]), torch.full_like(u[:, 0], -torch.inf)
        for z, surprise in self._by_draw(u, mu, log_var, self.draws):
            log_prior = -0.5 * z.square().sum(1)
            log_posterior = -0.5 * ((z - mu).square() / log_var.exp() + log_var).sum(1)
            log_weight = log_prior - log_posterior - surprise.sum(1)  # log p(u|z) p(z) / q(z|x), (B,)
            before, largest = largest, torch.maximum(largest, log_weight)
            weight, shrink = (log_weight - largest).exp(), (before - largest).exp()
            total = total * shrink + weight
            parts = parts * shrink[:, None] + weight[:, None] * surprise
        parts = parts / total[:, None]
        return parts, math.log(len(self.draws)) - largest - total.log() - parts.sum(1)

    def features(self, x: Tensor) -> Tensor:
        """Mean of the latent code and the mean nats of a part: (B, latent_dim + 1)."""
        u = self.scaling(x).flatten(1)
        mu, _ = self._encode(u)
        return torch.cat([mu, self._surprise(u, self.decoder(mu)).mean(1, keepdim=True)], 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean of the likelihood at the mean of the latent code, in raw units."""
        u = self.scaling(x).flatten(1)
        v = self.decoder(self._encode(u)[0])[:, : u.shape[1]]
        return self.scaling.inverse((v.sigmoid() if self.likelihood == "bernoulli" else v).view(x.shape))

    # ---- the model ---------------------------------------------------------------------------------------------

    def _encode(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z|x), (B, latent_dim) each."""
        mu, log_var = self.encoder(u).chunk(2, 1)
        return mu, log_var.clamp(-20, 20)

    def _surprise(self, u: Tensor, v: Tensor) -> Tensor:
        """-log p (B, D) of the parts of u given decoder output v (B, D or 2 D)."""
        if self.likelihood == "bernoulli":
            return bernoulli_divergence(u, v)
        mean, raw = v.chunk(2, -1) if self.by_sample else (v, self.variance)
        variance = LEAST_VARIANCE + functional.softplus(raw)
        return 0.5 * ((u - mean).square() / variance + variance.log() + math.log(2 * math.pi))

    def _by_draw(self, u: Tensor, mu: Tensor, log_var: Tensor, draws: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The code (B, latent_dim) of each draw (latent_dim,), and -log p (B, D) of the parts of u given it."""
        deviation = torch.exp(0.5 * log_var)
        for draw in draws:
            z = mu + deviation * draw
            yield z, self._surprise(u, self.decoder(z))


def kl_from_standard(mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mu, diag exp(log_var)) || N(0, I)) (B,) in nats, of (B, latent_dim).

    Source: Kingma, Welling, *Auto-encoding variational Bayes*, 2014, appendix B.
    """
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)


def _check(likelihood: str, variance: str, score: str, scaling: str, *, beta: float, warmup: float, draws: int) -> None:
    """Raise `ValueError` for an argument outside its range."""
    for name, value, known in (
        ("likelihood", likelihood, ("bernoulli", "gaussian")),
        ("variance", variance, ("feature", "sample")),
        ("score", score, ("probability", "elbo", "importance")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if likelihood == "bernoulli":
        require_unit_range("likelihood", scaling)
    if not 0 < beta < math.inf or not 0 <= warmup <= 1 or type(draws) is not int or draws < 2 or draws % 2:
        raise ValueError(
            f"need finite beta > 0, warmup in [0, 1] and an even number of draws >= 2, got {beta}, {warmup}, {draws}"
        )
