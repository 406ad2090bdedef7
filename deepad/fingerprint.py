"""Row fingerprints: how deepad notices that a row was seen before, and names data without keeping it.

A row is hashed as its float32 values, so the same row is recognised whether it arrives as uint8 or float64. A row that
is beyond float32, because a value overflows or all of them underflow, is hashed as its float64 values.

Two records may hold the same values. Where one row value makes up a good part of a table (a sensor at rest, an empty
form), it occurs in training and in new data alike, and its presence in both tells nothing. `recurring` says which
values these are: those of at least `SHARE` of the rows, and of at least `LEAST` of them. They must stand out: if more
than `MOST` of the distinct values were such, the rows have been copied, and none is taken for one.
"""

from hashlib import blake2b
from math import prod

import numpy as np
from numpy.typing import NDArray

Fingerprints = NDArray[np.int64]

SHARE = 0.01
LEAST = 5
MOST = 0.25


def fingerprint_rows(x: NDArray[np.generic]) -> Fingerprints:
    """64-bit hashes (N,) of the rows of x (N, *shape). Two different rows collide with probability 2**-64."""
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(x.reshape(len(x), prod(x.shape[1:])), dtype=np.float32)
        rows = rows + np.float32(0)  # -0.0 becomes 0.0
    digests = [blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        lost = np.flatnonzero(np.isinf(rows).any(1) | ~rows.any(1))
        for place in lost[x[lost].any(tuple(range(1, x.ndim)))]:  # a row of zeros lost nothing
            wide = x[place].astype(np.float64) + 0.0
            digests[place] = blake2b(wide.tobytes(), digest_size=8).digest()
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def recurring(rows: Fingerprints) -> Fingerprints:
    """The values among the fingerprints of rows (N,) that recur by themselves, see above."""
    values, counts = np.unique(rows, return_counts=True)
    often = counts >= max(LEAST, SHARE * len(rows))
    return np.asarray(values[often & (often.sum() <= MOST * len(values))])


def united(one: Fingerprints, other: Fingerprints) -> Fingerprints:
    """All rows of two sets that may have rows in common: each value as often as in the set that has more of it."""
    values = np.unique(np.concatenate([one, other]))
    counts = np.zeros(len(values), np.int64)
    for rows in (one, other):
        found, count = np.unique(rows, return_counts=True)
        places = np.searchsorted(values, found)
        counts[places] = np.maximum(counts[places], count)
    return np.repeat(values, counts)


def digest_of(fingerprints: Fingerprints) -> str:
    """One hex name for a set of rows, whatever their order."""
    return blake2b(np.sort(fingerprints).astype("<i8").tobytes(), digest_size=16).hexdigest()
