"""What every baseline must do, whichever it is: members and the choices that they offer are found by looking."""

import inspect
import json
import math
import random
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from hashlib import sha256
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from conftest import within

from deepad.baselines.base import BLOCK, LARGEST, Baseline
from deepad.data.windows import windows_of
from deepad.errors import InputError, NotFittedError
from deepad.rooms import members
from deepad.scoring.scorer import Scorer

BASELINES = members("baselines", "Baseline")
SHAPES = [(5,), (12, 2), (2, 4, 4)]
DEAF = ("RandomScore", "ConstantScore")  # to what the sample is
BY_ROW = {"DBSCANDistance", "IsolationForest", "KMeansDistance", "KNearestNeighbors", "KernelDensity"}
BY_ROW |= {"LocalOutlierFactor", "MatrixProfile", "RandomScore"}


def normal(shape, n=80, seed=0, scale=0.2):
    """Normal samples: a noisy line through the features; of windows, those of a noisy series."""
    rng = np.random.default_rng([seed, len(shape)])
    if len(shape) == 2:
        t = np.arange(n + shape[0] - 1)[:, None]
        return windows_of(np.sin(t / 2 + np.arange(shape[1])) + scale * rng.normal(size=(len(t), shape[1])), shape[0])
    line = rng.normal(size=(n, 1)) * np.linspace(-1, 1, math.prod(shape))
    return (line + scale * rng.normal(size=line.shape)).reshape(n, *shape)


def odd(shape, n=20):
    """Large noise; of a window, largest in its last step, on which control charts look."""
    x = 6 * np.random.default_rng(9).normal(size=(n, *shape))
    if len(shape) == 2:
        x[:, -1] *= 6
    return x


def choices(name):
    """The arguments of a member: its defaults, and every other choice of each argument that offers some."""
    hints = get_type_hints(BASELINES[name].__init__)
    yield {}
    for argument, parameter in inspect.signature(BASELINES[name]).parameters.items():
        kind = hints[argument]
        offered = get_args(kind) if get_origin(kind) is Literal else (False, True) if kind is bool else ()
        yield from ({argument: choice} for choice in offered if choice != parameter.default)


@cache
def fitted(name, shape, **arguments):
    return BASELINES[name](**arguments).fit(normal(shape))


def taken(name):
    """The shapes that a member takes; it refuses the others with a ValueError."""
    shapes = []
    for shape in SHAPES:
        with suppress(ValueError):
            fitted(name, shape)
            shapes.append(shape)
    return shapes


def case(name, shape, arguments):
    return pytest.param(name, shape, arguments, id="-".join([name, str(len(shape)), *map(str, arguments.values())]))


TAKEN = {name: taken(name) for name in BASELINES}
ONCE = [pytest.param(name, shapes[0], id=name) for name, shapes in TAKEN.items()]
KINDS = [case(name, TAKEN[name][0], arguments) for name in BASELINES for arguments in choices(name)]
CASES = KINDS + [case(name, shape, {}) for name, shapes in TAKEN.items() for shape in shapes[1:]]
HEARING = [some for some in CASES if some.values[0] not in DEAF]
STANDARD = [some for some in CASES if fitted(some.values[0], some.values[1], **some.values[2]).scaling == "standard"]
REFUSED = [(name, shape) for name, shapes in TAKEN.items() for shape in SHAPES if shape not in shapes]

kinds = pytest.mark.parametrize(("name", "shape", "arguments"), KINDS)
cases = pytest.mark.parametrize(("name", "shape", "arguments"), CASES)
once = pytest.mark.parametrize(("name", "shape"), ONCE)


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def same_state(one, other):
    a, b = one.state_arrays(), other.state_arrays()
    return one.shape == other.shape and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)


def loaded(model):
    return type(model).from_state(model.params, model.state_arrays(), model.shape)


