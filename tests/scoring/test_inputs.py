"""The door of scoring: what comes in, in what blocks it goes on, and what is turned away."""

import re

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from deepad.errors import DeepadError, InputError
from deepad.schema import TableSchema
from deepad.scoring.inputs import as_samples, in_blocks

exhaustive = settings(derandomize=True, deadline=None, max_examples=200)
SHAPES = [(3,), (1, 4, 5), (3, 4, 5), (6, 2)]


def numbers(n, shape, dtype=np.float64):
    return np.random.default_rng(0).integers(0, 100, (n, *shape)).astype(dtype)


# ---- one array of samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_of_the_right_shape_come_in_as_they_are(shape):
    x = numbers(7, shape)
    assert as_samples(x, shape) is x


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i8", "u8", "f2", "f4", "f8", ">f4"])
def test_numbers_of_every_width_come_in_with_their_values(dtype):
    x = numbers(5, (3,), dtype)
    assert as_samples(x, (3,)).dtype == x.dtype
    assert as_samples(x, (3,)).tolist() == x.tolist()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_every_width_come_in_with_their_values(dtype):
    x = torch.from_numpy(numbers(5, (3,))).to(dtype)
    assert as_samples(x, (3,)).tolist() == x.tolist()


def test_a_tensor_with_gradient_comes_in():
    x = torch.ones(2, 3, requires_grad=True)
    assert as_samples(x, (3,)).tolist() == [[1.0] * 3] * 2


def test_nested_lists_come_in():
    assert as_samples([[1, 2, 3], [4, 5, 6]], (3,)).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_grey_channel_may_be_left_out():
    x = numbers(6, (4, 5), np.uint8)
    samples = as_samples(x, (1, 4, 5))
    assert samples.shape == (6, 1, 4, 5)
    assert (samples[:, 0] == x).all()
    assert np.shares_memory(samples, x)


@pytest.mark.parametrize("channels", [2, 3])
def test_no_other_channel_may_be_left_out(channels):
    with pytest.raises(InputError):
        as_samples(numbers(6, (4, 5)), (channels, 4, 5))


@pytest.mark.parametrize(
    ("arrived", "shape"),
    [((5, 4), (3,)), ((3,), (3,)), ((5, 3, 1), (3,)), ((5, 1, 5, 4), (1, 4, 5)), ((5, 4, 5, 1), (1, 4, 5)), ((), (3,))],
)
def test_a_wrong_shape_is_refused_with_both_shapes(arrived, shape):
    wanted = f"(N, {', '.join(map(str, shape))})"
    with pytest.raises(InputError, match=f"{re.escape(wanted)}.*{re.escape(str(arrived))}") as caught:
        as_samples(np.zeros(arrived), shape)
    assert isinstance(caught.value, DeepadError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5), (6, 2)])
def test_a_single_sample_is_refused_with_how_to_reshape_it(shape):
    x = numbers(1, shape)
    with pytest.raises(InputError, match="reshape") as caught:
        as_samples(x[0], shape)
    advised = tuple(map(int, re.search(r"to \(([\d, ]+)\)", str(caught.value))[1].split(", ")))
    assert as_samples(x[0].reshape(advised), shape).shape == x.shape


def writeable(x):
    return x


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def with_gaps(x):
    wide = np.full((2 * len(x), *x.shape[1:]), np.nan)
    wide[::2] = x
    return wide[::2]


def backwards(x):
    return np.flip(np.flip(x).copy())


LAYOUTS = [writeable, read_only, with_gaps, backwards, np.asfortranarray]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_is_accepted_and_left_as_it_was(layout, shape):
    x = layout(numbers(9, shape))
    before, flags = x.copy(), (x.flags.writeable, x.strides)
    assert (as_samples(x, shape) == before).all()
    assert (np.concatenate(list(in_blocks(x, shape, 4))) == before).all()
    assert (x == before).all()
    assert (x.flags.writeable, x.strides) == flags


def test_a_memory_map_is_accepted_and_left_as_it_was(tmp_path):
    x = numbers(9, (3,))
    np.save(tmp_path / "x.npy", x)
    before = (tmp_path / "x.npy").read_bytes()
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert (np.concatenate(list(in_blocks(mapped, (3,), 4))) == x).all()
    assert (tmp_path / "x.npy").read_bytes() == before


NO_SAMPLES = {
    "masked": np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3)),
    "complex": np.ones((2, 3), complex),
    "complex tensor": torch.ones(2, 3, dtype=torch.complex64),
    "ragged": [[1, 2, 3], [4, 5]],
    "text": [["1", "2", "3"]],
    "bytes": np.array([[b"1", b"2", b"3"]]),
    "objects": np.array([[1, 2, None]], dtype=object),
    "dates": np.zeros((2, 3), "M8[D]"),
    "records": np.zeros((2, 3), [("a", "f8")]),
    "sparse matrix": scipy.sparse.csr_matrix(np.eye(3)),
    "sparse csr": scipy.sparse.csr_array(np.eye(3)),
    "sparse csc": scipy.sparse.csc_array(np.eye(3)),
    "sparse coo": scipy.sparse.coo_array(np.eye(3)),
    "sparse coo matrix": scipy.sparse.coo_matrix(np.eye(3)),
    "sparse tensor": torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("x", NO_SAMPLES.values(), ids=NO_SAMPLES.keys())
def test_what_is_no_array_of_real_numbers_is_refused(x):
    with pytest.raises(InputError):
        as_samples(x, (3,))
    with pytest.raises(InputError):
        list(in_blocks(x, (3,), 2))


