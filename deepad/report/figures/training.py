"""Figure of a training."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from deepad.errors import InputError
from deepad.report.figures.base import ANOMALY, LINE, NORMAL, canvas, legend, logarithmic


def training_curves(train_loss: ArrayLike, val_loss: ArrayLike) -> Figure:
    """Loss on training and validation rows by epoch, with the best epoch marked.

    Args:
        train_loss: (E,), gaps where it is not finite.
        val_loss: (E,) or empty.

    Raises:
        InputError: no epoch, or losses that are no numbers (E,).
    """
    train, val = np.asarray(train_loss, np.float64), np.asarray(val_loss, np.float64)
    if train.ndim != 1 or val.ndim != 1 or not len(train) + len(val):
        raise InputError(f"got losses of shapes {train.shape} and {val.shape}: give one number an epoch, (E,)")
    train, val = (np.where(np.isfinite(loss), loss, np.nan) for loss in (train, val))
    figure, axes = canvas()
    for loss, name, colour in ((train, "train", NORMAL), (val, "validation (normal)", ANOMALY)):
        if len(loss):
            axes.plot(np.arange(1, len(loss) + 1), loss, ".-", color=colour, markersize=5, linewidth=1.6, label=name)
    if np.isfinite(val).any():
        best = int(np.nanargmin(val))
        axes.plot(best + 1, val[best], "o", color=LINE, markersize=6, label=f"best, epoch {best + 1}")
    logarithmic(axes, "y", [*train, *val])
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    legend(axes, ncols=3)
    return figure
