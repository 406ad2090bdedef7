import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from deepad import Scorer
from deepad.data import Digits
from deepad.detectors import DenseAutoencoder
from deepad.quiet import quiet_lightning

torch.set_num_threads(1)  # tiny models: a second thread only waits
os.environ.setdefault("NUMBA_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _quiet():
    """Lightning's known notices are not what the tests are about; every other warning is an error."""
    with quiet_lightning():
        yield


def train(detector, data, folder, val=None, **options):
    options = {"max_epochs": 5, "logger": False, "enable_progress_bar": False, "enable_model_summary": False} | options
    trainer = pl.Trainer(default_root_dir=folder, **options)
    trainer.fit(detector, data, val)
    return trainer


@contextmanager
def within(seconds):
    """Fail instead of hanging."""

    def stop(*_):
        raise TimeoutError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def digits():
    return Digits(held_out=9)


@pytest.fixture(scope="session")
def trained(digits, tmp_path_factory):
    """A detector and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    detector = DenseAutoencoder(digits.shape, hidden_dims=(64,), latent_dim=6)
    with quiet_lightning():
        trainer = train(detector, digits, folder, max_epochs=15)
    return detector, Path(trainer.checkpoint_callback.best_model_path)


@pytest.fixture(scope="session")
def scorer(trained, digits):
    return Scorer.calibrate(trained[0], digits.calibration_dataloader(), alpha=0.05)


@pytest.fixture(scope="session")
def saved(scorer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "scorer"
    scorer.save(folder)
    return folder


@pytest.fixture
def deepad_data():
    """The folder of real data sets, where there is one."""
    folder = os.environ.get("DEEPAD_DATA")
    if not folder:
        pytest.skip("DEEPAD_DATA is not set: real data sets are not here")
    return Path(folder)
