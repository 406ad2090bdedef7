"""Layers: scaling against NumPy on the whole array, and what a stack of linear layers consists of."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm
from sklearn.preprocessing import QuantileTransformer, RobustScaler
from torch import nn

from deepad.nn import ACTIVATIONS, KNOTS, Linear, Scaling, _Sample, mlp, steady_matmul

exhaustive = settings(derandomize=True, deadline=None, max_examples=100)
UNIT = 2.0**-24  # rounding error of float32, relative
SHAPES = [(4,), (2, 3, 5), (1, 2, 2), (6, 3)]
AXES = {1: (0,), 2: (0, 1), 3: (0, 2, 3)}  # per feature, per channel of (T, C), per channel of (C, H, W)
DTYPES = {"f4": torch.float32, "f8": torch.float64, "u1": torch.uint8, "i8": torch.int64}


def cut(x, n_cuts, random):
    """x in batches, none of them empty."""
    cuts = sorted(random.sample(range(1, len(x)), min(n_cuts, len(x) - 1)))
    return [x[start:stop] for start, stop in pairwise([0, *cuts, len(x)])]


def fitted(shape, kind, batches):
    """A scaling and the messages of the warnings it gave."""
    scaling = Scaling(shape, kind)
    with warnings.catch_warnings(record=True) as given_off:
        warnings.simplefilter("always")
        scaling.fit(batches)
    return scaling, [str(warning.message) for warning in given_off]


# ---- scaling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["standard", "range"])
@exhaustive
@given(
    n=st.integers(1, 30),
    n_cuts=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0, 100]),
    spread=st.integers(1, 100),
    dtype=st.sampled_from(list(DTYPES)),
    random=st.randoms(use_true_random=False),
)
def test_statistics_equal_those_of_the_whole_array_whatever_the_batches(
    kind, shape, n, n_cuts, seed, offset, spread, dtype, random
):
    x = (np.random.default_rng(seed).integers(0, spread, (n, *shape)) + offset).astype(dtype)
    scaling, given_off = fitted(shape, kind, cut(torch.from_numpy(x), n_cuts, random))

    axes, wide = AXES[len(shape)], x.astype(np.float64)
    low, high = wide.min(axes, keepdims=True)[0], wide.max(axes, keepdims=True)[0]
    shift, scale = (low, high - low)
    if kind == "standard":
        shift, scale = wide.mean(axes, keepdims=True)[0], wide.std(axes, keepdims=True)[0]
    scale = np.where(high == low, 1, scale)
    # Values are whole numbers below 200, so float64 errs by less than 1e-9 and the float32 buffers' rounding decides.
    np.testing.assert_allclose(scaling.scale.numpy(), scale, rtol=2 * UNIT)
    np.testing.assert_allclose(scaling.shift.numpy(), shift, rtol=2 * UNIT, atol=1e-9)
    assert bool(scaling.fitted)
    assert len(given_off) == bool((high == low).any())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["standard", "range", "robust", "none"])
@exhaustive
@given(n=st.integers(2, 20), seed=st.integers(0, 2**32 - 1), offset=st.floats(-1e3, 1e3), log_spread=st.floats(-3, 3))
def test_scaling_back_gives_the_raw_values_within_rounding(kind, shape, n, seed, offset, log_spread):
    x = torch.from_numpy(np.random.default_rng(seed).normal(offset, 10**log_spread, (n, *shape)).astype(np.float32))
    if kind in ("standard", "robust"):  # else refused, as a spread that float32 cannot tell
        low, high = np.quantile(by_feature(x), [0.25, 0.75], axis=1)
        assume((high - low > 2**-18 * np.abs(high)).all())
    scaling = Scaling(shape, kind)
    scaling.fit([x])
    back = scaling.inverse(scaling(x))
    # Four roundings: subtract, divide, multiply, add; the first three are relative to |x - shift|, the last to |x|.
    tolerance = UNIT * (4 * (x - scaling.shift).abs() + 2 * x.abs())
    assert bool(((back - x).abs() <= tolerance).all())


def test_samples_are_scaled_as_numpy_would():
    x = np.random.default_rng(0).normal([1.0, -20.0, 300.0], [1.0, 5.0, 0.1], (500, 3)).astype(np.float32)
    scaling = Scaling((3,))
    scaling.fit(torch.from_numpy(x).split(37))
    u = scaling(torch.from_numpy(x)).double().numpy()
    # x - shift errs by the rounding of shift, |shift| / scale in scaled units
    np.testing.assert_allclose(u, (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64), atol=3000 * 3 * UNIT)
    np.testing.assert_allclose(u.std(0), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_training_range_becomes_0_to_1_exactly(shape):
    x = torch.from_numpy(np.random.default_rng(0).normal(50, 9, (40, *shape)).astype(np.float32))
    scaling = Scaling(shape, "range")
    scaling.fit(x.split(7))
    u = scaling(x)
    axes = AXES[len(shape)]
    assert (u.amin(axes) == 0).all()
    assert (u.amax(axes) == 1).all()


@pytest.mark.parametrize("batch", [1, 64, 1000, 20_000])
def test_a_small_spread_around_a_large_offset_is_kept(batch):
    x = 1e6 + np.random.default_rng(0).normal(size=(20_000, 2))
    scaling = Scaling((2,))
    scaling.fit(torch.from_numpy(x).split(batch))
    np.testing.assert_allclose(scaling.scale.numpy(), x.std(0), rtol=1e-6)


def test_statistics_do_not_depend_on_the_order_of_batches():
    x = torch.from_numpy(np.random.default_rng(0).normal(5, 2, (60, 3)))
    forth, back = Scaling((3,)), Scaling((3,))
    forth.fit(x.split(7))
    back.fit(x.split(7)[::-1])
    np.testing.assert_allclose(forth.scale, back.scale, rtol=2 * UNIT)
    np.testing.assert_allclose(forth.shift, back.shift, rtol=2 * UNIT)


@pytest.mark.parametrize("kind", ["standard", "range", "robust"])
@pytest.mark.parametrize(
    ("shape", "what"), [((4,), "1 of 4 features"), ((4, 2, 2), "1 of 4 channels"), ((3, 4), "1 of 4 channels")]
)
def test_a_constant_feature_keeps_scale_1_and_warns(kind, shape, what):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(20, *shape)).astype(np.float32))
    constant = {1: np.s_[:, 2], 2: np.s_[:, :, 2], 3: np.s_[:, 2]}[len(shape)]
    x[constant] = 7.0
    scaling = Scaling(shape, kind)
    with pytest.warns(UserWarning, match=f"{what} never vary"):
        scaling.fit(x.split(6))
    assert scaling.scale.reshape(-1)[2] == 1
    assert scaling.shift.reshape(-1)[2] == 7
    assert (scaling(x)[constant] == 0).all()
    assert (scaling.scale.reshape(-1)[[0, 1, 3]] != 1).all()
    moved = x.clone()
    moved[constant] += 2.0**-10
    assert (scaling(moved)[constant] == 2.0**-10).all()  # an epsilon stays one


def test_one_row_is_constant_everywhere():
    scaling = Scaling((3,))
    with pytest.warns(UserWarning, match="3 of 3 features"):
        scaling.fit([torch.tensor([[1.0, 2.0, 3.0]])])
    assert scaling.scale.tolist() == [1, 1, 1]
    assert scaling.shift.tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", ["standard", "range", "robust", "quantile"])
@pytest.mark.parametrize("batches", [[], [torch.empty(0, 3)]], ids=["no batch", "an empty batch"])
def test_no_rows_teach_nothing(kind, batches):
    scaling = Scaling((3,), kind)
    with pytest.raises(ValueError, match="no rows"):
        scaling.fit(batches)
    assert not scaling.fitted


def test_no_scaling_leaves_values_alone_and_needs_no_fit():
    scaling = Scaling((3,), "none")
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    scaling.fit([x])
    assert bool(scaling.fitted)
    assert (scaling(x) == x).all()
    assert (scaling.inverse(x) == x).all()


@pytest.mark.parametrize("kind", ["minmax", "", "Standard", None])
def test_an_unknown_scaling_is_refused_with_the_known_ones(kind):
    with pytest.raises(ValueError, match="standard, range, robust, quantile or none"):
        Scaling((3,), kind)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_any_real_type_is_scaled_in_the_type_of_the_model(dtype):
    x = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(dtype)
    before = x.clone()
    scaling = Scaling((2,), "none")
    assert scaling(x).dtype == torch.float32
    assert scaling(x).tolist() == x.float().tolist()
    assert (x == before).all()


def test_scaling_leaves_its_input_alone():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    scaling = Scaling((3,))
    scaling.fit([x])
    scaling.inverse(scaling(x))
    assert (x == before).all()


@pytest.mark.parametrize("kind", ["standard", "range", "robust", "quantile"])
def test_statistics_travel_with_the_state_of_the_model(kind):
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    scaling, other = Scaling((3,), kind), Scaling((3,), kind)
    assert not scaling.fitted
    scaling.fit([x])
    other.load_state_dict(scaling.state_dict())
    assert bool(other.fitted)
    assert (other(x) == scaling(x)).all()
    assert not list(scaling.parameters())


@pytest.mark.parametrize("kind", ["standard", "range", "robust", "quantile", "none"])
def test_a_scaling_laid_out_without_memory_takes_its_state(kind):
    x = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0))
    scaling = Scaling((4, 3), kind)
    scaling.fit([x])
    with torch.device("meta"):
        other = Scaling((4, 3), kind)
    other.load_state_dict(scaling.state_dict(), assign=True)
    assert torch.equal(other(x), scaling(x))
    own = {"knots", "normal_scores"} if kind == "quantile" else set()
    assert scaling.state_dict().keys() == {"shift", "scale", "fitted"} | own


@pytest.mark.parametrize("shape", [(), (2, 3, 4, 5)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ValueError, match="got shape"):
        Scaling(shape)


# ---- scaling by quantiles ------------------------------------------------------------------------------------------


def by_feature(x):
    """(N, *shape) to (F, n) as float64: what one statistic is of."""
    axis = 2 if x.ndim == 3 else 1
    return np.moveaxis(np.asarray(x, np.float64), axis, 0).reshape(x.shape[axis], -1)


@pytest.mark.parametrize("shape", SHAPES)
@exhaustive
@given(n=st.integers(2, 60), n_cuts=st.integers(0, 9), seed=st.integers(0, 2**32 - 1), random=st.randoms())
def test_robust_scaling_is_that_of_numpy_whatever_the_batches(shape, n, n_cuts, seed, random):
    x = np.random.default_rng(seed).standard_cauchy((n, *shape)).astype(np.float32)
    scaling, _ = fitted(shape, "robust", cut(torch.from_numpy(x), n_cuts, random))
    low, middle, high = np.quantile(by_feature(x), [0.25, 0.5, 0.75], axis=1)
    np.testing.assert_allclose(scaling.shift.flatten(), middle, rtol=2 * UNIT, atol=1e-9)
    np.testing.assert_allclose(scaling.scale.flatten(), high - low, rtol=2 * UNIT)


def test_robust_scaling_is_that_of_scikit_learn():
    x = np.random.default_rng(0).lognormal(0, 2, (501, 4))
    scaling, _ = fitted((4,), "robust", torch.from_numpy(x).split(100))
    np.testing.assert_allclose(scaling(torch.from_numpy(x)), RobustScaler().fit_transform(x), rtol=1e-5, atol=1e-6)


def test_where_the_middle_half_is_one_value_robust_scaling_takes_the_deviation():
    x = torch.zeros(100, 1)
    x[:10] = torch.arange(10.0)[:, None]
    scaling, given_off = fitted((1,), "robust", [x])
    assert scaling.shift.item() == 0
    assert scaling.scale.item() == pytest.approx(x.double().std(correction=0).item(), rel=1e-6)
    assert not given_off


def naive_knots(x):
    """Quantiles of x (n,) at places that are evenly spaced in normal scores, for x without ties."""
    scores = np.linspace(norm.ppf(0.5 / len(x)), norm.ppf(1 - 0.5 / len(x)), KNOTS)
    return np.quantile(x, norm.cdf(scores), method="hazen"), scores


@pytest.mark.parametrize("shape", SHAPES)
@exhaustive
@given(n=st.integers(2, 80), n_cuts=st.integers(0, 9), seed=st.integers(0, 2**32 - 1), random=st.randoms())
def test_quantile_scaling_is_interpolation_of_normal_scores(shape, n, n_cuts, seed, random):
    x = np.random.default_rng(seed).lognormal(0, 1, (n, *shape)).astype(np.float32)
    scaling, _ = fitted(shape, "quantile", cut(torch.from_numpy(x), n_cuts, random))
    for values, u in zip(by_feature(x), by_feature(scaling(torch.from_numpy(x))), strict=True):
        np.testing.assert_allclose(u, np.interp(values, *naive_knots(values)), atol=2e-4)
        ranks = values.argsort().argsort()
        assert np.abs(u[ranks == 0] - norm.ppf(0.5 / len(values))) < 1e-4  # the ends are exact
        assert np.abs(u[ranks == len(values) - 1] - norm.ppf(1 - 0.5 / len(values))) < 1e-4


@pytest.mark.parametrize("draw", ["lognormal", "uniform", "standard_cauchy", "exponential", "normal"])
def test_quantile_scaling_makes_any_continuous_feature_normal(draw):
    x = torch.from_numpy(getattr(np.random.default_rng(0), draw)(size=(5000, 1)))
    scaling, _ = fitted((1,), "quantile", x.split(512))
    u = np.sort(scaling(x).double().numpy()[:, 0])
    # between knots the map is a line, so scores are near those of the ranks, not equal
    np.testing.assert_allclose(u, norm.ppf((np.arange(5000) + 0.5) / 5000), atol=0.08)
    assert abs(u.mean()) < 0.01
    assert u.std() == pytest.approx(1, abs=0.01)


def test_equal_values_share_a_score_near_that_of_their_middle():
    x = torch.tensor([0.0] * 900 + [1.0] * 100)[:, None]
    scaling, _ = fitted((1,), "quantile", [x])
    zero, one = scaling(torch.tensor([[0.0], [1.0]])).flatten().tolist()
    assert zero == pytest.approx(norm.ppf(0.45), abs=0.02)
    assert one == pytest.approx(norm.ppf(0.95), abs=0.02)


grids = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e4, 1e4, width=32, allow_subnormal=False)),
    min_size=2,
    max_size=40,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(train=grids, new=grids)
def test_quantile_scaling_is_monotone_and_finite_and_goes_back(train, new):
    train, new = (torch.tensor(values)[:, None] for values in (train, sorted(new)))
    spread = float(train.max() - train.min())
    assume(spread == 0 or spread >= 2**-19 * float(train.abs().max()))
    scaling, _ = fitted((1,), "quantile", [train])
    x = torch.cat([new, train, torch.tensor([[-1e6], [1e6]])]).sort(0).values
    u = scaling(x)
    assert torch.isfinite(u).all()
    assert (u.diff(dim=0) >= 0).all()
    apart = x.diff(dim=0) > 1e-3 * max(spread, 1)
    assert (u.diff(dim=0)[apart] > 0).all()
    # u is rounded, which the steepest line back makes larger
    width, height = scaling.knots.diff(dim=1), scaling.normal_scores.diff(dim=1)
    steepest = float((width[height > 0] / height[height > 0]).max())
    tolerance = 16 * UNIT * (x.abs() + train.abs().max() + (u.abs() + scaling.normal_scores.abs().max()) * steepest)
    assert ((scaling.inverse(u) - x).abs() <= tolerance).all()


def test_outliers_stay_outliers():
    x = np.random.default_rng(0).normal(100, 5, (2000, 1))
    scaling, _ = fitted((1,), "quantile", [torch.from_numpy(x)])
    sizes = torch.tensor([[150.0], [200.0], [1000.0]])
    near, far, farther = scaling(sizes).flatten().tolist()
    clipped = QuantileTransformer(output_distribution="normal").fit(x).transform(sizes.double().numpy())
    assert len(set(clipped.flatten().tolist())) == 1  # what must not happen
    assert 5 < near < far < farther
    assert far > 10
    assert farther > 100
    below = scaling(200 - sizes).flatten()
    assert below.max() < -5


def test_beyond_the_range_the_map_is_a_line_with_the_slope_of_the_last_unit():
    x = np.random.default_rng(1).exponential(3, 1000)
    scaling, _ = fitted((1,), "quantile", [torch.from_numpy(x)[:, None]])
    knots, scores = naive_knots(x)
    inner = np.searchsorted(scores, scores[-1] - 1, side="right") - 1
    slope = (scores[-1] - scores[inner]) / (knots[-1] - knots[inner])
    beyond = knots[-1] + np.array([0.0, 1.0, 50.0, 1e4])
    u = scaling(torch.from_numpy(beyond)[:, None]).flatten()
    np.testing.assert_allclose(u, scores[-1] + slope * (beyond - knots[-1]), rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6, -3e7])
def test_a_constant_feature_keeps_slope_1_by_quantiles_too(value):
    x = torch.full((20, 2), value)
    x[:, 1] = torch.arange(20.0)
    scaling, given_off = fitted((2,), "quantile", [x])
    assert "1 of 2 features never vary" in given_off[0]
    assert (scaling(x)[:, 0] == 0).all()
    moved = x[:3].clone()
    moved[:, 0] += torch.tensor([8.0, -8.0, 4096.0])
    assert scaling(moved)[:, 0].tolist() == [8, -8, 4096]
    assert scaling.inverse(scaling(moved))[:, 0].tolist() == moved[:, 0].tolist()


@pytest.mark.parametrize("kind", ["robust", "quantile"])
def test_a_sample_of_many_rows_gives_nearly_the_same_and_the_exact_range(kind, monkeypatch):
    monkeypatch.setattr("deepad.nn.SAMPLE", 2000)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50_000, 2)))
    first, again = (fitted((2,), kind, x.split(700))[0] for _ in range(2))
    assert torch.equal(first(x), again(x))
    np.testing.assert_allclose(first(x).std(0), 1 if kind == "quantile" else 1 / (2 * norm.ppf(0.75)), rtol=0.08)
    if kind == "quantile":
        assert torch.equal(first.knots[:, 1].double(), x.amin(0).float().double())
        assert torch.equal(first.knots[:, -2].double(), x.amax(0).float().double())


@pytest.mark.parametrize("kind", ["standard", "robust", "quantile"])
def test_a_spread_that_float32_cannot_tell_is_refused(kind):
    x = 1e9 + torch.arange(20, dtype=torch.float64)[:, None]
    with pytest.raises(ValueError, match="1 of 1 features vary by less than a millionth"):
        Scaling((1,), kind).fit([x])


@given(n=st.integers(1, 400), cuts=st.integers(0, 20), random=st.randoms())
@exhaustive
def test_a_sample_holds_each_row_once_and_all_if_they_fit(n, cuts, random):
    sample = _Sample(50)
    for batch in cut(torch.arange(n)[:, None], cuts, random):
        sample.add(batch)
    kept = sample.take()
    rows = sample.rows[0][:, 0].tolist()
    assert kept == len(rows) == len(set(rows)) == min(n, 50)
    assert rows == sorted(rows)


def test_every_row_is_as_likely_in_the_sample():
    counts = torch.zeros(200)
    for seed in range(400):
        sample = _Sample(20)
        sample.generator.manual_seed(seed)
        for batch in torch.arange(200)[:, None].split(30):
            sample.add(batch)
        sample.take()
        counts[sample.rows[0][:, 0]] += 1
    assert counts.sum() == 400 * 20
    # 200 binomial counts with mean 40: chi-square with about 199 degrees of freedom
    assert float(((counts - 40) ** 2 / 36).sum()) < chi2.ppf(0.999, 199)


# ---- linear layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dims", [(3, 2), (5, 4, 3), (2, 8, 8, 1)])
def test_layers_have_the_given_widths_with_activation_between_and_a_linear_end(dims, dropout, activation):
    layers = list(mlp(dims, activation=activation, dropout=dropout))
    between = [ACTIVATIONS[activation], *([nn.Dropout] if dropout else [])]
    kinds = [Linear]
    for _ in dims[2:]:
        kinds += [*between, Linear]
    assert [type(layer) for layer in layers] == kinds
    widths = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == list(pairwise(dims))
    assert all(layer.p == dropout for layer in layers if isinstance(layer, nn.Dropout))
    assert mlp(dims)(torch.zeros(7, dims[0])).shape == (7, dims[-1])


@pytest.mark.parametrize("dims", [(), (3,), (3, 0), (3, -1, 2), (3, 2.0), (3, "2"), (3, True), (3, None, 2)])
def test_widths_that_are_none_are_refused(dims):
    with pytest.raises(ValueError, match="layer widths"):
        mlp(dims)


@pytest.mark.parametrize("activation", ["", "ReLU", "softmax", None])
def test_an_unknown_activation_is_refused_with_the_known_ones(activation):
    with pytest.raises(ValueError, match="relu, leaky_relu"):
        mlp((3, 2), activation=activation)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5, float("nan")])
def test_a_dropout_outside_0_and_1_is_refused(dropout):
    with pytest.raises(ValueError, match="dropout"):
        mlp((3, 2), dropout=dropout)


@given(st.integers(1, 20), st.integers(1, 80), st.integers(0, 255), st.sampled_from([(256,), (256, 3)]))
def test_a_row_has_the_same_bits_wherever_it_stands_in_a_batch(n, k, place, shape):
    x, weight, bias = torch.randn(*shape, k), torch.randn(n, k), torch.randn(n)
    whole = steady_matmul(x, weight, bias)
    torch.testing.assert_close(whole, x @ weight.T + bias)
    assert torch.equal(steady_matmul(x.roll(place, 0), weight, bias).roll(-place, 0), whole)