def test_every_member_takes_at_least_one_shape():
    assert all(TAKEN.values())
    assert {len(shape) for shapes in TAKEN.values() for shape in shapes} == {1, 2, 3}


def test_members_stand_under_the_contract_and_take_nothing_back():
    for name, member in BASELINES.items():
        between = [kind for kind in member.__mro__ if issubclass(kind, Baseline)][1:-1]
        assert not between or name in ("IQRDistance", "ModifiedZScore", "ZScore"), name
        assert len(between) < 2, name
        assert not [own for own, what in vars(member).items() if callable(what) and vars(Baseline).get(own) is what]


@pytest.mark.parametrize(("name", "shape"), REFUSED)
def test_a_shape_that_is_not_taken_is_refused_with_what_is_and_leaves_the_model_as_it_was(name, shape):
    model, fresh = loaded(fitted(name, TAKEN[name][0])), BASELINES[name]()
    for taught in (model, fresh):
        with pytest.raises(ValueError, match=rf"^{name} takes windows \(T, C\) of a series, got samples of shape"):
            taught.fit(normal(shape))
    assert same_state(model, fitted(name, TAKEN[name][0]))
    with pytest.raises(NotFittedError):
        fresh.score(normal(shape))


# ---- bits ----------------------------------------------------------------------------------------------------------


@cases
def test_a_score_has_the_same_bits_alone_in_any_batch_and_any_order_and_among_any_neighbours(name, shape, arguments):
    model, x = fitted(name, shape, **arguments), normal(shape, BLOCK + 30, seed=1)
    order = np.random.default_rng(1).permutation(len(x))
    for function in (model.score, model.contributions) if model.explains else (model.score,):
        whole = function(x)
        assert same(function(x[order]), whole[order])
        assert same(function(np.concatenate([x[:5], np.full((40, *shape), 1e30), x[5:9]]))[[*range(5), -1]],
                    whole[[*range(5), 8]])  # fmt: skip
        for size in (1, 7, BLOCK + 1):
            starts = range(0, min(len(x), 5 * size), size)
            parts = np.concatenate([function(x[start : start + size]) for start in starts])
            assert same(parts, whole[: len(parts)])


@once
def test_what_is_scored_may_come_in_any_form_and_is_left_as_it_was(name, shape):
    whole = np.round(20 * normal(shape) + 128)
    x = np.stack([whole, whole + 1], 1)[:, 0]  # every other row of a larger array
    model = BASELINES[name]().fit(whole)
    expected = model.score(whole)
    forms = [x, np.asfortranarray(x), np.flip(np.flip(x).copy()), x.tolist()]
    forms += [x.astype(kind) for kind in (np.float32, np.float16, np.uint8, np.int64, ">f8")]
    for number, form in enumerate(forms):
        before = np.array(form)
        if isinstance(form, np.ndarray):
            form.flags.writeable = False
        assert same(model.score(form), expected)
        if number < 5:
            assert same_state(BASELINES[name]().fit(form), model)
        assert np.array_equal(form, before)


@kinds
def test_fitting_again_gives_the_same_bits_and_draws_from_no_global_generator(name, shape, arguments):
    x, new = np.array(normal(shape)), normal(shape, 20, seed=1)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    model = BASELINES[name](**arguments).fit(normal(shape, seed=5)).fit(x)
    score = model.score(new)
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert all(np.array_equal(*pair) for pair in zip(before[1], after[1], strict=True))  # the place in the keys too
    assert torch.equal(before[2], after[2])
    assert same_state(model, fitted(name, shape, **arguments))
    x.fill(0)
    assert same(model.score(new), score), "a model keeps its own copy of what it needs"


@cases
def test_the_state_round_trip_keeps_every_bit(name, shape, arguments):
    model, x = fitted(name, shape, **arguments), normal(shape, 20, seed=1)
    arrays = {name: as_in_a_file(array) for name, array in model.state_arrays().items()}
    again = type(model).from_state(json.loads(json.dumps(model.params)), arrays, list(model.shape))
    assert all(array.flags.c_contiguous for array in model.state_arrays().values()), (
        "kernels sum in the order in memory"
    )
    assert again.params == model.params
    assert again.shape == shape
    assert again.fit_rows is None
    assert same_state(again, model)
    assert same(again.score(x), model.score(x))


