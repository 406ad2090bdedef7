"""What every detector must do, whichever it is: members are found by looking."""

import inspect
import json
import math
from contextlib import suppress

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import train
from pytorch_lightning.callbacks import Callback
from waves import Waves, rows_of

from deepad.baselines.base import BLOCK
from deepad.channels import SeriesSchema
from deepad.detectors.base import Detector
from deepad.errors import DataLeakError, InputError, LearningError, NotFittedError
from deepad.rooms import members
from deepad.schema import Column, TableSchema
from deepad.scoring.scorer import Scorer

DETECTORS = members("detectors", "Detector")
SHAPES = [(6,), (1, 8, 8), (12, 2)]


def taken(name):
    """The shapes that a member takes; it refuses the others with a ValueError."""
    shapes = []
    for shape in SHAPES:
        with suppress(ValueError):
            DETECTORS[name](shape)
            shapes.append(shape)
    return shapes


TAKEN = {name: taken(name) for name in DETECTORS}
CASES = [(name, shape) for name, shapes in TAKEN.items() for shape in shapes]
ONCE = [(name, shapes[0]) for name, shapes in TAKEN.items() if shapes]
REFUSED = [(name, shape) for name, shapes in TAKEN.items() for shape in SHAPES if shape not in shapes]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


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


def explained(detector, x):
    """Share of the variance of x that a detector rebuilds: 0 for whoever says the mean of each part, 1 for x itself."""
    with torch.no_grad():
        return 1 - float((detector.reconstruct(x) - x).square().mean() / x.var(0).mean())


@pytest.mark.parametrize("name", DETECTORS)
def test_every_member_takes_at_least_one_shape(name):
    assert TAKEN[name]


