"""A score whose sign is wrong is told from one whose sign is right."""

import warnings

import numpy as np
import pytest

from deepad import Scorer
from deepad.baselines import MultivariateGaussian, PCAResidual


class Similarity(PCAResidual):
    """What a user may give by mistake: higher is more normal."""

    def _score(self, x):
        return -super()._score(x)


class LogLikelihood(MultivariateGaussian):
    def _score(self, x):
        return -super()._score(x)


class Distance(PCAResidual):
    """A user's own, with the right sign."""


def correlated(n, seed, features=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, features))


@pytest.mark.parametrize("model", [Similarity(1), LogLikelihood()], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("n", [40, 400])
def test_a_similarity_is_warned_of_with_what_to_give(model, n):
    model.fit(correlated(300, 0))
    with pytest.warns(UserWarning, match=r"(?s)scores normal samples higher .* give -score"):
        Scorer.calibrate(model, correlated(n, 1))


@pytest.mark.parametrize("model", [Distance(1), PCAResidual(1), MultivariateGaussian()], ids=lambda m: type(m).__name__)
def test_a_score_of_the_right_sign_is_not_warned_of(model):
    model.fit(correlated(300, 0))
    for seed in range(1, 30):
        Scorer.calibrate(model, correlated(40, seed))  # warnings are errors


def test_values_that_do_not_depend_on_each_other_tell_nothing():
    rng = np.random.default_rng(0)
    model = Similarity(1).fit(rng.normal(size=(300, 5)))
    for _ in range(30):
        Scorer.calibrate(model, rng.normal(size=(40, 5)))


def test_too_few_samples_tell_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Scorer.calibrate(Similarity(1).fit(correlated(300, 0)), correlated(25, 1))


def test_the_verdict_is_that_of_the_score_as_it_is():
    model = Similarity(1).fit(correlated(300, 0))
    with pytest.warns(UserWarning, match="higher"):
        scorer = Scorer.calibrate(model, correlated(400, 1))
    x = correlated(200, 2)
    assert (scorer(x).flagged == (model.score(x) > scorer.threshold.value)).all()
