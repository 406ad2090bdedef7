"""Dense autoencoder: normal samples lie near a low-dimensional surface, anomalies do not.

    z = encoder(u + noise),  v = decoder(z),  score(x) = sum_d error(u_d, v_d)      (u = scaled x)

Assumption: what is normal can be rebuilt from `latent_dim` numbers and what is anomalous cannot.
It fails where anomalies are simpler than normal samples: the error of plain reconstruction grows with the energy of the
input, so an anomaly with little ink or amplitude rebuilds well. `score="relative"` divides the error by that energy.

Source: Rumelhart, Hinton, Williams, *Learning internal representations by error propagation*, 1986; Hawkins et al.,
*Outlier detection using replicator neural networks*, 2002; denoising: Vincent et al., *Extracting and composing robust
features with denoising autoencoders*, 2008.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from deepad.detectors.base import Detector
from deepad.nn import ScalingKind, mlp

ENERGY_FLOOR = 0.01
"""Least energy of one part of x, in scaled units: an empty sample must not divide by nothing."""


class DenseAutoencoder(Detector):
    """Autoencoder of fully connected layers, for samples of any shape (they are flattened).

    Args:
        shape: shape of one sample, `(D,)`, `(C, H, W)` or `(T, C)`.
        hidden_dims: widths from the input towards the latent code.
        latent_dim: width of the latent code.
        decoder_dims: widths from the latent code towards the output; `hidden_dims` in reverse if not given.
        activation: one of `deepad.nn.ACTIVATIONS`.
        dropout: share of hidden units dropped in training, in [0, 1).
        noise: standard deviation of the Gaussian noise added to u in training, in scaled units, >= 0.
        loss: error of one part of x: `"squared"` (u - v)^2, `"absolute"` |u - v|, or `"bernoulli"`, the cross entropy
            of u in [0, 1] against sigmoid(v) less the entropy of u, in nats; a value
            outside [0, 1] counts as the nearer end and adds its distance to it.
        score: `"error"`, the sum of the parts' errors, or `"relative"`, the same divided by the energy of the sample:
            sum u_d^2, for `"absolute"` sum |u_d|, at least `ENERGY_FLOOR` a part.
        scaling: see `Detector`; the default suits the loss (`"range"` for bernoulli and images, else `"standard"`).
        lr: see `Detector`.
        weight_decay: see `Detector`.
        patience: see `Detector`.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        hidden_dims: Sequence[int] = (256, 64),
        latent_dim: int = 10,
        decoder_dims: Sequence[int] | None = None,
        activation: str = "silu",
        dropout: float = 0.0,
        noise: float = 0.0,
        loss: Literal["squared", "absolute", "bernoulli"] = "squared",
        score: Literal["error", "relative"] = "error",
        scaling: ScalingKind | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
    ) -> None:
        if scaling is None:
            scaling = "range" if loss == "bernoulli" or len(tuple(shape)) == 3 else "standard"
        super().__init__(shape, scaling=scaling, lr=lr, weight_decay=weight_decay, patience=patience)
        if loss not in ("squared", "absolute", "bernoulli"):
            raise ValueError(f"loss must be squared, absolute or bernoulli, got {loss!r}")
        if score not in ("error", "relative"):
            raise ValueError(f"score must be error or relative, got {score!r}")
        if loss == "bernoulli" and scaling == "standard":
            raise ValueError(
                "loss='bernoulli' needs values in [0, 1]: use scaling='range', or 'none' if they are already"
            )
        if not noise >= 0:
            raise ValueError(f"noise must be >= 0, got {noise!r}")
        size = prod(self.shape)
        decoder_dims = tuple(reversed(hidden_dims)) if decoder_dims is None else decoder_dims
        self.encoder = mlp([size, *hidden_dims, latent_dim], activation=activation, dropout=dropout)
        self.decoder = mlp([latent_dim, *decoder_dims, size], activation=activation, dropout=dropout)
        self.noise, self.error, self.relative = noise, loss, score == "relative"

    def loss(self, x: Tensor) -> Tensor:
        """Mean error of a part of x, with noise on the input."""
        u = self.scaling(x).flatten(1)
        noisy = u + self.noise * torch.randn_like(u) if self.noise and self.training else u
        v = self.decoder(self.encoder(noisy))
        return functional.mse_loss(v, u) if self.error == "squared" else self._errors(u, v).mean()

    def contributions(self, x: Tensor) -> Tensor:
        """Error of each part of x, divided by the energy of the sample for `score="relative"`."""
        u = self.scaling(x).flatten(1)
        errors = self._errors(u, self.decoder(self.encoder(u)))
        if self.relative:
            energy = (u.abs() if self.error == "absolute" else u.square()).sum(1, keepdim=True)
            errors = errors / energy.clamp_min(ENERGY_FLOOR * u.shape[1])
        return errors.view(x.shape)

    def features(self, x: Tensor) -> Tensor:
        """Latent code and the logarithm of the mean error: (B, latent_dim + 1)."""
        u = self.scaling(x).flatten(1)
        z = self.encoder(u)
        return torch.cat([z, self._errors(u, self.decoder(z)).mean(1, keepdim=True).clamp_min(1e-12).log()], 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decoder output for x, in raw units."""
        v = self.decoder(self.encoder(self.scaling(x).flatten(1)))
        return self.scaling.inverse((v.sigmoid() if self.error == "bernoulli" else v).view(x.shape))

    def _errors(self, u: Tensor, v: Tensor) -> Tensor:
        """Errors (B, D) of scaled u against decoder output v, >= 0."""
        if self.error == "squared":
            return (u - v).square()
        if self.error == "absolute":
            return (u - v).abs()
        w = u.clamp(0, 1)
        entropy = -(torch.xlogy(w, w) + torch.xlogy(1 - w, 1 - w))
        return functional.binary_cross_entropy_with_logits(v, w, reduction="none") - entropy + (u - w).abs()
