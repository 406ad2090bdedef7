"""What every data module must do; and the splits themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepad import Scorer
from deepad.baselines import KNearestNeighbors, MeanDistance
from deepad.data import MNIST, Digits, FashionMNIST, Series, Table
from deepad.data.base import DataModule, EpochShuffle, Rows, Splits, deal
from deepad.data.classes import choose_classes
from deepad.errors import DataLeakError, InputError, InsufficientCalibrationError
from deepad.fingerprint import fingerprint_rows, recurring, united
from deepad.rooms import members
from deepad.scoring.composed import Ensemble
from deepad.scoring.heldout import check_disjoint


class Doubled(DataModule):
    """Rows some of which occur twice."""

    shape = (2,)

    def __init__(self, rows, sizes):
        super().__init__(batch_size=4)
        self.rows, self.sizes = torch.tensor(rows, dtype=torch.float32), sizes

    def load(self):
        a, b, c, d = np.split(np.arange(len(self.rows)), np.cumsum(self.sizes)[:-1])
        y = torch.zeros(len(self.rows), dtype=torch.int64)
        return Splits(Rows(self.rows, a), Rows(self.rows, b), Rows(self.rows, c), Rows(self.rows, d, y))


def make(name):
    if name == "Digits":
        return Digits()
    if name == "Table":
        return Table(generator="transactions", generator_args={"rows": 1000})
    if name == "Series":
        return Series(generator="sensors", generator_args={"rows": 1500}, window_size=16)
    pytest.skip(f"{name} is checked where its files are")


@pytest.mark.parametrize("name", members("data", "DataModule"))
def test_the_four_splits_share_no_row_and_only_test_has_labels(name):
    check_contract(make(name))


def test_mnist_contract_on_real_files(deepad_data):
    data = MNIST(root=str(deepad_data / "mnist"), held_out=4)
    check_contract(data)
    assert len(data.splits.test) == 10_000
    assert data.test_labels().sum() == 982
    mirror = MNIST(root=str(deepad_data / "mnist"), normal=4)
    assert mirror.test_labels().sum() == 10_000 - 982
    assert len(mirror.splits.train) + len(mirror.splits.val) + len(mirror.splits.calibration) + mirror.dropped == 5842


def check_contract(data):
    splits = data.splits
    prints = [rows.fingerprints() for rows in (splits.train, splits.val, splits.calibration, splits.test)]
    for i, left in enumerate(prints):
        for right in prints[i + 1 :]:
            assert not np.isin(left, right).any()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.calibration_dataloader()):
        for x in loader:
            assert isinstance(x, torch.Tensor)
            assert x.shape[1:] == data.shape
            assert len(x) <= data.batch_size
    seen = 0
    for x, y in data.test_dataloader():
        assert x.shape[1:] == data.shape
        assert set(y.tolist()) <= {0, 1}
        seen += len(x)
    assert seen == len(splits.test)
    report = data.describe()
    assert report["test"]["n_anomalies"] == data.test_labels().sum()
    assert len({report[name]["digest"] for name in ("train", "val", "calibration", "test")}) == 4


def test_the_same_seed_deals_the_same_rows_and_another_does_not():
    first, again, other = (Digits(seed=seed).describe() for seed in (0, 0, 1))
    assert first == again
    assert first["train"]["digest"] != other["train"]["digest"]


@pytest.mark.parametrize(("arguments", "anomalous"), [({"held_out": 3}, {3}), ({"held_out": [1, 7]}, {1, 7})])
def test_held_out_digits_are_the_anomalies(arguments, anomalous):
    data, labels = Digits(**arguments), np.unique(Digits().test_labels())
    assert data.anomalous == anomalous
    assert set(labels) == {0, 1}


def test_the_mirror_protocol_trains_on_one_class():
    data = Digits(normal=3)
    assert data.anomalous == set(range(10)) - {3}
    assert data.test_labels().mean() > 0.9


@pytest.mark.parametrize("classes", [{"held_out": 10}, {"held_out": []}, {"normal": list(range(10))}, {"held_out": -1}])
def test_impossible_classes_are_refused(classes):
    with pytest.raises(ValueError, match="classes must be"):
        Digits(**classes)


def test_one_protocol_at_a_time():
    with pytest.raises(ValueError, match="either held_out"):
        choose_classes(1, 2, 10)
    with pytest.raises(ValueError, match="either held_out"):
        choose_classes(None, None, 10)


@given(
    n=st.integers(1, 200),
    sizes=st.lists(st.one_of(st.integers(1, 60), st.floats(0.01, 0.6)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_dealing_loses_and_repeats_no_row(n, sizes, seed):
    index = np.arange(n) * 3
    counts = [round(size * n) if isinstance(size, float) else size for size in sizes]
    if sum(counts) >= n:
        with pytest.raises(InsufficientCalibrationError):
            deal(index, sizes, seed)
        return
    parts = deal(index, sizes, seed)
    assert [len(part) for part in parts] == [*counts, n - sum(counts)]
    assert sorted(np.concatenate(parts)) == sorted(index)


@pytest.mark.parametrize("size", [0, 1.0, -0.1, -3, True, 1.5])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match="split size"):
        deal(np.arange(10), [size], 0)


def test_copies_of_calibration_and_test_rows_leave_train_and_val():
    rows = [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [1, 1], [7, 7], [2, 2], [4, 4]]
    data = Doubled(rows, [4, 2, 2, 2])  # row 1 recurs in calibration, rows 2 and 4 in test
    assert data.splits.train.index.tolist() == [0, 3]
    assert data.splits.val.index.tolist() == [5]
    assert data.dropped == 3


def at_rest(n=600, share=1 / 3, seed=0):
    """Rows of two numbers, a share of which is the same row far from all others."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)).astype(np.float32)
    rows[rng.permutation(n)[: round(share * n)]] = 30.0
    return rows


