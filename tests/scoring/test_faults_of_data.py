"""Faults of data, at every door through which data come in: fitting, training, calibrating, judging, streaming."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import train
from everymodel import DETECTORS, SMALL, rows, same, scorer
from torch.utils.data import DataLoader

from deepad import Scorer
from deepad.baselines import KNearestNeighbors
from deepad.errors import DataLeakError, InputError

SHAPE = (4,)
VAL = torch.tensor(rows("val", SHAPE), dtype=torch.float32)
JUDGE = "DenseAutoencoder"


def trained_on(x):
    """Train on one batch after the other of a tensor, whose fit may leave no trace."""
    detector = DETECTORS[JUDGE](SHAPE, **SMALL[JUDGE])
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    x = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(x))
    loaders = [DataLoader(part, 16, generator=torch.Generator()) for part in (x, VAL)]
    try:
        with torch.random.fork_rng():
            train(detector, loaders[0], None, val=loaders[1], max_epochs=1, enable_checkpointing=False)
    except InputError:
        assert detector.fit_rows is None
        assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
        raise
    return detector


DOORS = {
    "fit": lambda x: KNearestNeighbors(3).fit(x),
    "score": lambda x: scorer("KNearestNeighbors").model.score(x),
    "train": trained_on,
    "calibrate": lambda x: Scorer.calibrate(scorer(JUDGE).model, x, alpha=0.1),
    "judge": lambda x: scorer(JUDGE)(x),
    "judge by a baseline": lambda x: scorer("KNearestNeighbors")(x),
    "stream": lambda x: list(scorer(JUDGE).stream(x)),
    "explain": lambda x: scorer(JUDGE).explain(x, [0]),
}
door = pytest.mark.parametrize("door", DOORS)
TENSORS = ("train",)
"""Doors that take tensors or arrays of them alone."""


@door
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_1_and_2_what_is_not_finite_is_refused_with_how_many_and_the_place_of_the_first(door, bad):
    x = np.array(rows("calibration", SHAPE), np.float32)
    x[21, 2] = x[35, 0] = x[35, 3] = bad
    with pytest.raises(
        InputError, match=r"^2 of 60 samples hold NaN or infinite .*first at row 21, column 2"
    ) as caught:
        DOORS[door](x)
    assert "\n" not in str(caught.value)


def test_1_of_windows_and_images_the_place_inside_is_named():
    for name, place in (("LSTMAutoencoder", (5, 1)), ("ControlChart", (5, 1))):
        x = np.array(rows("test", (8, 2)))
        x[(7, *place)] = np.nan
        with pytest.raises(InputError, match=re.escape(f"(first at row 7, place {place})")):
            scorer(name)(x)


@pytest.mark.filterwarnings("ignore:Total length of .*Loader. across ranks is zero")
@pytest.mark.parametrize("door", [name for name in DOORS if name not in ("score", "stream")])
def test_6_no_rows_are_refused(door):
    with pytest.raises(InputError):
        DOORS[door](np.empty((0, 4), np.float32))


def test_6_of_no_rows_there_are_no_scores_and_a_stream_of_them_has_no_verdicts():
    assert DOORS["score"](np.empty((0, 4))).shape == (0,)
    assert DOORS["stream"](np.empty((0, 4))) == []


@door
def test_8_rows_without_a_feature_are_refused(door):
    with pytest.raises(InputError, match=r"\(60, 0\)|got \(0,\)"):
        DOORS[door](np.empty((60, 0), np.float32))


@door
def test_9_one_dimension_is_refused_with_the_way_to_reshape_it(door):
    x = np.array(rows("calibration", SHAPE)[0], np.float32)
    with pytest.raises(InputError, match=r"reshape|takes samples") as caught:
        DOORS[door](x)
    if door in ("calibrate", "judge", "judge by a baseline", "stream", "explain"):
        assert "reshape one sample to (1, 4)" in str(caught.value)


@door
def test_10_and_11_samples_of_another_shape_are_refused_with_both_shapes(door):
    x = np.array(rows("calibration", SHAPE), np.float32)
    for other in (x[:, None], x[:, :3], np.hstack([x, x])):
        if door == "fit":
            continue  # any shape may be learned
        with pytest.raises(InputError) as caught:
            DOORS[door](other)
        numbers = re.findall(r"\d+", str(caught.value))
        assert "4" in numbers
        assert str(other.shape[-1]) in numbers


FAULTY = {
    "13 text": lambda x: x.astype(str),
    "13 objects": lambda x: np.where(x > 1e9, x, None),
    "14 complex": lambda x: x.astype(complex),
    "16 sparse": scipy.sparse.csr_matrix,
    "16 sparse array": scipy.sparse.coo_array,
    "16 sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "17 masked": lambda x: np.ma.masked_array(x, x > 100),
    "19 ragged": lambda x: [*x.tolist(), [1.0, 2.0]],
    "22 missing": lambda x: pd.DataFrame(x).astype("Float64").mask(pd.DataFrame(x) > 100),
}


@pytest.mark.parametrize("door", [name for name in DOORS if name not in TENSORS])
@pytest.mark.parametrize("fault", FAULTY)
def test_13_to_22_what_is_no_array_of_real_numbers_is_refused_in_one_line(door, fault):
    x = np.array(rows("calibration", SHAPE))
    x[4, 1] = 120
    with pytest.raises(InputError) as caught:
        DOORS[door](FAULTY[fault](x))
    assert "\n" not in str(caught.value)
    if fault == "22 missing":
        assert "hold NaN" in str(caught.value)
        assert "first at row" in str(caught.value)


@door
def test_15_whole_numbers_that_float64_does_not_tell_apart_are_taken_with_a_warning(door):
    x = np.array(rows("calibration", SHAPE), np.int64)
    x[:, 0] += np.arange(60) * 2**47
    DOORS[door](x)
    x[9, 3] = 2**53 + 1
    for wide in (x, -x) if door in TENSORS else (x, -x, x.astype(np.uint64)):
        with pytest.warns(UserWarning, match=r"whole numbers beyond 2\*\*53 are not exact"):
            DOORS[door](wide)


@door
def test_15_20_and_21_numbers_of_every_width_and_tensors_with_gradients_are_taken(door):
    x = np.array(rows("calibration", SHAPE))
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int64]
    whole = [torch.tensor(x).to(kind) for kind in kinds]
    for given in (*whole, torch.tensor(x > 64), torch.tensor(x, dtype=torch.float32).requires_grad_()):
        before = given.detach().clone()
        DOORS[door](given)
        assert torch.equal(given, before)


def test_18_layouts_are_learned_from_alike_and_left_alone(tmp_path):
    x = np.array(rows("calibration", SHAPE))
    x.flags.writeable = False
    np.save(tmp_path / "x.npy", x)
    wide = np.repeat(x, 2, 0)[::2]
    for door in ("fit", "calibrate"):
        expected = DOORS[door](x)
        for given in (np.asfortranarray(x), wide, np.load(tmp_path / "x.npy", mmap_mode="r"), x.astype(">f8")):
            made = DOORS[door](given)
            if door == "fit":
                assert made.points_.tobytes() == expected.points_.tobytes()
            else:
                assert same(made(rows("test", SHAPE)), expected(rows("test", SHAPE)))
    assert np.array_equal(x, rows("calibration", SHAPE))


def test_20_a_tensor_on_another_device_is_moved():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    x = rows("test", SHAPE)
    for name in (JUDGE, "KNearestNeighbors"):
        assert same(scorer(name)(torch.tensor(x, device="cuda")), scorer(name)(x))


@pytest.mark.parametrize("name", [JUDGE, "KNearestNeighbors", "Hybrid", "Ensemble"])
def test_23_rows_that_trained_are_refused_with_how_many(name):
    x = np.concatenate([rows("calibration", SHAPE), rows("train", SHAPE)[:7]])
    repeated = int(np.isin(x @ 128.0 ** np.arange(4), rows("train", SHAPE) @ 128.0 ** np.arange(4)).sum())
    assert repeated == 7
    with pytest.raises(DataLeakError, match=r"^7 of 67 calibration rows trained or selected .*first at row 60\)"):
        Scorer.calibrate(scorer(name).model, x)
