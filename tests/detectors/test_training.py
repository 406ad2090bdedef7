"""The training loop under Trainers that are not our command line's."""

import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import train
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from deepad import Scorer
from deepad.detectors import DenseAutoencoder
from deepad.errors import DataLeakError, InputError, LearningError, NotFittedError

SMALL = {"hidden_dims": (16,), "latent_dim": 2}


def rows(n, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    t = rng.uniform(-1, 1, (n, 1))
    return torch.from_numpy((np.sin(t * np.arange(1, 7)) + 0.05 * rng.normal(size=(n, 6)) + offset).astype(np.float32))


@pytest.fixture
def loaders():
    return DataLoader(rows(300, 0), 32, shuffle=True), DataLoader(rows(100, 1), 32)


def small(**arguments):
    torch.manual_seed(0)
    return DenseAutoencoder((6,), **{**SMALL, **arguments})


def same_weights(left, right):
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


def test_a_loader_of_a_tensor_dataset_will_do(tmp_path):
    detector = small()
    train(
        detector, DataLoader(TensorDataset(rows(300, 0)), 32), tmp_path, val=DataLoader(TensorDataset(rows(100, 1)), 32)
    )
    assert detector.trained
    assert len(detector.fit_rows) == 400


def test_only_the_rows_that_a_sampler_draws_count_as_seen(tmp_path, loaders):
    x = rows(300, 0)
    part = DataLoader(x, 32, sampler=SubsetRandomSampler(range(200)))
    detector = small()
    train(detector, part, tmp_path, val=loaders[1])
    assert len(detector.fit_rows) == 300
    torch.testing.assert_close(detector.scaling.shift, x[:200].mean(0))
    Scorer.calibrate(detector, x[200:])


def test_a_trainer_used_for_two_detectors_mixes_nothing_up(tmp_path, loaders):
    first, second = small(), small()
    trainer = train(first, loaders[0], tmp_path, val=loaders[1], max_epochs=2)
    before = copy.deepcopy(second)
    trainer.fit(second, DataLoader(rows(300, 7), 32), DataLoader(rows(100, 8), 32))  # the Trainer is done: no step
    assert same_weights(second, before)
    with pytest.raises(NotFittedError):
        Scorer.calibrate(second, rows(100, 2))


def test_the_best_weights_are_the_ones_kept(tmp_path, loaders):
    detector = small()

    class Spoil(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 3:
                with torch.no_grad():
                    module.decoder[-1].bias += 10

    trainer = train(detector, *loaders[:1], tmp_path, val=loaders[1], max_epochs=4, callbacks=[Spoil()])
    best = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert best["epoch"] == 2
    assert all(torch.equal(best["state_dict"][name], weight) for name, weight in detector.named_parameters())


def test_a_resumed_training_that_finds_nothing_better_keeps_the_best(tmp_path, loaders):
    detector = small()
    trainer = train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=5)
    last = str(tmp_path / "last.ckpt")
    trainer.save_checkpoint(last)

    class Spoil(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            with torch.no_grad():
                module.decoder[-1].bias += 10

    again = small()
    options = {"max_epochs": 6, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(default_root_dir=tmp_path, callbacks=[Spoil()], **options).fit(
        again, *loaders, ckpt_path=last, weights_only=True
    )
    assert again.trained


def test_a_users_own_checkpoints_are_written_too(tmp_path, loaders):
    own = ModelCheckpoint(tmp_path / "own", every_n_train_steps=3, save_top_k=-1)
    train(small(), loaders[0], tmp_path, val=loaders[1], max_epochs=2, callbacks=[own])
    assert len(list((tmp_path / "own").iterdir())) > 2
    assert list(tmp_path.rglob("best.ckpt"))


@pytest.mark.parametrize(
    "options",
    [
        {"enable_checkpointing": False},
        pytest.param(
            {"max_steps": 5, "max_epochs": -1},
            marks=pytest.mark.filterwarnings("ignore:.*could not find the monitored key"),
        ),
        {"val_check_interval": 0.5},
        {"precision": "bf16-mixed", "gradient_clip_val": 1.0},
        {"precision": "64-true"},
    ],
    ids=str,
)
def test_other_ways_to_train_end_in_a_scorer_that_loads(tmp_path, loaders, options):
    detector = small()
    train(detector, loaders[0], tmp_path, val=loaders[1], **{"max_epochs": 2, **options})
    x = rows(200, 2)
    scorer = Scorer.calibrate(detector, x[:100])
    scorer.save(tmp_path / "scorer")
    assert np.array_equal(Scorer.load(tmp_path / "scorer")(x[100:]).score, scorer(x[100:]).score)


def test_a_training_that_was_broken_off_leaves_no_trained_detector(tmp_path, loaders):
    class Break(pl.Callback):
        def on_train_epoch_end(self, *_):
            raise RuntimeError("broken off")

    detector = small()
    with pytest.raises(RuntimeError, match="broken off"):
        train(detector, loaders[0], tmp_path, val=loaders[1], callbacks=[Break()])
    assert not detector.trained
    trial = small()
    train(trial, loaders[0], tmp_path, val=loaders[1], fast_dev_run=True)
    assert not trial.trained


def test_frozen_layers_may_stay_as_they_are(tmp_path, loaders):
    detector = small()
    detector.encoder.requires_grad_(False)
    train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=2)
    assert detector.trained


def test_a_collapsed_model_is_refused(tmp_path, loaders):
    class Flat(DenseAutoencoder):
        def contributions(self, x):
            return torch.ones_like(x)

    detector = Flat((6,), **SMALL)
    with pytest.raises(LearningError, match="validation scores equal 6: the model has collapsed"):
        train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=1)
    assert not detector.trained


def test_a_class_that_could_not_be_loaded_is_not_saved(tmp_path, loaders):
    class Mine(DenseAutoencoder):
        pass

    detector = Mine((6,), **SMALL)
    train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=1)
    with pytest.raises(InputError, match="Mine is not one of deepad's detectors"):
        Scorer.calibrate(detector, rows(100, 2)).save(tmp_path / "scorer")
    assert not (tmp_path / "scorer").exists()


