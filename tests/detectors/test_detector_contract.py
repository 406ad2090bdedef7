"""What every detector must do, whichever it is: members are found by looking."""

import inspect
import json

import numpy as np
import pytest
import torch
from conftest import train

from deepad.data.base import DataModule, Rows, Splits
from deepad.errors import DataLeakError, InputError, LearningError, NotFittedError
from deepad.rooms import members
from deepad.scoring.scorer import BLOCK, Scorer

DETECTORS = members("detectors", "Detector")
SHAPES = [(6,), (1, 8, 8), (12, 2)]
CASES = [(name, shape) for name in DETECTORS for shape in SHAPES]


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


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    made = {}

    def get(name, shape):
        if (name, shape) not in made:
            torch.manual_seed(0)
            data, detector = Waves(shape), DETECTORS[name](shape)
            trainer = train(detector, data, tmp_path_factory.mktemp("fit"), max_epochs=15)
            made[name, shape] = detector, data, trainer
        return made[name, shape]

    return get


def batch_of(data, n=64):
    return next(iter(data.test_dataloader()))[0][:n]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_contributions_have_the_shape_of_x_and_sum_to_the_score(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    x = batch_of(data)
    parts, score = detector.contributions(x), detector.score(x)
    assert parts.shape == x.shape
    assert score.shape == (len(x),)
    assert score.dtype == torch.float64
    torch.testing.assert_close(parts.flatten(1).double().sum(1), score, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_anomalies_score_higher_than_normal_samples(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    scorer = Scorer.calibrate(detector, data.calibration_dataloader())
    score, y = scorer(data.test_dataloader()).score, data.test_labels()
    assert np.median(score[y == 1]) > np.quantile(score[y == 0], 0.9)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_scoring_is_deterministic_and_leaves_x_alone(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    x = batch_of(data)
    before = x.clone()
    first, second = detector.score(x), detector.score(x)
    assert torch.equal(first, second)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_score_has_the_same_bits_alone_in_any_batch_and_in_any_order(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    scorer = Scorer.calibrate(detector, data.calibration_dataloader())
    x = torch.cat([x for x, _ in data.test_dataloader()]).numpy()
    whole = scorer(x)
    order = np.random.default_rng(1).permutation(len(x))
    assert np.array_equal(scorer(x[order]).score, whole.score[order])
    for size in (1, 7, BLOCK + 1):
        parts = [scorer(x[i : i + size]) for i in range(0, min(len(x), 20 * size), size)]
        score = np.concatenate([part.score for part in parts])
        assert np.array_equal(score, whole.score[: len(score)])
        flagged = np.concatenate([part.flagged for part in parts])
        assert np.array_equal(flagged, whole.flagged[: len(flagged)])


@pytest.mark.parametrize("name", DETECTORS)
def test_training_moves_every_weight_and_lowers_the_loss(fitted, name):
    detector, data, _ = fitted(name, (6,))
    x = data.splits.val.x[data.splits.val.index]
    torch.manual_seed(0)
    fresh = DETECTORS[name]((6,))
    fresh.scaling.load_state_dict(detector.scaling.state_dict())
    with torch.no_grad():
        assert detector.loss(x) < 0.5 * fresh.eval().loss(x)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_score_uses_raw_units(fitted, name, tmp_path):
    """A shifted training set gives the same scores for shifted samples: scaling is the detector's own."""
    detector, data, _ = fitted(name, (6,))
    torch.manual_seed(0)
    moved = Waves((6,), offset=8.0)
    other = DETECTORS[name]((6,))
    train(other, moved, tmp_path, max_epochs=15)
    torch.testing.assert_close(other.score(batch_of(moved)), detector.score(batch_of(data)), rtol=0.2, atol=0.05)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_features_and_reconstruction(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    x = batch_of(data)
    features = detector.features(x)
    assert features.shape[0] == len(x)
    assert features.ndim == 2
    assert torch.isfinite(features).all()
    rebuilt = detector.reconstruct(x)
    assert rebuilt.shape == x.shape
    normal = data.splits.calibration.x[data.splits.calibration.index]
    assert (detector.reconstruct(normal) - normal).square().mean() < normal.var()


@pytest.mark.parametrize("name", DETECTORS)
def test_constructor_arguments_are_stored_unchanged_and_are_plain(fitted, name):
    detector, _, _ = fitted(name, (6,))
    accepted = inspect.signature(DETECTORS[name].__init__).parameters
    assert set(detector.hparams) == set(accepted) - {"self"}
    json.dumps(dict(detector.hparams))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_checkpoint_rebuilds_without_a_config(fitted, name):
    detector, data, trainer = fitted(name, (6,))
    path = trainer.checkpoint_callback.best_model_path
    again = DETECTORS[name].from_checkpoint(path)
    assert type(again) is type(detector)
    assert torch.equal(again.score(batch_of(data)), detector.score(batch_of(data)))
    assert np.array_equal(again.fit_rows, detector.fit_rows)
    by_lightning = DETECTORS[name].load_from_checkpoint(path, weights_only=True)
    assert torch.equal(by_lightning.eval().score(batch_of(data)), detector.score(batch_of(data)))


@pytest.mark.parametrize("name", DETECTORS)
def test_state_arrays_round_trip_and_foreign_ones_are_refused(fitted, name):
    detector, data, _ = fitted(name, (6,))
    arrays = detector.state_arrays()
    again = DETECTORS[name].from_state(dict(detector.hparams), arrays)
    assert torch.equal(again.score(batch_of(data)), detector.score(batch_of(data)))
    with pytest.raises(ValueError, match="arrays are not those"):
        DETECTORS[name].from_state({**detector.hparams, "shape": (7,)}, arrays)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_untrained_detector_cannot_be_calibrated(name):
    with pytest.raises(NotFittedError, match="has not been trained"):
        Scorer.calibrate(DETECTORS[name]((6,)), np.zeros((50, 6)))


@pytest.mark.parametrize("name", DETECTORS)
def test_rows_that_trained_or_selected_cannot_calibrate(fitted, name):
    detector, data, _ = fitted(name, (6,))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(DataLeakError, match="trained or selected"):
            Scorer.calibrate(detector, loader)
    one = np.concatenate([data.splits.calibration.x[data.splits.calibration.index], data.splits.train.x[:1]])
    with pytest.raises(DataLeakError, match=f"1 of {len(one)} calibration rows"):
        Scorer.calibrate(detector, one)


@pytest.mark.parametrize("name", DETECTORS)
def test_training_that_changes_nothing_is_refused(name, tmp_path):
    detector = DETECTORS[name]((6,), lr=1e-30, weight_decay=0.0)
    with pytest.raises(LearningError, match="did not change"):
        train(detector, Waves(), tmp_path, max_epochs=1)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_loss_that_is_not_finite_is_refused(name, tmp_path):
    with pytest.raises(LearningError, match="loss became"):
        train(DETECTORS[name]((6,), lr=1e30), Waves(), tmp_path, max_epochs=3)


@pytest.mark.parametrize("name", DETECTORS)
def test_labelled_batches_are_refused_in_training(name, tmp_path, fitted):
    _, data, _ = fitted(name, (6,))
    with pytest.raises(InputError, match="trains on x alone"):
        train(DETECTORS[name]((6,)), data.test_dataloader(), tmp_path, val=data.val_dataloader())


@pytest.mark.parametrize("name", DETECTORS)
def test_an_overflowing_sample_scores_infinity(fitted, name):
    detector, data, _ = fitted(name, (6,))
    scorer = Scorer.calibrate(detector, data.calibration_dataloader())
    verdict = scorer(np.full((3, 6), 1e38))
    assert (verdict.score == np.inf).all() or np.isfinite(verdict.score).all()
    assert verdict.flagged.all()
    assert not verdict.invalid.any()


@pytest.mark.parametrize("shape", [(), (0,), (1, 2, 3, 4), (2.0,), (-1,), (True,)])
@pytest.mark.parametrize("name", DETECTORS)
def test_an_impossible_shape_is_refused(name, shape):
    with pytest.raises(ValueError, match="shape"):
        DETECTORS[name](shape)
