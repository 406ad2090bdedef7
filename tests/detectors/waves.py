"""Data that any detector can learn in a second."""

import numpy as np
import torch

from deepad.data.base import DataModule, Rows, Splits


class Waves(DataModule):
    """Normal samples on a curved surface in `shape`, anomalies off it."""

    def __init__(self, shape=(6,), n=600, seed=0, offset=0.0):
        super().__init__(batch_size=64, seed=seed)
        self.size, self.n, self.offset = shape, n, offset

    @property
    def shape(self):
        return self.size

    def load(self):
        rng = np.random.default_rng(self.seed)
        width = int(np.prod(self.size))
        t = rng.uniform(-1, 1, (self.n, 1))
        x = np.sin(t * np.linspace(1, 4, width)) + 0.02 * rng.normal(size=(self.n, width)) + self.offset
        odd = rng.uniform(-1, 1, (100, width)) + self.offset
        x = torch.from_numpy(np.concatenate([x, odd]).astype(np.float32)).view(-1, *self.size)
        y = torch.tensor([0] * self.n + [1] * 100)
        a, b, c = self.n // 2, self.n // 2 + self.n // 10, self.n // 2 + 3 * self.n // 10
        index = np.arange(len(x))
        return Splits(Rows(x, index[:a]), Rows(x, index[a:b]), Rows(x, index[b:c]), Rows(x, index[c:], y))


def rows_of(split):
    """The rows of a split, (n, *shape)."""
    return split.x[split.index]
