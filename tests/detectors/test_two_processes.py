"""Training and predicting in two processes gives what one process gives."""

import subprocess
import sys

import in_processes
import numpy as np
import torch

from deepad import Scorer


def test_two_processes_train_score_and_predict_as_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    command = [sys.executable, "-W", "ignore", in_processes.__file__, str(two), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pair:
        with torch.random.fork_rng():
            in_processes.main(one, 1)
        _, errors = pair.communicate(timeout=120)
    assert pair.returncode == 0, errors[-2000:]
    kept = [Scorer.load(folder / "scorer") for folder in (one, two)]
    one, two = (dict(np.load(folder / "found.npz")) for folder in (one, two))
    assert one.keys() == two.keys()
    # what is learned from rows before the first step is learned from all of them, by each process
    for name in ("scaling.shift", "scaling.scale", "scaling.fitted", "fit_rows"):
        assert one[name].tobytes() == two[name].tobytes()
    assert len(one["fit_rows"]) == 160
    # the mean of two means of 16 rows is rounded otherwise than the mean of 32, by some 2**-23 of the gradient a step;
    # AdamW passes that on in units of the learning rate, 0.002, over 12 steps
    weights = [name for name in one if name.startswith(("encoder", "decoder"))]
    assert len(weights) == 8
    for name in weights:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two["score"], one["score"], rtol=1e-4)
    assert np.array_equal(two["flagged"], one["flagged"])
    assert 0 < one["flagged"].sum() < 80
    # Lightning predicts in batches of another size than scoring does: within the tolerance of ties
    for found in (one, two):
        np.testing.assert_allclose(found["predicted"], found["direct"], rtol=1e-5)
    x = np.random.default_rng(5).normal(size=(50, 6))
    assert np.array_equal(*(scorer(x).flagged for scorer in kept))
