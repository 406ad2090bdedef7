from sklearn.utils.estimator_checks import parametrize_with_checks

from deepad.sklearn import AnomalyDetector

# No check is expected to fail. A level that 20 rows can promise lets scikit-learn's small data sets through.
SMALL = AnomalyDetector(
    alpha=0.25, val_size=2, calibration_size=0.4, max_epochs=2, arguments={"hidden_dims": [8], "latent_dim": 2}
)


@parametrize_with_checks([SMALL])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