def as_in_a_file(array):
    """Row by row, and at a place in memory that no allocation would choose."""
    return np.frombuffer(b"\0" * 8 + array.tobytes(), array.dtype, offset=8).reshape(array.shape)


FRESH = """
import sys, pathlib, hashlib, numpy as np
from deepad import Scorer
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    print(folder.name, hashlib.sha256(Scorer.load(folder)(np.load(folder / "x.npy")).score.tobytes()).hexdigest())
"""


@pytest.mark.filterwarnings("ignore:all 40 calibration scores equal 0")  # of ConstantScore
def test_what_is_saved_scores_the_same_in_a_fresh_process_to_the_bit(tmp_path):
    expected = []
    for some in KINDS:
        name, shape, arguments = some.values
        scorer, x = Scorer.calibrate(fitted(name, shape, **arguments), normal(shape, 40, seed=2)), odd(shape)
        scorer.save(tmp_path / some.id)
        np.save(tmp_path / some.id / "x.npy", x)
        expected.append(f"{some.id} {sha256(scorer(x).score.tobytes()).hexdigest()}")
    done = subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == sorted(expected)


@once
def test_a_row_that_is_scored_by_itself_costs_no_block(name, shape, monkeypatch):
    handed, model, x = [], loaded(fitted(name, shape)), normal(shape, 3, seed=1)
    score = model._score
    monkeypatch.setattr(model, "_score", lambda rows: handed.append(len(rows)) or score(rows))
    model.score(x)
    assert handed == [3 if model.by_row else BLOCK]
    assert model.by_row == (name in BY_ROW)


@once
def test_threads_that_score_with_one_model_for_the_first_time_get_the_right_bits(name, shape):
    x = normal(shape, 40, seed=1)
    expected, model = fitted(name, shape).score(x), loaded(fitted(name, shape))
    with ThreadPoolExecutor(4) as pool:
        assert all(same(score, expected) for score in pool.map(model.score, [x] * 8))


# ---- what a score means --------------------------------------------------------------------------------------------


@cases
def test_contributions_sum_to_the_score_or_are_refused(name, shape, arguments):
    model, x = fitted(name, shape, **arguments), np.concatenate([normal(shape, 20, seed=1), odd(shape)])
    if not model.explains:
        with pytest.raises(InputError, match=f"{name} does not split its score over its input"):
            model.contributions(x)
        return
    parts = model.contributions(x)
    assert parts.shape == x.shape
    np.testing.assert_allclose(parts.reshape(len(x), -1).sum(1), model.score(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "shape", "arguments"), HEARING)
def test_a_higher_score_is_more_anomalous(name, shape, arguments):
    model = fitted(name, shape, **arguments)
    share = 0.5 if arguments.get("metric") == "cosine" else 0.9  # of a line through 0 many directions are normal
    assert np.median(model.score(odd(shape))) > np.quantile(model.score(normal(shape, 100, seed=1)), share)


@pytest.mark.parametrize(("name", "shape", "arguments"), STANDARD)
def test_units_and_origins_of_features_or_channels_change_no_score(name, shape, arguments):
    rng = np.random.default_rng(3)
    units = {1: shape, 2: (1, shape[-1]), 3: (shape[0], 1, 1)}[len(shape)]
    scale, shift = 10 ** rng.uniform(-3, 3, units), rng.normal(size=units)
    x = np.concatenate([normal(shape, 20, seed=1), odd(shape)])
    other = BASELINES[name](**arguments).fit(normal(shape) * scale + shift)
    expected = fitted(name, shape, **arguments).score(x)
    np.testing.assert_allclose(other.score(x * scale + shift), expected, rtol=1e-6, atol=1e-6)


