"""LSTM encoder-decoder: normal windows can be told again, backwards, from what the encoder remembers of them.

    h_T, c_T = encoder(u_1 .. u_T),   v_T, v_(T-1), .., v_1 = decoder(h_T, c_T),   e = u - v
    score    = sum_t (e_t - mean)' (s_t^2 Sigma)^-1 (e_t - mean)          ("gaussian", see `residuals.GaussianErrors`)
    or         sum_tc e_tc^2                                              ("squared")

The decoder tells the window in reverse order, so that what was seen last is told first. It never sees the window it is
to tell: with `decoder="feedback"` each step starts from the value told before (in training from the true one, as in the
source), with `decoder="code"` from the encoder's last hidden state.

Assumption: the dynamics of normal operation fit into the state of the encoder. It fails for windows much longer than
the network remembers, and for anomalies that are simpler than normal operation (a stuck sensor is easy to tell again:
its error is small where normal errors are large).

Source: Malhotra, Ramakrishnan, Anand, Vig, Agarwal, Shroff, *LSTM-based encoder-decoder for multi-sensor anomaly
detection*, 2016; decoding from the code alone: Srivastava, Mansimov, Salakhutdinov, *Unsupervised learning of video
representations using LSTMs*, 2015, section 2.1 (the unconditional decoder).
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepad.detectors.base import Detector
from deepad.detectors.residuals import GaussianErrors
from deepad.nn import Linear, ScalingKind

State = tuple[Tensor, Tensor]


class LSTMAutoencoder(Detector):
    """LSTM encoder-decoder for windows (T, C) of a series.

    Args:
        shape: shape of one window, `(T, C)`, T >= 2.
        hidden_size: width of a layer, of encoder and decoder alike.
        num_layers: layers of encoder and decoder, >= 1.
        dropout: share of hidden units dropped between layers in training, in [0, 1); needs num_layers >= 2.
        decoder: what the decoder is given at each step, `"code"` or `"feedback"`, see the module docstring.
        noise: standard deviation of the Gaussian noise added to u in training, in scaled units, >= 0.
        score: `"gaussian"`, the squared Mahalanobis distance of the errors under a Gaussian fitted on normal validation
            errors, or `"squared"`, the sum of squared errors in scaled units.
        scaling: see `Detector`.
        lr: see `Detector`.
        weight_decay: see `Detector`.
        patience: see `Detector`.

    Raises:
        ValueError: a shape that is no window, or another argument outside its range.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
        decoder: Literal["code", "feedback"] = "code",
        noise: float = 0.0,
        score: Literal["gaussian", "squared"] = "gaussian",
        scaling: ScalingKind = "standard",
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
    ) -> None:
        super().__init__(shape, scaling=scaling, lr=lr, weight_decay=weight_decay, patience=patience)
        if len(self.shape) != 2 or self.shape[0] < 2:
            raise ValueError(
                f"LSTMAutoencoder takes windows (T, C) of at least 2 steps, got {self.shape}: rows of a table and "
                "images have no order in time; use DenseAutoencoder or ConvolutionalAutoencoder"
            )
        whole = type(hidden_size) is int and type(num_layers) is int and hidden_size >= 1 and num_layers >= 1
        if not whole or not 0 <= dropout < 1 or (dropout and num_layers < 2):
            raise ValueError(
                "need whole hidden_size >= 1 and num_layers >= 1, and dropout in [0, 1), which is between layers, "
                f"got {hidden_size}, {num_layers}, {dropout}"
            )
        if decoder not in ("code", "feedback") or score not in ("gaussian", "squared") or not noise >= 0:
            raise ValueError(
                "need decoder code or feedback, score gaussian or squared and noise >= 0, "
                f"got {decoder!r}, {score!r} and {noise}"
            )
        steps, width = self.shape
        told = width if decoder == "feedback" else hidden_size
        self.encoder = nn.LSTM(width, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.decoder = nn.LSTM(told, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.output = Linear(hidden_size, width)
        self.errors = GaussianErrors((steps, width)) if score == "gaussian" else None
        self.feedback, self.noise = decoder == "feedback", noise

    def loss(self, x: Tensor) -> Tensor:
        """Mean squared error of a part of x, with noise on the input."""
        u = self.scaling(x)
        state = self._encode(u + self.noise * torch.randn_like(u) if self.noise and self.training else u)
        return functional.mse_loss(self._tell(state, len(u[0]), u if self.training else None), u)

    def contributions(self, x: Tensor) -> Tensor:
        """What each step and channel adds to the score: (B, T, C), >= 0."""
        errors = self._errors(x)
        return errors.square() if self.errors is None else self.errors.contributions(errors)

    def features(self, x: Tensor) -> Tensor:
        """Last hidden state of the top layer and the logarithm of the mean squared error: (B, hidden_size + 1)."""
        u = self.scaling(x)
        state = self._encode(u)
        errors = (u - self._tell(state, len(u[0]))).square().mean((1, 2))
        return torch.cat([state[0][-1], errors.clamp_min(1e-12).log()[:, None]], 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The window as the decoder tells it, in raw units."""
        u = self.scaling(x)
        return self.scaling.inverse(self._tell(self._encode(u), len(u[0])))

    def learn_residuals(self, batches: Iterable[Tensor]) -> None:
        """The Gaussian of the errors."""
        if self.errors is not None:
            self.errors.learn(map(self._errors, batches))

    def _errors(self, x: Tensor) -> Tensor:
        u: Tensor = self.scaling(x)
        return u - self._tell(self._encode(u), len(u[0]))

    def _encode(self, u: Tensor) -> State:
        """Hidden and cell state (num_layers, B, hidden_size) after the last step of u (B, T, C)."""
        state: State = self.encoder(u)[1]
        return state

    def _tell(self, state: State, steps: int, truth: Tensor | None = None) -> Tensor:
        """The window (B, T, C) told backwards from the encoder's state.

        Args:
            state: of the encoder.
            steps: T.
            truth: in training, the window itself: a decoder with feedback starts each step from it.
        """
        code = state[0][-1]
        if not self.feedback:
            told = self.output(self.decoder(code[:, None].expand(-1, steps, -1), state)[0])
        elif truth is not None:
            rest = self.output(self.decoder(truth.flip(1)[:, :-1], state)[0])
            told = torch.cat([self.output(code)[:, None], rest], 1)
        else:
            values = [self.output(code)[:, None]]
            for _ in range(steps - 1):
                hidden, state = self.decoder(values[-1], state)
                values.append(self.output(hidden))
            told = torch.cat(values, 1)
        return torch.as_tensor(told).flip(1)