@pytest.mark.parametrize("x", ["rows.csv", 7, None], ids=repr)
def test_what_is_no_array_at_all_is_refused(x):
    with pytest.raises(InputError):
        list(in_blocks(x, (3,), 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_value_that_is_not_finite_is_refused_with_its_row(bad, dtype):
    x = numbers(10, (2, 3), dtype)
    x[4, 1, 2] = x[7, 0, 0] = x[7, 1, 1] = bad
    with pytest.raises(InputError, match=r"2 of 10 samples .*first at row 4\b"):
        as_samples(x, (2, 3))


def test_the_row_of_a_bad_value_is_counted_across_batches():
    x = numbers(10, (3,))
    x[8, 1] = np.nan
    with pytest.raises(InputError, match=r"first at row 8\b"):
        list(in_blocks(iter([x[:4], x[4:7], x[7:]]), (3,), 2))


def test_rows_before_a_bad_value_are_still_given_in_whole_blocks():
    x = numbers(10, (3,))
    x[8, 1] = np.nan
    blocks = in_blocks(iter([x[:5], x[5:]]), (3,), 2)
    assert (next(blocks) == x[:2]).all()
    assert (next(blocks) == x[2:4]).all()
    with pytest.raises(InputError):
        next(blocks)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_samples_are_samples_of_no_rows(shape, dtype):
    assert as_samples(np.empty((0, *shape), dtype), shape).shape == (0, *shape)
    assert list(in_blocks(np.empty((0, *shape), dtype), shape, 4)) == []


# ---- blocks --------------------------------------------------------------------------------------------------------


def cut(x, sizes):
    """x in batches of the given sizes; what is left over goes into a last one."""
    batches, start = [], 0
    for size in sizes:
        batches.append(x[start : start + size])
        start += size
    return [*batches, x[start:]]


def labelled_tuples(batches):
    return ((batch, np.ones(len(batch))) for batch in batches)


def labelled_lists(batches):
    return ([batch, np.ones(len(batch))] for batch in batches)


def tensors(batches):
    return (torch.from_numpy(batch) for batch in batches)


@pytest.mark.parametrize("wrapped", [iter, tuple, labelled_tuples, labelled_lists, tensors])
@exhaustive
@given(
    n=st.integers(0, 60),
    sizes=st.lists(st.integers(0, 30), max_size=12),
    size=st.integers(1, 20),
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from([np.float32, np.float64, np.uint8]),
)
def test_blocks_put_together_are_the_input_whatever_the_batches(wrapped, n, sizes, size, shape, dtype):
    x = numbers(n, shape, dtype)
    blocks = list(in_blocks(wrapped(cut(x, sizes)), shape, size))
    assert [len(block) for block in blocks] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert all(block.dtype == dtype and block.shape[1:] == shape for block in blocks)
    if n:
        assert (np.concatenate(blocks) == x).all()


@exhaustive
@given(n=st.integers(1, 60), size=st.integers(1, 20), as_list=st.booleans())
def test_one_array_and_one_list_are_cut_into_the_same_blocks(n, size, as_list):
    x = numbers(n, (3,))
    blocks = list(in_blocks(x.tolist() if as_list else x, (3,), size))
    assert [block.tolist() for block in blocks] == [x[i : i + size].tolist() for i in range(0, n, size)]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_of_a_loader_of_labelled_batches_only_the_samples_are_taken(batch_size):
    x = numbers(50, (1, 4, 5), np.float32)
    data = TensorDataset(torch.from_numpy(x), torch.ones(50))
    blocks = list(in_blocks(DataLoader(data, batch_size), (1, 4, 5), 16))
    assert [len(block) for block in blocks] == [16, 16, 16, 2]
    assert (np.concatenate(blocks) == x).all()


def test_blocks_are_given_as_soon_as_they_are_full():
    taken = []

    def batches():
        for start in range(0, 100, 5):
            taken.append(start)
            yield numbers(5, (3,))

    blocks = in_blocks(batches(), (3,), 10)
    next(blocks)
    assert taken == [0, 5]


def test_a_batch_of_another_shape_is_refused_where_it_comes():
    with pytest.raises(InputError, match=r"\(2, 4\)"):
        list(in_blocks(iter([numbers(5, (3,)), numbers(2, (4,))]), (3,), 4))


# ---- data frames ---------------------------------------------------------------------------------------------------


def test_frames_are_encoded_one_by_one_and_come_in_blocks():
    table = pa.table({"x": np.arange(20.0), "c": ["a", "b"] * 10})
    schema = TableSchema.learn(table)
    expected = schema.encode(table)
    parts = [table.slice(0, 7), table.slice(7, 0), table.slice(7, 1), table.slice(8)]
    mixed = [parts[0], expected[7:]]
    for x in (table, table.to_pandas(), parts, iter(parts), [part.to_pandas() for part in parts], iter(mixed)):
        blocks = list(in_blocks(x, (schema.size,), 6, table=schema))
        assert [len(block) for block in blocks] == [6, 6, 6, 2]
        assert (np.concatenate(blocks) == expected).all()
    assert (np.concatenate(list(in_blocks(expected.tolist(), (schema.size,), 6, table=schema))) == expected).all()


def test_a_faulty_row_of_a_later_frame_is_counted_over_all():
    table = pa.table({"x": [1.0, None, 3.0]})
    schema = TableSchema.learn(table)
    with pytest.raises(InputError, match="first at row 13"):
        list(in_blocks([table.take([0] * 12), table], (1,), 5, table=schema))