@once
def test_a_feature_that_never_varied_is_watched_all_the_same(name, shape):
    x, new = np.array(normal(shape)), np.array(normal(shape, 20, seed=1))
    for some in (x, new):
        some[..., -1] = 0.1
    model, high = BASELINES[name]().fit(x), new.copy()
    high[..., -1].reshape(len(new), -1)[:, -1] += 100  # of a window the last step of that channel
    assert np.isfinite(model.score(new)).all()
    if name not in (*DEAF, "IsolationForest"):  # which cannot cut between values that are all the same
        assert (model.score(high) > model.score(new)).all()


@once
def test_one_feature_and_rows_that_are_all_the_same_are_enough(name, shape):
    single = shape if len(shape) == 1 else (*shape[:-1], 1)
    single = (1,) if len(single) == 1 else single
    model = BASELINES[name]().fit(normal(single))
    assert np.isfinite(model.score(normal(single, 20, seed=1))).all()
    model = BASELINES[name]().fit(np.full((30, *shape), 0.1))
    assert np.isfinite(model.score(np.concatenate([np.full((3, *shape), 0.1), odd(shape)]))).all()


@cases
def test_no_row_is_too_large_to_score(name, shape, arguments):
    model, x = fitted(name, shape, **arguments), normal(shape, 4, seed=1)
    rows = [np.full(shape, sign * size) for size in (1e30, 1e38, 1e300) for sign in (1, -1)]
    for size in (1e30, 1e38, 1e300):
        mixed, single = np.full(shape, size), np.array(x[0])
        mixed.flat[::2] = -size
        single.flat[-1] = size
        rows += [mixed, single]
    score = model.score(np.concatenate([x, rows]))
    assert np.isfinite(score).all()
    if model.explains:
        assert not np.isnan(model.contributions(np.array(rows))).any()


# ---- what is refused -----------------------------------------------------------------------------------------------


@once
def test_nothing_is_told_before_fit(name, shape):
    for told in (BASELINES[name]().score, BASELINES[name]().contributions):
        with pytest.raises(NotFittedError, match=f"this {name} has not been fitted: call fit first"):
            told(normal(shape))
    with pytest.raises(NotFittedError):
        BASELINES[name]().state_arrays()


@once
def test_samples_of_another_shape_are_refused_and_none_give_no_scores(name, shape):
    model = fitted(name, shape)
    for other in (normal(shape)[0], normal(shape)[..., :1], normal(shape)[..., None], np.zeros((3, *shape[1:], 99))):
        with pytest.raises(InputError, match=f"this {name} takes samples"):
            model.score(other)
    assert model.score(np.empty((0, *shape))).shape == (0,)
    if model.explains:
        assert model.contributions(np.empty((0, *shape))).shape == (0, *shape)


@once
def test_what_holds_no_finite_numbers_is_refused_with_the_row(name, shape):
    model, x = fitted(name, shape), np.array(normal(shape, BLOCK + 30, seed=1))
    told = [model.score, model.scaled]
    told += [model.contributions] * model.explains + [model.reconstruct] * bool(model.expects)
    for bad in (math.nan, math.inf, -math.inf):
        spoiled = x.copy()
        spoiled[[BLOCK + 7, BLOCK + 20], ..., -1] = bad
        for function in told:
            with pytest.raises(
                InputError, match=rf"^2 of 286 samples hold NaN or infinite .* row {BLOCK + 7}, "
            ) as caught:
                function(spoiled)
            assert "\n" not in str(caught.value)
    for other in (x.astype(str), x.astype(complex), x.astype(object)):
        with pytest.raises(InputError, match="samples must be real numbers, got dtype"):
            model.score(other)


