"""Row fingerprints: how deepad notices that a row was seen before, and names data without keeping it.

A row is hashed as its float32 values, so the same row is recognised whether it arrives as uint8 or float64.
"""

from hashlib import blake2b
from math import prod

import numpy as np
from numpy.typing import NDArray

Fingerprints = NDArray[np.int64]


def fingerprint_rows(x: NDArray[np.generic]) -> Fingerprints:
    """64-bit hashes (N,) of the rows of x (N, *shape). Two different rows collide with probability 2**-64."""
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(x.reshape(len(x), prod(x.shape[1:])), dtype=np.float32)
        rows = rows + np.float32(0)  # -0.0 becomes 0.0
    digests = b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def digest_of(fingerprints: Fingerprints) -> str:
    """One hex name for a set of rows, whatever their order."""
    return blake2b(np.sort(fingerprints).astype("<i8").tobytes(), digest_size=16).hexdigest()
