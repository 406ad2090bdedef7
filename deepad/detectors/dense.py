"""Dense autoencoder: normal samples lie near a low-dimensional surface, anomalies do not.

    z = encoder(u + noise),  v = decoder(z),  score(x) = sum_d error(u_d, v_d)      (u = scaled x)

Assumption: what is normal can be rebuilt from `latent_dim` numbers and what is anomalous cannot.
It fails where anomalies are simpler than normal samples: the error of plain reconstruction grows with the energy of the
input, so an anomaly with little ink or amplitude rebuilds well. `score="relative"` divides the error by that energy.

Source: Rumelhart, Hinton, Williams, *Learning internal representations by error propagation*, 1986; Hawkins et al.,
*Outlier detection using replicator neural networks*, 2002; denoising: Vincent et al., *Extracting and composing robust
features with denoising autoencoders*, 2008.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor

from deepad.detectors.base import Detector
from deepad.detectors.residuals import ErrorKind, GaussianErrors, ReconstructionError, ScoreKind, require_unit_range
from deepad.nn import ScalingKind, mlp


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
        loss: `"squared"`, `"absolute"` or `"bernoulli"`, see `deepad.detectors.residuals.ReconstructionError`.
        score: `"error"` or `"relative"`, see there, or `"gaussian"`, the squared Mahalanobis distance of the errors
            u - v under a Gaussian fitted on normal validation errors (`residuals.GaussianErrors`), for all but images.
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
        loss: ErrorKind = "squared",
        score: ScoreKind | Literal["gaussian"] = "error",
        scaling: ScalingKind | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
    ) -> None:
        if scaling is None:
            scaling = "range" if loss == "bernoulli" or len(tuple(shape)) == 3 else "standard"
        super().__init__(shape, scaling=scaling, lr=lr, weight_decay=weight_decay, patience=patience)
        if loss == "bernoulli":
            require_unit_range("loss", scaling)
        if not noise >= 0:
            raise ValueError(f"noise must be >= 0, got {noise!r}")
        size = prod(self.shape)
        decoder_dims = tuple(reversed(hidden_dims)) if decoder_dims is None else decoder_dims
        self.encoder = mlp([size, *hidden_dims, latent_dim], activation=activation, dropout=dropout)
        self.decoder = mlp([latent_dim, *decoder_dims, size], activation=activation, dropout=dropout)
        if score == "gaussian" and (len(self.shape) == 3 or loss == "bernoulli"):
            raise ValueError(
                f"score='gaussian' is for errors of tables and windows, got samples of shape {self.shape} and "
                f"loss={loss!r}: use 'error' or 'relative'"
            )
        self.error = ReconstructionError(loss, "error" if score == "gaussian" else score)
        steps, width = (1, *self.shape)[-2:]
        self.errors = GaussianErrors((steps, width)) if score == "gaussian" else None
        self.noise = noise

    def loss(self, x: Tensor) -> Tensor:
        """Mean error of a part of x, with noise on the input."""
        u = self.scaling(x).flatten(1)
        noisy = u + self.noise * torch.randn_like(u) if self.noise and self.training else u
        return self.error.loss(u, self.decoder(self.encoder(noisy)))

    def contributions(self, x: Tensor) -> Tensor:
        """Error of each part of x, divided by what `score` says: (B, *shape), >= 0."""
        if self.errors is not None:
            return self.errors.contributions(self._errors(x)).view(x.shape)
        return self.error.contributions(*self._rebuilt(x)).view(x.shape)

    def features(self, x: Tensor) -> Tensor:
        """Latent code and the logarithm of the mean error: (B, latent_dim + 1)."""
        u = self.scaling(x).flatten(1)
        z = self.encoder(u)
        return torch.cat([z, self.error.log_mean(u, self.decoder(z))[:, None]], 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decoder output for x, in raw units."""
        return self.scaling.inverse(self.error.mean(self._rebuilt(x)[1]).view(x.shape))

    def learn_residuals(self, batches: Iterable[Tensor]) -> None:
        """The Gaussian of the errors, for `score="gaussian"`."""
        if self.errors is not None:
            self.errors.learn(map(self._errors, batches))

    def _errors(self, x: Tensor) -> Tensor:
        """u - v as the Gaussian takes them, (B, 1, D) or (B, T, C)."""
        u, v = self._rebuilt(x)
        return (u - v).view(len(x), *(1, *self.shape)[-2:])

    def _rebuilt(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled u and decoder output v, (B, D)."""
        u = self.scaling(x).flatten(1)
        return u, self.decoder(self.encoder(u))