def test_fitting_holds_one_copy_of_the_samples_and_what_a_deviation_takes():
    x = windows_of(np.random.default_rng(0).normal(size=(20_000, 1)).astype("f4"), 50)
    tracemalloc.start()
    try:
        BASELINES["MovingVariance"]().fit(x)
        assert tracemalloc.get_traced_memory()[1] < 2.2 * 8 * x.size
    finally:
        tracemalloc.stop()


SPOILED = [
    (lambda x: x[:1], "needs at least .* rows, got 1"),
    (lambda x: x[:0], "is fitted on numbers"),
    (lambda x: x[:, :0], "is fitted on numbers"),
    (lambda x: x.ravel(), "is fitted on numbers"),
    (lambda x: x.astype(str), "must be real numbers"),
    (lambda x: x.astype(complex), "must be real numbers"),
    (lambda x: np.where(np.arange(x.size).reshape(x.shape) == x[0].size, np.nan, x), r"1 of 80 samples .* at row 1, "),
    (lambda x: np.where(x == x.max(), np.inf, x), "infinite"),
    (lambda x: np.where(x == x.min(), -2 * LARGEST, x), r"beyond 1e\+100"),
]


@once
def test_rows_that_teach_nothing_are_refused_and_leave_the_model_as_it_was(name, shape):
    model, fresh = loaded(fitted(name, shape)), BASELINES[name]()
    for spoil, message in SPOILED:
        for taught in (model, fresh):
            with pytest.raises(ValueError, match=message):
                taught.fit(spoil(np.array(normal(shape))))
        assert same_state(model, fitted(name, shape))
        with pytest.raises(NotFittedError):
            fresh.score(normal(shape))


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, member in BASELINES.items() for argument in inspect.signature(member).parameters],
)
def test_an_argument_out_of_range_is_refused_by_name_with_what_is_accepted(name, argument):
    for wrong in (-1, math.nan, math.inf, -math.inf, "some", ["some"], {}, object(), 1j):
        with pytest.raises(ValueError, match=f"{argument} must be") as refusal:
            BASELINES[name](**{argument: wrong})
        assert str(wrong) in str(refusal.value) or wrong == ["some"]  # of which the first may be named


@kinds
def test_arguments_are_stored_unchanged_and_are_plain(name, shape, arguments):
    model = BASELINES[name](**arguments)
    assert model.params.keys() == inspect.signature(BASELINES[name]).parameters.keys()
    assert arguments.items() <= model.params.items()
    assert json.loads(json.dumps(model.params)) == model.params


# ---- states that no member has -------------------------------------------------------------------------------------


def refused(model, arrays, shape=None, params=None):
    with within(5), pytest.raises(ValueError):  # noqa: PT011 # whatever is wrong, and at once
        type(model).from_state(model.params if params is None else params, arrays, shape or model.shape)


@cases
def test_arrays_of_other_names_shapes_types_or_without_a_number_are_refused(name, shape, arguments):
    model = fitted(name, shape, **arguments)
    arrays = model.state_arrays()
    refused(model, {**arrays, "extra": np.zeros(3)})
    for key, array in arrays.items():
        refused(model, {other: values for other, values in arrays.items() if other != key})
        bad = [array[None], array[..., :-1], np.concatenate([array, array], -1), array.ravel()[0], array.astype(bool)]
        bad += [array.astype(np.int64 if array.dtype.kind == "f" else np.float64), array.astype(str)]
        if (name, key) != ("PCAResidual", "components"):  # of which there may be none
            bad.append(array[:0])
        for value in (np.nan, np.inf) if array.dtype.kind == "f" and array.size else ():
            bad.append(np.where(np.arange(array.size).reshape(array.shape) == array.size - 1, value, array))
        if "positive" in model._kept[key]:
            bad += [with_one(array, value) for value in (0, -1)]
        for wrong in bad:
            refused(model, {**arrays, key: wrong})


def with_one(array, value):
    """The array with another value at its end, of a square at the end of the diagonal."""
    changed = array.copy()
    changed[(-1,) * array.ndim] = value
    return changed