def test_validation_needs_data_and_training_needs_its_shape(tmp_path, loaders):
    with pytest.raises(InputError, match="takes samples of shape"):
        train(DenseAutoencoder((7,), **SMALL), loaders[0], tmp_path, val=loaders[1])
    bad = rows(300, 0)
    bad[5, 2] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        train(small(), DataLoader(bad, 32), tmp_path, val=loaders[1])


def test_noise_and_dropout_belong_to_training(tmp_path, loaders):
    detector = small(noise=0.5, dropout=0.3)
    train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=2)
    x = rows(50, 2)
    assert torch.equal(detector.loss(x), detector.loss(x))
    scorer = Scorer.calibrate(detector, rows(100, 3))
    detector.train()
    assert np.array_equal(scorer(x).score, scorer(x).score)
    assert detector.training, "scoring leaves the mode as it was"
    assert not torch.equal(detector.loss(x), detector.loss(x))


def test_bernoulli_scores_stay_finite_outside_the_training_range(tmp_path, loaders):
    detector = small(loss="bernoulli")
    train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=2)
    span = detector.scaling.inverse(torch.tensor([[-1e-6] * 6, [0.0] * 6, [1.0] * 6, [1.5] * 6, [3.0] * 6]))
    score, parts = detector.score(span), detector.contributions(span)
    assert torch.isfinite(score).all()
    torch.testing.assert_close(parts.sum(1).double(), score)
    assert score[4] > score[3] > score[2]


def test_labelled_batches_never_calibrate(tmp_path, loaders):
    detector = small()
    train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=1)
    labelled = DataLoader(TensorDataset(rows(100, 2), torch.ones(100)), 32)
    with pytest.raises(InputError, match="labels belong to test"):
        Scorer.calibrate(detector, labelled)
    scorer = Scorer.calibrate(detector, rows(100, 2))
    assert len(scorer(labelled)) == 100
    with pytest.raises(DataLeakError):
        Scorer.calibrate(detector, rows(300, 0))


def test_delta_alone_means_pac(tmp_path, loaders):
    detector = small()
    train(detector, loaders[0], tmp_path, val=loaders[1], max_epochs=1)
    verdict = Scorer.calibrate(detector, rows(200, 2))(rows(20, 3), delta=0.1)
    assert verdict.guarantee.kind == "pac"
    assert verdict.guarantee.delta == 0.1


def test_lightning_predicts_with_a_data_module(trained, digits):
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False)
    batches = trainer.predict(trained[0], digits)
    assert sum(len(batch["score"]) for batch in batches) == len(digits.splits.test)


def test_more_layers_than_arrays_are_refused_at_once(trained):
    detector = trained[0]
    with pytest.raises(ValueError, match="more layers"):
        DenseAutoencoder.from_state({**detector.hparams, "hidden_dims": [1] * 300_000}, detector.state_arrays())


def test_a_spread_that_float32_cannot_tell_is_refused(tmp_path):
    x = rows(300, 0).double() + 1e9
    with pytest.raises(ValueError, match="subtract an offset"):
        train(small(), DataLoader(x, 32), tmp_path, val=DataLoader(x[:50] + 1, 32))
