"""One pass over a loader: what a detector learns from its training rows before the first step."""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from deepad.errors import InputError
from deepad.fingerprint import Fingerprints, fingerprint_rows
from deepad.frames import as_numbers, refuse_samples

PASS_BATCH = 1024
"""Rows a batch of such a pass."""


def only_x(batch: Any) -> Tensor:
    """The x of a batch that holds nothing else.

    Raises:
        InputError: a batch with labels or of another type.
    """
    if isinstance(batch, list | tuple) and len(batch) == 1:
        batch = batch[0]
    if not isinstance(batch, Tensor):
        raise InputError(
            f"a detector trains on x alone, got a batch of type {type(batch).__name__}: give batches of one tensor; "
            "labels belong to test"
        )
    return batch.detach()


def _covers_its_dataset(loader: Any) -> bool:
    """Whether a loader yields each row of a dataset, in whatever order or share of processes."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    whole = isinstance(loader.sampler, Sized) and len(loader.sampler) == len(loader.dataset)  # type: ignore[arg-type]
    return whole or isinstance(loader.sampler, DistributedSampler)


def in_order(loader: Any) -> Iterator[Tensor]:
    """Every batch of x of a loader once, unshuffled and unsharded, so that what is learned from it is the same
    whatever the seed and the number of processes; a loader that draws a part of its dataset is taken as it is."""
    if _covers_its_dataset(loader):
        loader = DataLoader(loader.dataset, PASS_BATCH, collate_fn=loader.collate_fn, generator=torch.Generator())
    yield from map(only_x, loader)


def fingerprint_loader(loader: Any, shape: tuple[int, ...]) -> Fingerprints:
    """Fingerprints of all rows of a loader, which are checked on the way; a dataset that knows its own is asked."""
    known = getattr(loader.dataset, "fingerprints", None) if _covers_its_dataset(loader) else None
    found, bad = [], [np.empty(0, bool)]
    worst = np.empty(0, bool)
    for x in in_order(loader):
        if tuple(x.shape[1:]) != shape:
            raise InputError(
                f"this detector takes samples of shape {shape}, got {tuple(x.shape[1:])}: build it with that shape"
            )
        rows = as_numbers(x.float() if x.is_floating_point() else x)
        odd = ~np.isfinite(rows)
        bad.append(odd.reshape(len(rows), -1).any(1))
        if bad[-1].any() and not worst.size:
            worst = odd[np.argmax(bad[-1])]
        found.append(np.empty(0, np.int64) if known else fingerprint_rows(rows))
    if not found:
        raise InputError("a training or validation loader yields no batch")
    refuse_samples(np.concatenate(bad), worst, "NaN or infinite values, or some beyond float32")
    return known() if known else np.concatenate(found)