def test_what_divides_or_has_a_logarithm_is_kept_positive():
    kept = {name: {key for key, layout in fitted(name, shapes[0])._kept.items() if "positive" in layout}
            for name, shapes in TAKEN.items()}  # fmt: skip
    expected = {
        name: {"scale"} if fitted(name, shapes[0]).scaling == "standard" else set() for name, shapes in TAKEN.items()
    }
    for name in ("IQRDistance", "ModifiedZScore", "Persistence", "SeasonalResidual", "ZScore"):
        expected[name].add("spread")
    for name in ("GaussianMixture", "MultivariateGaussian"):
        expected[name].add("whiten")
    for name in ("KernelDensity", "OneClassSVM"):
        expected[name].add("width")
    expected["LocalOutlierFactor"].add("density")
    expected["IsolationForest"].add("usual_depth")
    assert kept == expected


@cases
def test_a_shape_that_the_arrays_do_not_have_is_refused(name, shape, arguments):
    model = fitted(name, shape, **arguments)
    for wrong in [(0,), (-1,), (5.0,), ("5",), (True,), [[5]]]:
        refused(model, model.state_arrays(), wrong)
    if model.state_arrays() and name != "IsolationForest":  # whose trees ask for some of the features
        for wrong in [(7,), (12, 3), (10**9, 10**9), (3, 4, 4)]:
            refused(model, model.state_arrays(), wrong)


@pytest.mark.parametrize("key", ["left", "right"])
def test_trees_that_loop_or_lead_out_of_themselves_are_refused(key):
    model = fitted("IsolationForest", (5,))
    arrays = model.state_arrays()
    nodes = arrays[key].shape[1]
    for place, target in [
        ((0, 1), 0),
        ((-1, nodes - 1), 0),
        ((3, 0), -1),
        ((0, 0), nodes),
        ((0, nodes - 1), 2**31 - 1),
    ]:
        way = arrays[key].copy()
        way[place] = target
        refused(model, {**arrays, key: way})
    for feature in (-1, 5, 2**31 - 1):
        refused(model, {**arrays, "feature": np.full_like(arrays["feature"], feature)})


def test_states_that_hold_too_little_for_their_arguments_are_refused():
    model = fitted("KNearestNeighbors", (5,))
    refused(model, model.state_arrays(), params={**model.params, "n_neighbors": 81})
    model = fitted("LocalOutlierFactor", (5,))
    refused(model, {**model.state_arrays(), **{key: model.state_arrays()[key][:1] for key in model.fitted}})
    model = fitted("Persistence", (12, 2))
    refused(model, model.state_arrays(), params={"lag": 12})
    model = fitted("MatrixProfile", (12, 2))
    for ends in ([90], [92], [-5, 91], [50, 40, 91], [11, 91], [80, 91]):
        refused(model, {**model.state_arrays(), "ends": np.array(ends)})


class Narrow(Baseline):
    """A user's own, whose arrays are float32."""

    fitted = {"middle": "D"}

    def _fit(self, x):
        self.middle_ = x.mean(0).astype(np.float32)

    def _score(self, x):
        return np.abs(x - self.middle_).sum(1)


def test_arrays_that_are_fitted_in_float32_are_kept_in_float64():
    model = Narrow().fit(normal((4,), 50))
    assert model.state_arrays()["middle"].dtype == np.float64
    with pytest.raises(ValueError, match="middle must be finite float64"):
        Narrow.from_state({}, {"middle": np.zeros(4, np.float32)}, [4])


def test_whole_numbers_beyond_float64_are_warned_of_once_where_they_come_in():
    model = Narrow().fit(normal((4,), 50))
    scorer = Scorer.calibrate(model, normal((4,), 60, seed=3))
    with pytest.warns(UserWarning, match=r"beyond 2\*\*53") as caught:
        scorer(np.full((2000, 4), 2**60))
    assert len(caught) == 1
