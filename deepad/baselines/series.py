"""Classical models of series, on windows (T, C): the score is that of the last step, or of all steps of the window.

    ControlChart     a step against the steps before it (Shewhart), or their weighted or cumulated deviations from the
                     training mean (EWMA, CUSUM): max_c z_c of the last step
    MovingVariance   sum_tc (u_tc - mean_c)^2 / T over the window
    Persistence      sum_tc ((u_tc - u_(t-lag)c) / sd_c)^2: what comes is what was
    SeasonalResidual sum_tc (r_tc / sd_c)^2, r = u - seasonal profile at its best phase - level, see the class
    MatrixProfile    distance to the nearest window of the training series, each window standardised

Assumption: in that order, a stable level; a stable spread; slow change; one cycle that repeats; that what is normal was
seen before, up to level and scale. They look back no further than a window.

Source: Shewhart, *Economic control of quality of manufactured product*, 1931; Roberts, *Control chart tests based on
geometric moving averages*, 1959; Page, *Continuous inspection schemes*, 1954; Cleveland, Cleveland, McRae, Terpenning,
*STL: a seasonal-trend decomposition procedure based on loess*, 1990; Bandara, Hyndman, Bergmeir, *MSTL*, 2021; Yeh et
al., *Matrix profile I*, 2016.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any, Literal

import numpy as np

from deepad.baselines.arguments import require_in, require_one_of, require_whole
from deepad.baselines.base import Baseline, Rows, standard_scaling
from deepad.data.windows import dominant_period, joined
from deepad.errors import IncompatibleInstallError, InputError

ROLLING_FLOOR = 1e-2
"""Least variance of the steps before, in squared standard deviations of training: a flat stretch makes nobody sure."""


class ControlChart(Baseline):
    """Largest standardised deviation of a channel at the last step of a window, >= 0.

    Args:
        chart: `"shewhart"`: the last step against mean and deviation of the steps before it in the window, which follow
            a level that moves; `"ewma"`: weighted mean of the deviations from the training mean, in its own standard
            deviations; `"cusum"`: the larger of the cumulated deviations upwards and downwards that exceed `slack`.
        weight: of the newest step in `"ewma"`, in (0, 1].
        slack: of `"cusum"`, in standard deviations of training, >= 0: half the shift that is to be found soon.
    """

    fitted = {}
    scaling = "standard"

    def __init__(
        self, chart: Literal["shewhart", "ewma", "cusum"] = "shewhart", weight: float = 0.2, slack: float = 0.5
    ) -> None:
        require_one_of(("shewhart", "ewma", "cusum"), chart=chart)
        require_in("(0, 1]", weight=weight)
        require_in("[0, inf)", slack=slack)
        self.chart, self.weight, self.slack = chart, weight, slack
        self.least_steps = 4 if chart == "shewhart" else 2

    def _fit(self, x: Rows) -> None:
        pass

    def _contributions(self, x: Rows) -> Rows:
        x = x.reshape(-1, *self.shape)
        z = {"shewhart": self._shewhart, "ewma": self._ewma, "cusum": self._cusum}[self.chart](x)
        parts, largest, rows = np.zeros(x.shape), z.argmax(1), np.arange(len(x))
        parts[rows, -1, largest] = z[rows, largest]
        return parts

    def _shewhart(self, x: Rows) -> Rows:
        before = x[:, :-1]
        spread = np.sqrt(before.var(1) + ROLLING_FLOOR)
        return np.asarray(np.abs(x[:, -1] - before.mean(1)) / spread)

    def _ewma(self, x: Rows) -> Rows:
        mean = np.zeros(x[:, 0].shape)
        for step in x.swapaxes(0, 1):
            mean = self.weight * step + (1 - self.weight) * mean
        weights = self.weight * (1 - self.weight) ** np.arange(x.shape[1])
        return np.asarray(np.abs(mean) / sqrt(np.square(weights).sum()))

    def _cusum(self, x: Rows) -> Rows:
        up = down = np.zeros(x[:, 0].shape)
        for step in x.swapaxes(0, 1):
            up, down = np.maximum(0, up + step - self.slack), np.maximum(0, down - step - self.slack)
        return np.maximum(up, down)


class MovingVariance(Baseline):
    """Variance over the steps of a window, summed over channels, in squared standard deviations of training, >= 0."""

    fitted = {}
    scaling = "standard"
    least_steps = 2

    def _fit(self, x: Rows) -> None:
        pass

    def _contributions(self, x: Rows) -> Rows:
        x = x.reshape(-1, *self.shape)
        return np.asarray(np.square(x - x.mean(1, keepdims=True)) / x.shape[1])


class Persistence(Baseline):
    """Squared changes over `lag` steps in units of their variance in training, summed over a window, >= 0.

    Args:
        lag: steps between a step and the one it is expected to equal, >= 1, less than a window has: the length of a
            season makes this the seasonal naive forecast.
    """

    fitted = {"spread": "positive C"}
    scaling = "standard"

    def __init__(self, lag: int = 1) -> None:
        require_whole(1, lag=lag)
        self.lag, self.least_steps = lag, lag + 1

    def _fit(self, x: Rows) -> None:
        spread = np.sqrt(np.square(self._changes(x.reshape(-1, *self.shape))).mean((0, 1)))
        self.spread_ = np.where(spread > 0, spread, 1.0)

    def _changes(self, x: Rows) -> Rows:
        return np.asarray(x[:, self.lag :] - x[:, : -self.lag])

    def _contributions(self, x: Rows) -> Rows:
        x = x.reshape(-1, *self.shape)
        parts = np.zeros(x.shape)
        parts[:, self.lag :] = np.square(self._changes(x) / self.spread_)
        return parts


class SeasonalResidual(Baseline):
    """What is left of a window when the seasonal profile of the training series and the window's level are taken out.

    In training the windows are joined again, and STL (one period) or MSTL (several) splits the longest unbroken stretch
    into trend, seasons and rest. The seasonal part, averaged by phase, is the profile. A new window is compared with
    the profile at the phase that fits it best, since windows carry no clock: a pattern at a wrong hour is therefore not
    seen, a broken pattern is. Without a period the profile is flat.

    The score is the sum of squared residuals in units of their usual size in training, >= 0.

    Args:
        periods: in steps, >= 2, one or several of which the longest is a multiple of the others; if not given, the
            dominant one of the training series, and none where there is none.
    """

    fitted = {"profile": "P C", "spread": "positive C"}
    scaling = "standard"
    least_steps = 2

    def __init__(self, periods: int | Sequence[int] | None = None) -> None:
        given: list[Any] = [] if periods is None else [*periods] if isinstance(periods, list | tuple) else [periods]
        for period in given:
            require_whole(2, periods=period)
        if any(max(given) % period for period in given) or len(set(given)) < len(given):
            raise ValueError(f"the longest of several periods must be a multiple of each of the others, got {given}")
        self.periods = periods if periods is None or isinstance(periods, int) else sorted(given)

    def _fit(self, x: Rows) -> None:
        x = x.reshape(-1, *self.shape)
        series = max(joined(x), key=len)
        known = [self.periods] if isinstance(self.periods, int) else self.periods
        found = [dominant_period(series)] if known is None else known
        periods = [period for period in found if period is not None]
        if periods and len(series) < 2 * periods[-1] + 1:
            raise InputError(
                f"a season of {periods[-1]} steps is learned from two of them, the longest stretch of training has "
                f"{len(series)} steps: give a shorter period or more data"
            )
        length = periods[-1] if periods else 1
        seasons = np.stack([_seasonal(channel, periods) for channel in series.T], 1)
        self.profile_ = np.stack([seasons[phase::length].mean(0) for phase in range(length)])
        self.profile_ -= self.profile_.mean(0)
        some = x[np.linspace(0, len(x) - 1, min(len(x), 2000)).astype(int)]
        left = np.concatenate([self._residual(some[i : i + 256]) for i in range(0, len(some), 256)])
        usual = np.sqrt(np.square(left).mean((0, 1)))
        self.spread_ = np.maximum(usual, 0.01)  # in standard deviations of training: a perfect profile is not trusted

    def _residual(self, x: Rows) -> Rows:
        """Windows (B, T, C) less profile and level."""
        steps, length = x.shape[1], len(self.profile_)
        shifted = np.stack([self.profile_[(phase + np.arange(steps)) % length] for phase in range(length)])
        shifted = shifted - shifted.mean(1, keepdims=True)
        centred = x - x.mean(1, keepdims=True)
        flat = shifted.reshape(length, -1)
        misfit = np.square(flat).sum(1) - 2 * centred.reshape(len(x), -1) @ flat.T  # less what all phases share
        left = x - shifted[misfit.argmin(1)]
        return np.asarray(left - np.median(left, axis=1, keepdims=True))

    def _contributions(self, x: Rows) -> Rows:
        return np.asarray(np.square(self._residual(x.reshape(-1, *self.shape)) / self.spread_))


class MatrixProfile(Baseline):
    """Euclidean distance of a standardised window to the nearest one of the training series, >= 0.

    Each channel of each window is standardised by itself, so that shape counts and neither level nor scale; the squared
    distances of the channels at the same place are added. Needs `pip install 'deepad[matrixprofile]'`.

    Args:
        normalize: standardise; without it windows are compared as they are, in standard deviations of training.
    """

    fitted = {"series": "N C", "ends": "int K"}
    scaling = "standard"
    least_steps = 3
    by_row = True

    def __init__(self, normalize: bool = True) -> None:
        require_one_of((False, True), normalize=normalize)
        self.normalize = normalize

    def _fit(self, x: Rows) -> None:
        _stumpy()
        stretches = joined(x.reshape(-1, *self.shape))
        self.series_, self.ends_ = np.concatenate(stretches), np.cumsum([len(part) for part in stretches])

    def _check(self) -> None:
        super()._check()
        if (np.diff(self.ends_, prepend=0) < self.shape[0]).any() or self.ends_[-1] != len(self.series_):
            raise ValueError("the stretches of the training series are shorter than a window, or do not end with it")

    def _prepare(self) -> None:
        begins = [0, *self.ends_[:-1]]  # no window reaches over a break
        self._begins = np.concatenate(
            [np.arange(begin, end - self.shape[0] + 1) for begin, end in zip(begins, self.ends_, strict=True)]
        )
        self._channels: list[tuple[Rows, dict[str, Any]]] | None = None

    def _score(self, x: Rows) -> Rows:
        mass, scores = _stumpy().core.mass, np.empty(len(x))
        channels = self._channels = self._channels or [self._searched(channel) for channel in self.series_.T]
        for place, window in enumerate(x.reshape(-1, *self.shape)):
            compared = self._compared(window)
            profiles = [
                mass(q, channel, normalize=self.normalize, **known)
                for q, (channel, known) in zip(compared.T.copy(), channels, strict=True)
            ]
            begin = self._begins[np.square(profiles).sum(0)[self._begins].argmin()]
            # a profile made by Fourier transforms has the rounding of the largest value of the series
            nearest = self._compared(self.series_[begin : begin + len(window)])
            scores[place] = sqrt(np.square(compared - nearest).sum())
        return scores

    def _compared(self, window: Rows) -> Rows:
        """A window (T, C) as it is compared; a channel that does not vary in it is 0."""
        if not self.normalize:
            return window
        shift, scale = standard_scaling(window)
        return np.where(np.ptp(window, axis=0) > 0, (window - shift) / scale, 0.0)

    def _searched(self, channel: Rows) -> tuple[Rows, dict[str, Any]]:
        """A channel (n,), and what `mass` would find anew each time: mean, deviation and constancy of its windows.

        Where level does not count it is taken out, so that it does not add to the rounding.
        """
        if not self.normalize:
            return channel.copy(), {}
        channel, mean, deviation, constant = _stumpy().core.preprocess(channel - np.median(channel), self.shape[0])
        return channel, {"M_T": mean, "Σ_T": deviation, "T_subseq_isconstant": constant}


def _seasonal(channel: Rows, periods: list[int]) -> Rows:
    """Sum of the seasonal parts (n,) of a channel (n,)."""
    if not periods or np.ptp(channel) == 0:
        return np.zeros(len(channel))
    from statsmodels.tsa.seasonal import MSTL, STL

    if len(periods) == 1:
        return np.asarray(STL(channel, period=periods[0], robust=True).fit().seasonal)
    parts = np.asarray(MSTL(channel, periods=tuple(periods), stl_kwargs={"robust": True}).fit().seasonal)
    return np.asarray(parts.reshape(len(channel), -1).sum(1))


def _stumpy() -> Any:
    try:
        import stumpy
    except ImportError as error:
        raise IncompatibleInstallError(
            f"the matrix profile is computed by stumpy: pip install 'deepad[matrixprofile]' ({error})"
        ) from None
    return stumpy
