"""Numbers at the ends of what a float holds, through fit, calibration and judgement of every model: either they are
refused with a reason, or normal rows have finite scores and p-values that are probabilities."""

import math
import resource
import warnings

import numpy as np
import pytest
from everymodel import BASELINES, DEAF, DETECTORS, NAMES, SHAPE_OF, SMALL, fit_detector, scorer, unseen

from deepad import Scorer
from deepad.errors import DataLeakError, DeepadError, InputError
from deepad.scoring.composed import Ensemble, Hybrid

each = pytest.mark.parametrize("name", NAMES)
LEVEL_ALONE = ("ControlChart", "MovingVariance", "Persistence", "SeasonalResidual")
"""Models that look at changes inside a window: one that is far from all others, but level, is none to them."""


def fit(name, train, val, epochs=1):
    """Any model, fitted on rows (n, *shape)."""
    shape = train.shape[1:]
    if name in DETECTORS:
        return fit_detector(name, shape, train, val, epochs=epochs)
    if name in BASELINES:
        return BASELINES[name](**SMALL.get(name, {})).fit(train)
    deep, near = fit("DenseAutoencoder", train, val), BASELINES["KNearestNeighbors"]()
    return Hybrid(deep, near).fit(train) if name == "Hybrid" else Ensemble({"a": deep, "b": near.fit(train)}).fit(val)


def judged(name, draw, n=(24, 12, 19, 9)):
    """The verdict on normal rows, `draw(stream, n, shape)`, of a model fitted and calibrated on such, and warnings."""
    stream, shape = np.random.default_rng(0), SHAPE_OF[name]
    train, val, held_out, new = (draw(stream, count, shape) for count in n)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        verdict = Scorer.calibrate(fit(name, train, val), held_out, alpha=0.1)(new)
    return verdict, {str(warning.message) for warning in told if "workers" not in str(warning.message)}


def tried(name, draw, n=(24, 12, 19, 9)):
    """A verdict, its warnings and no refusal, or no verdict and the refusal."""
    try:
        return *judged(name, draw, n), None
    except DeepadError as refusal:
        return None, set(), refusal


def require_sound(verdict):
    assert np.isfinite(verdict.score).all()
    assert ((verdict.p_value > 0) & (verdict.p_value <= 1)).all()
    assert not verdict.invalid.any()


def normal(stream, n, shape):
    return stream.normal(size=(n, *shape))


def scaled(size):
    return lambda stream, n, shape: size * normal(stream, n, shape)


def apart(stream, n, shape):
    """Some parts tiny and others huge."""
    x = normal(stream, n, shape)
    x[..., 0] *= 1e-30
    x[..., -1] *= 1e30
    return x


def signed_zeros(stream, n, shape):
    x = normal(stream, n, shape)
    return np.where(stream.random(x.shape) < 0.3, np.copysign(0.0, x), x)


def flat(stream, n, shape):
    x = normal(stream, n, shape)
    x[..., -1] = 7.5
    return x


COPES = {
    "1e-20": scaled(1e-20),
    "1e20": scaled(1e20),
    "1e-40": scaled(1e-40),
    "apart": apart,
    "signed zeros": signed_zeros,
}


@pytest.mark.filterwarnings("ignore:all 19 calibration scores equal 0")  # of ConstantScore
@pytest.mark.parametrize("numbers", COPES)
@each
def test_numbers_of_any_size_within_float32_fit_calibrate_and_are_judged(name, numbers):
    verdict, told = judged(name, COPES[numbers])
    require_sound(verdict)
    assert not told or name == "ConstantScore"


@pytest.mark.parametrize("size", [1e-310, 1e38, 1e60, 1e150, 1e307])
@each
def test_numbers_at_the_end_of_float32_and_beyond_are_refused_in_one_line_or_judged(name, size):
    verdict, told, refusal = tried(name, scaled(size))
    if refusal is None:
        require_sound(verdict)
        assert name in BASELINES or size == 1e38, "only they compute in float64"
        assert all("calibration scores equal" in text for text in told), "squares of the smallest are 0"
        assert not told or size == 1e-310 or name == "ConstantScore"
    else:
        assert not isinstance(refusal, DataLeakError), "rows that differ are not the same"
        assert "\n" not in str(refusal)
        assert "float32" in str(refusal) or "beyond 1e+100" in str(refusal)


