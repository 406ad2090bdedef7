import numpy as np
import pytest
import torch
from scipy.stats import betabinom
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepad.sklearn import AnomalyDetector

# No check is expected to fail. A level that 20 rows can promise lets scikit-learn's small data sets through.
SMALL = AnomalyDetector(
    alpha=0.25, val_size=2, calibration_size=0.4, max_epochs=2, arguments={"hidden_dims": [8], "latent_dim": 2}
)


@parametrize_with_checks([SMALL])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_levels_can_be_searched_in_a_pipeline():
    """Grid search scores every candidate; labels are +1 and -1, as scikit-learn has them for outliers."""
    x, benign = load_breast_cancer(return_X_y=True)
    normal, odd = x[benign == 1], x[benign == 0]
    rows = np.concatenate([normal, odd[:40]])
    y = np.concatenate([np.ones(len(normal)), -np.ones(40)])
    train = np.arange(0, len(normal), 2)
    test = np.setdiff1d(np.arange(len(rows)), train)
    pipeline = make_pipeline(StandardScaler(), AnomalyDetector(max_epochs=5, random_state=0, batch_size=32))
    search = GridSearchCV(
        pipeline, {"anomalydetector__alpha": [0.05, 0.2]}, scoring="balanced_accuracy", cv=[(train, test)]
    )
    search.fit(rows, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.7


def test_the_same_seed_gives_the_same_estimator_and_leaves_global_state_alone():
    x = load_breast_cancer(return_X_y=True)[0][:300]
    before = torch.get_rng_state()
    first, second = (AnomalyDetector(max_epochs=3, random_state=7).fit(x) for _ in range(2))
    assert first.scorer_.id == second.scorer_.id
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("seed", range(5))
def test_any_seed_keeps_the_level_and_finds_most_tumours(seed):
    x, benign = load_breast_cancer(return_X_y=True)
    normal = np.random.default_rng(seed).permutation(x[benign == 1])
    model = make_pipeline(StandardScaler(), AnomalyDetector(alpha=0.1, max_epochs=5, random_state=seed))
    flags = model.fit(normal[:250]).predict(normal[250:]) == -1
    # k of the 75 calibration scores lie above the threshold: the flags of new rows are beta-binomial
    k, n = 7, 75
    law = betabinom(len(flags), k, n + 1 - k)
    assert law.ppf(0.0005) <= flags.sum() <= law.ppf(0.9995)
    assert (model.predict(x[benign == 0]) == -1).mean() > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detector": "Nope"}, "detector must be one of"),
        ({"arguments": {"latent": 3}}, "arguments do not fit"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.001}, "needs at least 999"),
        ({"kind": "pac"}, "needs delta"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AnomalyDetector(max_epochs=1, **arguments).fit(load_digits(return_X_y=True)[0][:300])
