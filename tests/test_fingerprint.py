"""Fingerprints recognise a row whatever it arrives as, and nothing else."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepad.fingerprint import LEAST, MOST, SHARE, digest_of, fingerprint_rows, recurring, united

exhaustive = settings(derandomize=True, deadline=None, max_examples=100)
SHAPES = [(3,), (1, 4, 5), (6, 2)]
rows = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, ">f4"])
def test_a_row_is_recognised_whatever_its_type(dtype, shape):
    x = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    fingerprints = fingerprint_rows(x.astype(dtype))
    assert fingerprints.dtype == np.int64
    assert fingerprints.shape == (20,)
    assert fingerprints.tolist() == fingerprint_rows(x).tolist()


def test_a_row_is_recognised_whatever_its_layout():
    x = np.random.default_rng(0).normal(size=(20, 3, 4))
    expected = fingerprint_rows(x).tolist()
    assert fingerprint_rows(np.asfortranarray(x)).tolist() == expected
    assert fingerprint_rows(np.flip(np.flip(x).copy())).tolist() == expected
    x.flags.writeable = False
    assert fingerprint_rows(x).tolist() == expected


@exhaustive
@given(rows, st.data())
def test_a_row_is_recognised_wherever_it_stands(x, data):
    order = data.draw(st.permutations(range(len(x))))
    fingerprints = fingerprint_rows(x)
    assert fingerprint_rows(x[order]).tolist() == fingerprints[order].tolist()
    assert [fingerprint_rows(x[i : i + 1])[0] for i in range(len(x))] == fingerprints.tolist()


@exhaustive
@given(rows)
def test_rows_share_a_fingerprint_exactly_where_they_are_equal(x):
    fingerprints = fingerprint_rows(x)
    equal = (x[:, None] == x[None]).all(2)
    assert ((fingerprints[:, None] == fingerprints[None]) == equal).all()


def test_negative_zero_is_zero():
    assert fingerprint_rows(np.array([[0.0, 1.0]])).tolist() == fingerprint_rows(np.array([[-0.0, 1.0]])).tolist()


def test_a_change_of_one_value_by_one_unit_in_the_last_place_is_seen():
    x = np.random.default_rng(0).normal(size=(1, 50)).astype(np.float32)
    known = fingerprint_rows(x)[0]
    for column in range(50):
        changed = x.copy()
        changed[0, column] = np.nextafter(x[0, column], np.float32(np.inf))
        assert fingerprint_rows(changed)[0] != known


def test_exchanged_values_are_another_row():
    assert fingerprint_rows(np.array([[1.0, 2.0]]))[0] != fingerprint_rows(np.array([[2.0, 1.0]]))[0]


def test_many_rows_do_not_collide():
    x = np.random.default_rng(0).integers(0, 2, (20_000, 64)).astype(np.uint8)
    assert len(np.unique(fingerprint_rows(x))) == len(np.unique(x, axis=0))


@pytest.mark.parametrize("shape", SHAPES)
def test_no_rows_have_no_fingerprints(shape):
    assert fingerprint_rows(np.empty((0, *shape))).tolist() == []


def test_a_value_beyond_float32_has_a_fingerprint():
    x = np.array([[1e300, 1.0], [1.0, 1.0]])
    known = fingerprint_rows(x)
    assert known[0] != known[1]
    assert known.tolist() == fingerprint_rows(x.copy()).tolist()


@pytest.mark.parametrize("shape", [(), (0,), *SHAPES])
def test_rows_of_zeros_are_known_among_rows_that_underflow(shape):
    x = np.zeros((4, *shape))
    x[2] = 1e-60
    known = fingerprint_rows(x)
    zero = fingerprint_rows(np.zeros((1, *shape), np.float32))[0]
    assert (known[[0, 1, 3]] == zero).all()
    assert (known[2] == zero) == (x[2].size == 0)
    assert fingerprint_rows(-np.zeros((1, *shape))) == zero


def test_fingerprinting_leaves_the_rows_as_they_were():
    x = np.array([[-0.0, 1.0]], dtype=np.float32)
    fingerprint_rows(x)
    assert np.signbit(x[0, 0])


@exhaustive
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_order(values, random):
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert digest_of(np.array(values, np.int64)) == digest_of(np.array(shuffled, np.int64))


@exhaustive
@given(*[st.lists(st.integers(-3, 3), max_size=4)] * 2)
def test_digests_are_equal_exactly_where_the_rows_are_the_same(one, other):
    same = sorted(one) == sorted(other)
    assert (digest_of(np.array(one, np.int64)) == digest_of(np.array(other, np.int64))) == same


# ---- rows that recur by themselves, and rows of two sets ------------------------------------------------------------


def repeated(counts):
    """Fingerprints of which the i-th occurs so often, in no order."""
    values = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, len(counts))
    return values, np.random.default_rng(1).permutation(np.repeat(values, counts))


@exhaustive
@given(st.lists(st.sampled_from([1, 1, 1, 1, 2, LEAST - 1, LEAST, LEAST + 1, 40]), max_size=60), st.integers(0, 700))
def test_what_recurs_is_common_and_stands_out(counts, singles):
    values, rows = repeated([*counts, *[1] * singles])
    often = {v for v, n in Counter(rows.tolist()).items() if n >= LEAST and n >= SHARE * len(rows)}
    found = recurring(rows)
    assert found.dtype == np.int64
    assert found.tolist() == (sorted(often) if len(often) <= MOST * len(values) else [])


@pytest.mark.parametrize(
    ("counts", "n"),
    [
        ([300, *[1] * 600], 1),  # a third of all rows
        ([5, *[1] * 95], 1),
        ([4, *[1] * 96], 0),  # too few to tell
        ([9, *[1] * 991], 0),  # less than one in a hundred
        ([10, *[1] * 990], 1),
        ([20] * 25 + [1] * 75, 25),
        ([20] * 26 + [1] * 74, 0),  # a quarter of the values may be common, not more
        ([6] * 40, 0),  # a table that was copied
        ([1000], 0),
        ([], 0),
    ],
)
def test_the_borders_of_what_recurs(counts, n):
    values, rows = repeated(counts)
    assert recurring(rows).tolist() == sorted(values[:n].tolist())


@exhaustive
@given(*[st.lists(st.integers(-3, 3), max_size=12)] * 2)
def test_two_sets_united_hold_each_row_as_often_as_the_one_that_has_more_of_it(one, other):
    found = united(np.array(one, np.int64), np.array(other, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == sorted((Counter(one) | Counter(other)).elements())


def test_fingerprints_do_not_depend_on_the_process():
    code = (
        "import numpy as np; from deepad.fingerprint import digest_of, fingerprint_rows;"
        "print(digest_of(fingerprint_rows(np.arange(12.0).reshape(4, 3))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest_of(fingerprint_rows(np.arange(12.0).reshape(4, 3)))