@pytest.mark.parametrize("size", [1e38, -1e38, 3e38, 1e300])
@each
def test_a_sample_that_overflows_is_flagged_without_a_warning(name, size):
    verdict = scorer(name)(np.full((3, *SHAPE_OF[name]), size))
    assert not np.isnan(verdict.score).any()
    assert not verdict.invalid.any()
    if name not in (*DEAF, *LEVEL_ALONE):
        assert verdict.flagged.all()
    jumps = np.array(unseen(name)[:3])
    jumps[..., -1].reshape(3, -1)[:, -1] = size  # the last step of a window
    verdict = scorer(name)(jumps)
    assert not np.isnan(verdict.score).any()
    if name not in (*DEAF, "MatrixProfile", "IsolationForest"):  # of which one standardises it, one cannot cut beyond
        assert verdict.flagged.all()


@pytest.mark.parametrize("size", [1e-310, 5e-324, 1e-40, -0.0])
@each
def test_the_smallest_numbers_are_judged_as_zero_is(name, size):
    shape = SHAPE_OF[name]
    verdict, zero = scorer(name)(np.full((2, *shape), size)), scorer(name)(np.zeros((2, *shape)))
    assert np.isfinite(verdict.score).all()
    if name != "RandomScore":
        np.testing.assert_allclose(verdict.score, zero.score, rtol=1e-5, atol=1e-9)


@each
def test_a_part_that_never_varies_is_fitted_and_a_detector_says_so_once(name):
    verdict, told = judged(name, flat)
    require_sound(verdict)
    if name in (*DETECTORS, "Hybrid", "Ensemble"):
        assert len(told) == 1
        assert "never vary in training: they keep scale 1" in told.pop()


@each
def test_rows_that_are_all_the_same_fit_a_model_whose_calibration_says_that_it_tells_nothing_apart(name):
    shape = SHAPE_OF[name]
    train = np.full((24, *shape), 3.25)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* never vary in training")
        model = fit(name, train, train[:12])
    assert np.isfinite(model.score(train) if name not in DETECTORS else [0]).all()
    with pytest.raises(DataLeakError, match="19 of 19 calibration rows"):
        Scorer.calibrate(model, train[:19])
    others = np.full((19, *shape), 3.5)
    with pytest.warns(UserWarning, match="all 19 calibration scores equal"):
        made = Scorer.calibrate(model, others, alpha=0.1)
    verdict = made(others[:3])
    assert np.isfinite(verdict.score).all()
    assert (verdict.p_value == 1).all()
    assert not verdict.flagged.any()


@each
def test_one_row_is_refused_with_the_least_number_of_rows(name):
    with pytest.raises(InputError, match=r"^[A-Za-z]+ needs at least 2 (training )?rows, got 1$"):
        judged(name, normal, n=(1, 12, 19, 9))


@pytest.mark.filterwarnings("ignore:all 1[09] calibration scores equal 0")  # of ConstantScore
@pytest.mark.parametrize("n", [10, 2])
@each
def test_ten_rows_and_two_are_few_but_judged_or_refused_with_the_least_number(name, n):
    verdict, _, refusal = tried(name, normal, n=(n, n, 10, 5))
    if refusal is None:
        require_sound(verdict)
    else:
        assert n == 2
        assert "needs at least" in str(refusal)


@each
def test_one_feature_is_enough(name):
    verdict, _ = judged(name, lambda stream, n, shape: normal(stream, n, (*shape[:-1], 1)))
    require_sound(verdict)


@pytest.mark.parametrize("name", sorted({*DETECTORS, *BASELINES}))
def test_ten_thousand_features_of_64_rows_take_bounded_memory_or_are_refused(name):
    shape = {1: (10_000,), 2: (100, 100), 3: (1, 100, 100)}[len(SHAPE_OF[name])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict, _, refusal = tried(name, lambda stream, n, _: normal(stream, n, shape), n=(64, 9, 10, 2))
    if refusal is None:
        require_sound(verdict)
    else:
        assert name in ("GaussianMixture", "MultivariateGaussian")
        assert "of all pairs of values" in str(refusal)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    assert added < 600, "MiB: 64 rows are 5, weights of a detector 20 and thrice that for their optimizer"


@pytest.mark.filterwarnings("ignore:all 20 calibration scores equal 0")  # squares of the smallest are 0
def test_rows_beyond_float32_are_told_apart_and_found_again():
    model = BASELINES["KNearestNeighbors"](3)
    for size in (1e60, 1e-310):
        x = size * np.random.default_rng(0).normal(size=(60, 3))
        made = Scorer.calibrate(model.fit(x[:40]), x[40:], alpha=0.1)
        assert math.isfinite(made.threshold.value)
        with pytest.raises(DataLeakError, match="1 of 21 calibration rows"):
            Scorer.calibrate(model, x[39:])
