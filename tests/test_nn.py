"""Layers: scaling against NumPy on the whole array, and what a stack of linear layers consists of."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepad.nn import ACTIVATIONS, Scaling, mlp

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
@pytest.mark.parametrize("kind", ["standard", "range", "none"])
@exhaustive
@given(n=st.integers(2, 20), seed=st.integers(0, 2**32 - 1), offset=st.floats(-1e3, 1e3), log_spread=st.floats(-3, 3))
def test_scaling_back_gives_the_raw_values_within_rounding(kind, shape, n, seed, offset, log_spread):
    x = torch.from_numpy(np.random.default_rng(seed).normal(offset, 10**log_spread, (n, *shape)).astype(np.float32))
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


@pytest.mark.parametrize("kind", ["standard", "range"])
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


@pytest.mark.parametrize("kind", ["standard", "range"])
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
    with pytest.raises(ValueError, match="standard, range or none"):
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


def test_statistics_travel_with_the_state_of_the_model():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    scaling, other = Scaling((3,)), Scaling((3,))
    assert not scaling.fitted
    scaling.fit([x])
    other.load_state_dict(scaling.state_dict())
    assert bool(other.fitted)
    assert (other(x) == scaling(x)).all()
    assert not list(scaling.parameters())


# ---- linear layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dims", [(3, 2), (5, 4, 3), (2, 8, 8, 1)])
def test_layers_have_the_given_widths_with_activation_between_and_a_linear_end(dims, dropout, activation):
    layers = list(mlp(dims, activation=activation, dropout=dropout))
    between = [ACTIVATIONS[activation], *([nn.Dropout] if dropout else [])]
    kinds = [nn.Linear]
    for _ in dims[2:]:
        kinds += [*between, nn.Linear]
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