def test_a_row_that_recurs_by_itself_stays_in_training_and_refuses_no_calibration():
    rows = at_rest()
    data = Doubled(rows, [300, 60, 120, 120])
    assert data.splits.train.index.tolist() == list(range(300))
    assert data.splits.val.index.tolist() == list(range(300, 360))
    assert data.dropped == 0
    train, val = rows[:300], rows[300:360]
    members = {"a": MeanDistance().fit(train), "b": KNearestNeighbors().fit(train)}
    resting = int((rows[360:480, 0] == 30).sum())
    assert data.describe()["recurring"] == resting > 20
    for model in (members["a"], MeanDistance().fit(rows[:360]), Ensemble(members).fit(val)):
        Scorer.calibrate(model, data.calibration_dataloader())
        with pytest.raises(DataLeakError, match=f"{resting + 1} of 121 calibration rows trained"):
            Scorer.calibrate(model, np.concatenate([rows[360:480], train[train[:, 0] < 30][:1]]))


def test_rows_that_were_oversampled_are_no_calibration_data():
    """Copies of a few training rows look as if they recurred by themselves; only who dealt the table may say so."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 5))
    rows = rng.permutation(np.concatenate([rows, *[rows[:20]] * 29])).astype(np.float32)
    assert len(recurring(fingerprint_rows(rows[:600]))) == 20
    with pytest.raises(DataLeakError, match="of 280 calibration rows trained or selected this model"):
        Scorer.calibrate(KNearestNeighbors(1).fit(rows[:600]), rows[600:])


@pytest.mark.parametrize("copies", [2, 5, 20])
def test_rows_of_a_table_that_was_copied_are_dropped_or_refused(copies):
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.repeat(rng.normal(size=(40, 2)), copies, axis=0)).astype(np.float32)
    data = Doubled(rows, [len(rows) // 2, len(rows) // 8, len(rows) // 8, len(rows) // 4])
    if copies == 20:
        with pytest.raises(DataLeakError, match="remove duplicates first"):
            _ = data.splits
    else:
        held_back = np.concatenate([data.splits.calibration.fingerprints(), data.splits.test.fingerprints()])
        assert not np.isin(data.fit_fingerprints(), held_back).any()
        assert data.dropped > 10
    with pytest.raises(DataLeakError, match="40 of 40"):
        Scorer.calibrate(MeanDistance().fit(rows), np.unique(rows, axis=0))


@given(
    counts=st.lists(st.integers(1, 12), max_size=40),
    singles=st.integers(0, 900),
    shares=st.tuples(*[st.integers(1, 9)] * 4),
    seed=st.integers(0, 999),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_whatever_repeats_itself_no_row_that_stays_refuses_the_calibration(counts, singles, shares, seed):
    values = np.repeat(np.arange(len(counts) + singles), [*counts, *[1] * singles])
    rows = np.random.default_rng(seed).permutation(values)[:, None]
    ends = np.cumsum([0, *shares]) * len(rows) // sum(shares)
    data = Doubled(rows, np.diff(ends).tolist())
    try:
        splits = data.splits
    except (DataLeakError, InputError):  # nothing else was left
        return
    train, val, calibration, test = (split.fingerprints() for split in vars(splits).values())
    everything = np.concatenate([rows.fingerprints() for rows in vars(data.load()).values()])
    for fitted in (train, np.concatenate([train, val]), united(train, val)):
        check_disjoint(fitted, calibration, splits.calibration.recurring)
        shared = np.intersect1d(fitted, np.concatenate([calibration, test]))
        assert np.isin(shared, recurring(everything)).all(), "only what recurs is on both sides"
    assert len(train) + len(val) + len(calibration) + len(test) + data.dropped == len(rows)


def test_a_split_of_nothing_but_copies_is_refused():
    with pytest.raises(DataLeakError, match="each of the 2 train rows"):
        _ = Doubled([[1, 1], [2, 2], [3, 3], [1, 1], [2, 2]], [2, 1, 1, 1]).splits


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="calibration split is empty"):
        _ = Doubled([[1, 1], [2, 2], [3, 3]], [1, 1, 0, 1]).splits


def test_a_batch_equals_its_samples_one_by_one(digits):
    rows = digits.splits.test
    batch = [5, 0, 17]
    x, y = rows.__getitems__(batch)
    assert torch.equal(x, torch.stack([rows[i][0] for i in batch]))
    assert torch.equal(y, torch.stack([rows[i][1] for i in batch]))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = EpochShuffle(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(order(0, 0)) == list(range(50))
    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_loading_and_shuffling_leave_the_global_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    data = Digits()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        list(loader)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_missing_files_say_what_goes_where(tmp_path):
    with pytest.raises(InputError, match="train-images-idx3-ubyte") as caught:
        _ = FashionMNIST(root=str(tmp_path), download=False).splits
    assert str(tmp_path / "FashionMNIST" / "raw") in str(caught.value)
