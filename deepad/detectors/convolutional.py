"""Convolutional autoencoder: the dense one, for samples with neighbours (pixels of an image, steps of a window).

    z = mlp(h_L),   h_l = act(norm(conv(h_(l-1), stride 2))),   v = the mirror of it;   scores of the dense one

Assumption: what is normal is made of local patterns that occur anywhere. It fails where the place of a pattern matters
more than the pattern, and where anomalies are made of the same patterns: a good decoder of strokes draws any digit, so
the latent code has to be narrow.

Source: Masci, Meier, Cireşan, Schmidhuber, *Stacked convolutional auto-encoders for hierarchical feature extraction*,
2011; group normalisation: Wu, He, *Group normalization*, 2018 (statistics of one sample, so batches do not matter).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from deepad.detectors.base import Detector
from deepad.detectors.residuals import ErrorKind, ReconstructionError, ScoreKind, require_unit_range
from deepad.nn import ACTIVATIONS, ScalingKind, mlp


class ConvolutionalAutoencoder(Detector):
    """Autoencoder of strided convolutions: 2-D for images (C, H, W), 1-D over time for windows (T, C).

    Args:
        shape: shape of one sample, `(C, H, W)` or `(T, C)`; each of H and W, or T, must be at least 2 for every layer.
        channels: of the layers from the input inwards; each halves height and width (or time), rounding up.
        hidden_dims: widths of the fully connected layers from there towards the latent code. Without any, the model is
            nearly linear in the code, and hardly better than principal components.
        latent_dim: width of the latent code.
        kernel_size: of the convolutions, an odd number >= 3.
        activation: one of `deepad.nn.ACTIVATIONS`.
        noise: standard deviation of the Gaussian noise added to u in training, in scaled units, >= 0.
        loss: `"squared"`, `"absolute"` or `"bernoulli"`, see `deepad.detectors.residuals.ReconstructionError`.
        score: `"error"` or `"relative"`, see there.
        scaling: see `Detector`; the default suits the loss (`"range"` for bernoulli and images, else `"standard"`).
        lr: see `Detector`.
        weight_decay: see `Detector`.
        patience: see `Detector`.

    Raises:
        ValueError: a shape without neighbours, or another argument outside its range.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channels: Sequence[int] = (16, 32),
        hidden_dims: Sequence[int] = (256,),
        latent_dim: int = 10,
        kernel_size: int = 3,
        activation: str = "silu",
        noise: float = 0.0,
        loss: ErrorKind = "squared",
        score: ScoreKind = "error",
        scaling: ScalingKind | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
    ) -> None:
        if scaling is None:
            scaling = "range" if loss == "bernoulli" or len(tuple(shape)) == 3 else "standard"
        super().__init__(shape, scaling=scaling, lr=lr, weight_decay=weight_decay, patience=patience)
        if len(self.shape) == 1:
            raise ValueError(
                f"ConvolutionalAutoencoder takes images (C, H, W) or windows (T, C), got {self.shape}: the columns "
                "of a table are no neighbours; use DenseAutoencoder"
            )
        if type(kernel_size) is not int or kernel_size < 3 or kernel_size % 2 == 0 or not noise >= 0:
            raise ValueError(f"need an odd kernel_size >= 3 and noise >= 0, got {kernel_size} and {noise}")
        if loss == "bernoulli":
            require_unit_range("loss", scaling)
        outer, *sizes = self.shape if len(self.shape) == 3 else reversed(self.shape)
        grids = _halvings(sizes, channels)
        widths = [outer, *channels]
        inner = (widths[-1], *grids[-1])
        layers = [_down(a, b, kernel_size, activation, len(sizes)) for a, b in pairwise(widths)]
        inwards = mlp([prod(inner), *hidden_dims, latent_dim], activation=activation)
        outwards = mlp([latent_dim, *reversed(hidden_dims), prod(inner)], activation=activation)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), inwards)
        self.decoder = nn.Sequential(outwards, nn.Unflatten(1, inner))
        for (a, b), (small, large) in zip(pairwise(reversed(widths)), pairwise(reversed(grids)), strict=True):
            last = large is grids[0]
            self.decoder.append(_up(a, b, kernel_size, None if last else activation, small, large))
        self.error = ReconstructionError(loss, score)
        self.noise = noise

    def loss(self, x: Tensor) -> Tensor:
        """Mean error of a part of x, with noise on the input."""
        u = self.scaling(x)
        noisy = u + self.noise * torch.randn_like(u) if self.noise and self.training else u
        return self.error.loss(u, self._decode(self._encode(noisy)))

    def contributions(self, x: Tensor) -> Tensor:
        """Error of each part of x, divided by what `score` says: (B, *shape), >= 0."""
        return self.error.contributions(*self._rebuilt(x))

    def features(self, x: Tensor) -> Tensor:
        """Latent code and the logarithm of the mean error: (B, latent_dim + 1)."""
        u = self.scaling(x)
        z = self._encode(u)
        return torch.cat([z, self.error.log_mean(u, self._decode(z))[:, None]], 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decoder output for x, in raw units."""
        return self.scaling.inverse(self.error.mean(self._rebuilt(x)[1]))

    def _rebuilt(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled u and decoder output v, (B, *shape)."""
        u = self.scaling(x)
        return u, self._decode(self._encode(u))

    def _encode(self, u: Tensor) -> Tensor:
        z: Tensor = self.encoder(u if u.dim() == 4 else u.transpose(1, 2))
        return z

    def _decode(self, z: Tensor) -> Tensor:
        v: Tensor = self.decoder(z)
        return v if v.dim() == 4 else v.transpose(1, 2)


def _halvings(sizes: Iterable[int], channels: Sequence[int]) -> list[tuple[int, ...]]:
    """Sizes of the grid before and after each layer, which halves them, rounding up."""
    grids = [tuple(sizes)]
    if not channels or any(type(width) is not int or width < 1 for width in channels):
        raise ValueError(f"channels must be positive whole numbers, one for each layer, got {channels!r}")
    for width in channels:
        if min(grids[-1]) < 2:
            raise ValueError(f"{len(channels)} layers halve a grid of {grids[0]} to nothing: give fewer channels")
        grids.append(tuple(-(-size // 2) for size in grids[-1]))
        if width * prod(grids[-1]) < 2:
            raise ValueError(f"one channel on a grid of {grids[-1]} is a single number: give it more channels")
    return grids


def _down(a: int, b: int, kernel: int, activation: str, dims: int) -> nn.Sequential:
    convolution = nn.Conv1d if dims == 1 else nn.Conv2d
    return nn.Sequential(
        convolution(a, b, kernel, stride=2, padding=kernel // 2), nn.GroupNorm(1, b), _activation(activation)
    )


def _up(
    a: int, b: int, kernel: int, activation: str | None, small: tuple[int, ...], large: tuple[int, ...]
) -> nn.Sequential:
    """The mirror of `_down`; without an activation, the output layer."""
    convolution = nn.ConvTranspose1d if len(small) == 1 else nn.ConvTranspose2d
    left_out = tuple(big - (2 * little - 1) for little, big in zip(small, large, strict=True))
    pad = kernel // 2
    layer: nn.Module = convolution(a, b, kernel, stride=2, padding=pad, output_padding=left_out)  # type: ignore[arg-type]
    return (
        nn.Sequential(layer)
        if activation is None
        else nn.Sequential(layer, nn.GroupNorm(1, b), _activation(activation))
    )


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()