@pytest.mark.parametrize(("name", "shape"), REFUSED)
def test_a_shape_that_is_not_taken_is_refused_with_what_is_and_who_takes_it(name, shape):
    with pytest.raises(ValueError, match=f"^{name} takes ") as refusal:
        DETECTORS[name](shape)
    takes, advice = str(refusal.value).split("; use ")
    assert f"got {shape}" in takes
    others = [other for other in DETECTORS if other in advice]
    assert name not in others
    assert any(shape in TAKEN[other] for other in others)


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
    before, state = x.clone(), torch.get_rng_state()
    first = detector.score(x)
    assert torch.equal(torch.get_rng_state(), state), "scoring draws no random numbers"
    torch.manual_seed(99)
    assert torch.equal(first, detector.score(x))
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


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_training_moves_every_weight_lowers_the_loss_and_explains_the_data(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    x = rows_of(data.splits.val)
    torch.manual_seed(0)
    fresh = DETECTORS[name](shape).eval()
    fresh.scaling.load_state_dict(detector.scaling.state_dict())
    for (which, before), after in zip(fresh.named_parameters(), detector.parameters(), strict=True):
        assert not torch.equal(before, after), which
    with torch.no_grad():
        assert detector.loss(x) < fresh.loss(x)
    # a loss may be negative, so how much was learned is measured on what the model rebuilds
    assert explained(detector, x) > 0.5
    assert explained(fresh, x) < 0.1


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_the_score_uses_raw_units(fitted, name, shape, tmp_path):
    """A shifted training set gives the same scores for shifted samples: scaling is the detector's own."""
    detector, data, _ = fitted(name, shape)
    torch.manual_seed(0)
    moved = Waves(shape, offset=8.0)
    other = DETECTORS[name](shape)
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
    assert explained(detector, rows_of(data.splits.calibration)) > 0.5


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_constructor_arguments_are_stored_unchanged_and_are_plain(fitted, name, shape):
    detector, _, _ = fitted(name, shape)
    accepted = inspect.signature(DETECTORS[name].__init__).parameters
    assert set(detector.hparams) == set(accepted) - {"self"}
    json.dumps(dict(detector.hparams))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_checkpoint_rebuilds_without_a_config(fitted, name, shape):
    detector, data, trainer = fitted(name, shape)
    path = trainer.checkpoint_callback.best_model_path
    again = DETECTORS[name].from_checkpoint(path)
    assert type(again) is type(detector)
    assert torch.equal(again.score(batch_of(data)), detector.score(batch_of(data)))
    assert np.array_equal(again.fit_rows, detector.fit_rows)
    by_lightning = DETECTORS[name].load_from_checkpoint(path, weights_only=True)
    assert torch.equal(by_lightning.eval().score(batch_of(data)), detector.score(batch_of(data)))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_state_arrays_round_trip_and_foreign_ones_are_refused(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    arrays = detector.state_arrays()
    again = DETECTORS[name].from_state(dict(detector.hparams), arrays)
    assert torch.equal(again.score(batch_of(data)), detector.score(batch_of(data)))
    with pytest.raises(ValueError, match="arrays are not those"):
        DETECTORS[name].from_state({**detector.hparams, "shape": (shape[0] + 1, *shape[1:])}, arrays)


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_an_untrained_detector_cannot_be_calibrated(name, shape):
    with pytest.raises(NotFittedError, match="has not been trained"):
        Scorer.calibrate(DETECTORS[name](shape), np.zeros((50, *shape)))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_rows_that_trained_or_selected_cannot_calibrate(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(DataLeakError, match="trained or selected"):
            Scorer.calibrate(detector, loader)
    one = np.concatenate([rows_of(data.splits.calibration), data.splits.train.x[:1]])
    with pytest.raises(DataLeakError, match=f"1 of {len(one)} calibration rows"):
        Scorer.calibrate(detector, one)


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_training_that_changes_nothing_is_refused(name, shape, tmp_path):
    detector = DETECTORS[name](shape, lr=1e-30, weight_decay=0.0)
    with pytest.raises(LearningError, match="did not change"):
        train(detector, Waves(shape), tmp_path, max_epochs=1)


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_a_loss_that_is_not_finite_is_refused(name, shape, tmp_path):
    with pytest.raises(LearningError, match="loss became"):
        train(DETECTORS[name](shape, lr=1e30), Waves(shape), tmp_path, max_epochs=3)


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_labelled_batches_are_refused_in_training(name, shape, tmp_path, fitted):
    _, data, _ = fitted(name, shape)
    with pytest.raises(InputError, match="trains on x alone"):
        train(DETECTORS[name](shape), data.test_dataloader(), tmp_path, val=data.val_dataloader())


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_overflowing_sample_scores_infinity(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    scorer = Scorer.calibrate(detector, data.calibration_dataloader())
    verdict = scorer(np.full((3, *shape), 1e38))
    assert (verdict.score == np.inf).all() or np.isfinite(verdict.score).all()
    assert verdict.flagged.all()
    assert not verdict.invalid.any()


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_a_sample_with_nan_or_infinity_is_refused_by_the_scorer(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    scorer = Scorer.calibrate(detector, data.calibration_dataloader())
    for bad in (np.nan, np.inf):
        x = np.zeros((3, *shape))
        x[1].flat[-1] = bad
        with pytest.raises(InputError, match="1 of 3 samples hold NaN or infinite values"):
            scorer(x)


class Spoil(Callback):
    """Turns the weights round, so that the epochs from now on are worse."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                for weight in module.parameters():
                    weight.mul_(-3)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_what_is_learned_from_residuals_belongs_to_the_best_weights(name, shape, tmp_path):
    data, detector = Waves(shape), DETECTORS[name](shape)
    trainer = train(detector, data, tmp_path, max_epochs=3, callbacks=[Spoil(2)])
    best = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert best["epoch"] < 2
    assert all(torch.equal(best["state_dict"][key], value) for key, value in detector.state_dict().items())
    with torch.no_grad():
        detector.learn_residuals([rows_of(data.splits.val)])
    assert all(torch.equal(best["state_dict"][key], value) for key, value in detector.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_residuals_are_those_of_the_last_weights_where_no_epoch_was_validated(name, shape, tmp_path):
    data, detector = Waves(shape), DETECTORS[name](shape)
    train(detector, data, tmp_path, max_epochs=-1, max_steps=3)
    before = {key: value.copy() for key, value in detector.state_arrays().items()}
    detector.learn_residuals([rows_of(data.splits.val)])
    assert all(np.array_equal(before[key], value) for key, value in detector.state_arrays().items())


@pytest.mark.parametrize(("name", "shape"), ONCE)
def test_validating_a_trained_detector_changes_no_score(fitted, name, shape):
    detector, data, _ = fitted(name, shape)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(**options)
    trainer.validate(detector, data.calibration_dataloader(), verbose=False)
    assert math.isfinite(trainer.callback_metrics["val_loss"])
    assert all(torch.equal(before[key], value) for key, value in detector.state_dict().items())


def can_run_lstm_in_bfloat16():
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(3, 4, batch_first=True)(torch.zeros(2, 5, 3))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_after_training_in_mixed_precision_scores_are_in_full_precision(name, shape, tmp_path):
    if name == "LSTMAutoencoder" and not can_run_lstm_in_bfloat16():
        pytest.skip("torch cannot run an LSTM in bfloat16 on this processor")
    data, detector = Waves(shape), DETECTORS[name](shape)
    train(detector, data, tmp_path, max_epochs=2, precision="bf16-mixed")
    assert {value.dtype for value in detector.state_dict().values()} <= {torch.float32, torch.bool}
    x = batch_of(data)
    assert detector.contributions(x).dtype == torch.float32
    score = detector.score(x)
    assert torch.equal(score, detector.score(x))
    again = DETECTORS[name].from_state(dict(detector.hparams), detector.state_arrays())
    assert torch.equal(score, again.score(x))


class Described(Waves):
    """Waves that know what their columns or channels are called."""

    @property
    def schema(self):
        names = [f"place {i}" for i in range(self.size[-1])]
        if len(self.size) == 1:
            return TableSchema(tuple(Column(name, "number") for name in names))
        return SeriesSchema(tuple(names)) if len(self.size) == 2 else None


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_checkpoint_remembers_what_the_inputs_are(name, shape, tmp_path):
    data, detector = Described(shape), DETECTORS[name](shape)
    trainer = train(detector, data, tmp_path, max_epochs=1)
    again = Detector.from_checkpoint(trainer.checkpoint_callback.best_model_path)
    described = None if data.schema is None else json.loads(json.dumps(data.schema.to_dict()))
    assert again.inputs == detector.inputs == described
    assert Scorer.calibrate(again, data.calibration_dataloader()).inputs == data.schema
    # the Trainer still holds the data module, but this fit has nothing to do with it
    other = DETECTORS[name](shape)
    trainer.fit(other, data.train_dataloader(), data.val_dataloader())
    assert other.inputs is None


@pytest.mark.parametrize("shape", [(), (0,), (1, 2, 3, 4), (2.0,), (-1,), (True,)])
@pytest.mark.parametrize("name", DETECTORS)
def test_an_impossible_shape_is_refused(name, shape):
    with pytest.raises(ValueError, match="shape"):
        DETECTORS[name](shape)
