"""Every model that a scorer can be made of, each fitted once on small data: members are found by looking."""

import tempfile
import warnings
from contextlib import suppress
from functools import cache
from math import prod

import numpy as np
import torch
from conftest import train
from torch.utils.data import DataLoader

from deepad import Scorer
from deepad.data.windows import windows_of
from deepad.quiet import quiet_lightning
from deepad.rooms import members
from deepad.scoring.composed import Ensemble, Hybrid

DETECTORS, BASELINES = members("detectors", "Detector"), members("baselines", "Baseline")
SHAPES = [(4,), (8, 2), (1, 8, 8)]
SMALL = {
    "DenseAutoencoder": {"hidden_dims": [16], "latent_dim": 2},
    "VariationalAutoencoder": {"hidden_dims": [16], "latent_dim": 2},
    "LSTMAutoencoder": {"hidden_size": 16},
    "IsolationForest": {"n_estimators": 20},
}
COMPOSED = ("Hybrid", "Ensemble")
SPLITS = {"train": 160, "val": 40, "calibration": 60, "test": 300}
DEAF = ("RandomScore", "ConstantScore")
"""Baselines whose score says nothing of the sample."""


@cache
def rows(split, shape):
    """Normal rows (n, *shape), whole numbers from 0 to 127, so that every width of number holds them exactly."""
    n, rng = SPLITS[split], np.random.default_rng([list(SPLITS).index(split), len(shape)])
    if len(shape) == 2:
        t = np.arange(n + shape[0] - 1)[:, None]
        x = windows_of(np.sin(t / 2 + np.arange(shape[1])) + 0.2 * rng.normal(size=(len(t), shape[1])), shape[0])
    else:
        surface = np.random.default_rng(7).uniform(-1, 1, (2, prod(shape)))
        x = (rng.uniform(-1, 1, (n, 2)) @ surface + 0.1 * rng.normal(size=(n, prod(shape)))).reshape(n, *shape)
    x = np.clip(np.round(64 + 24 * x), 0, 127)
    if split == "test":  # some odd ones
        x[::50] = np.round(127 * rng.random(x[::50].shape))
    x.flags.writeable = False
    return x


def first_shape(name):
    """The first shape that a detector or baseline takes."""
    for shape in SHAPES:
        with suppress(ValueError):
            if name in DETECTORS:
                DETECTORS[name](shape)
            else:
                BASELINES[name]().fit(rows("val", shape))
            return shape
    raise AssertionError(name)


SHAPE_OF = {name: first_shape(name) for name in (*DETECTORS, *BASELINES)} | dict.fromkeys(COMPOSED, SHAPES[0])
NAMES = [*DETECTORS, *BASELINES, *COMPOSED]


def fit_detector(name, shape, x=None, val=None, epochs=3, arguments=None, forked=True, **options):
    """A detector trained on rows with seed 0; `forked`: without a trace in the generator of torch."""
    x, val = rows("train", shape) if x is None else x, rows("val", shape) if val is None else val
    with torch.random.fork_rng(enabled=forked), quiet_lightning(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        detector = DETECTORS[name](shape, **(SMALL.get(name, {}) if arguments is None else arguments))
        loaders = [DataLoader(torch.from_numpy(np.array(part)), 32, generator=torch.Generator()) for part in (x, val)]
        train(detector, *loaders[:1], folder, val=loaders[1], max_epochs=epochs, **options)
    return detector


def fit_model(name, shape):
    """Any model by name, fitted on the training rows of its shape."""
    if name in DETECTORS:
        return fit_detector(name, shape)
    if name == "Hybrid":
        return Hybrid(model("DenseAutoencoder"), BASELINES["KNearestNeighbors"]()).fit(rows("train", shape))
    if name == "Ensemble":
        parts = {"deep": model("DenseAutoencoder"), "near": model("KNearestNeighbors")}
        return Ensemble(parts).fit(rows("val", shape))
    return BASELINES[name](**SMALL.get(name, {})).fit(rows("train", shape))


@cache
def model(name):
    """The model of this name, fitted once."""
    return fit_model(name, SHAPE_OF[name])


@cache
def scorer(name):
    """The model of this name, calibrated once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "all 60 calibration scores equal 0")  # of ConstantScore
        return Scorer.calibrate(model(name), rows("calibration", SHAPE_OF[name]), alpha=0.1)


def unseen(name):
    """The test rows of the shape of a model, (300, *shape)."""
    return rows("test", SHAPE_OF[name])


def same(one, other):
    """Whether two verdicts are the same to the bit."""
    return all(
        getattr(one, field).tobytes() == getattr(other, field).tobytes() for field in ("score", "p_value", "flagged")
    )
