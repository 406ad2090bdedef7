"""The convolutional autoencoder: sizes that fit, patterns that move, arguments."""

import math

import numpy as np
import pytest
import torch
from conftest import train
from hypothesis import given, settings
from hypothesis import strategies as st
from waves import Waves, rows_of

from deepad.detectors import ConvolutionalAutoencoder
from deepad.scoring.scorer import Scorer


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


sizes = st.integers(4, 13)
images = st.tuples(st.sampled_from([1, 3]), sizes, sizes)
windows = st.tuples(sizes, st.integers(1, 4))
channels = st.lists(st.integers(2, 3), min_size=1, max_size=2)


@settings(deadline=None)
@given(st.one_of(images, windows), channels, st.sampled_from([3, 5, 7]), st.sampled_from(["squared", "bernoulli"]))
@torch.no_grad()
def test_any_size_comes_back_as_it_was(shape, channels, kernel, loss):
    made = ConvolutionalAutoencoder(shape, channels=channels, kernel_size=kernel, latent_dim=2, loss=loss).eval()
    x = torch.rand(2, *shape)
    assert made.reconstruct(x).shape == x.shape
    parts = made.contributions(x)
    assert parts.shape == x.shape
    torch.testing.assert_close(parts.flatten(1).double().sum(1), made.score(x))
    assert made.features(x).shape == (2, 3)
    torch.testing.assert_close(made.features(x)[:, -1].exp(), parts.flatten(1).mean(1))


@pytest.mark.parametrize("size", range(2, 18))
def test_as_many_layers_fit_as_the_smaller_side_can_be_halved(size):
    most = math.ceil(math.log2(size))
    ConvolutionalAutoencoder((1, size, 20), channels=[2] * most)
    ConvolutionalAutoencoder((size, 1), channels=[2] * most)
    for shape in ((1, size, 20), (1, 20, size), (size, 1)):
        with pytest.raises(ValueError, match=f"{most + 1} layers halve a grid of .* to nothing: give fewer channels"):
            ConvolutionalAutoencoder(shape, channels=[2] * (most + 1))


def placed(at, shape, seed=0):
    """A pattern at a place (row, column) of an empty image, or at a step of an empty window."""
    pattern = torch.from_numpy(np.random.default_rng(seed).normal(size=(3,) * len(at)).astype(np.float32))
    x = torch.zeros(1, *shape)
    if len(shape) == 3:
        x[0, 0, at[0] : at[0] + 3, at[1] : at[1] + 3] = pattern
    else:
        x[0, at[0] : at[0] + 3, 0] = pattern
    return x


@torch.no_grad()
def test_a_pattern_that_moves_by_four_pixels_moves_one_cell_of_the_inner_grid():
    """Two layers halve twice; the dense part alone knows places."""
    made = ConvolutionalAutoencoder((1, 40, 40), channels=(4, 5), scaling="none").eval()
    grid = made.encoder[:2]
    here, there = grid(placed((16, 12), made.shape)), grid(placed((20, 16), made.shape))
    assert here.shape == (1, 5, 10, 10)
    torch.testing.assert_close(there[:, :, 3:9, 3:9], here[:, :, 2:8, 2:8], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(there, here, atol=1e-3)


@torch.no_grad()
def test_of_a_window_the_steps_are_the_neighbours_and_not_the_channels():
    made = ConvolutionalAutoencoder((40, 2), channels=(4, 5), scaling="none").eval()
    grids = []
    made.encoder[1].register_forward_hook(lambda module, given, grid: grids.append(grid))
    for step in (16, 20):
        made.score(placed((step,), made.shape))
    here, there = grids
    assert here.shape == (1, 5, 10)
    torch.testing.assert_close(there[:, :, 3:9], here[:, :, 2:8], rtol=1e-4, atol=1e-5)
    for weight in made.parameters():
        weight.zero_()
    made.decoder[-1][0].bias.copy_(torch.tensor([1.0, 2.0]))
    assert torch.equal(made.reconstruct(torch.rand(3, 40, 2)), torch.tensor([1.0, 2.0]).expand(3, 40, 2))


@torch.no_grad()
def test_samples_of_a_batch_do_not_meet():
    made = ConvolutionalAutoencoder((3, 9, 7), latent_dim=2).train()  # nothing like batch statistics, in any mode
    x = torch.rand(6, 3, 9, 7)
    torch.testing.assert_close(made.reconstruct(x)[:2], made.reconstruct(x[:2]))


@torch.no_grad()
def test_noise_belongs_to_training_and_to_the_input():
    made, x = ConvolutionalAutoencoder((1, 6, 6), noise=0.5, scaling="none"), torch.rand(8, 1, 6, 6)
    made.train()
    assert not torch.equal(made.loss(x), made.loss(x))
    made.eval()
    assert torch.equal(made.loss(x), (made.reconstruct(x) - x).square().mean())


@pytest.mark.parametrize("score", ["error", "relative"])
@pytest.mark.parametrize("loss", ["squared", "absolute", "bernoulli"])
def test_every_loss_and_score_has_the_same_bits_alone_and_in_any_batch_after_saving(loss, score, tmp_path):
    data = Waves((1, 7, 5))
    made = ConvolutionalAutoencoder((1, 7, 5), channels=(4, 6), latent_dim=3, loss=loss, score=score)
    train(made, data, tmp_path, max_epochs=2)
    scorer = Scorer.calibrate(made, data.calibration_dataloader())
    scorer.save(tmp_path / "scorer")
    x = rows_of(data.splits.test).numpy()
    whole = Scorer.load(tmp_path / "scorer")(x).score
    order = np.random.default_rng(0).permutation(len(x))
    assert np.array_equal(scorer(x[order]).score, whole[order])
    assert np.array_equal(np.concatenate([scorer(row[None]).score for row in x[:10]]), whole[:10])
    assert (whole >= 0).all()


def test_a_bernoulli_model_rebuilds_inside_the_training_range(tmp_path):
    data = Waves((1, 6, 6))
    made = ConvolutionalAutoencoder((1, 6, 6), channels=(4, 6), latent_dim=3, loss="bernoulli")
    train(made, data, tmp_path, max_epochs=2)
    rebuilt, x = made.reconstruct(10 * rows_of(data.splits.test)), rows_of(data.splits.train)
    assert rebuilt.min() >= x.min() - 1e-5
    assert rebuilt.max() <= x.max() + 1e-5


def test_the_scaling_suits_shape_and_loss_unless_it_is_given():
    def kind(shape, **options):
        return ConvolutionalAutoencoder(shape, **options).scaling.kind

    assert kind((1, 8, 8)) == "range"
    assert kind((8, 2)) == "standard"
    assert kind((8, 2), loss="bernoulli") == "range"
    assert kind((1, 8, 8), scaling="robust") == "robust"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ()}, "channels must be positive whole numbers, one for each layer"),
        ({"channels": (0,)}, "channels must be positive whole numbers"),
        ({"channels": (4, -1)}, "channels must be positive whole numbers"),
        ({"channels": (4.0,)}, "channels must be positive whole numbers"),
        ({"channels": (4, 4, 1)}, "is a single number: give it more channels"),
        ({"kernel_size": 1}, "odd kernel_size >= 3"),
        ({"kernel_size": 4}, "odd kernel_size >= 3"),
        ({"kernel_size": 3.0}, "odd kernel_size >= 3"),
        ({"latent_dim": 0}, "layer widths"),
        ({"activation": "sine"}, "activation must be one of"),
        ({"noise": -0.1}, "noise >= 0"),
        ({"noise": math.nan}, "noise >= 0"),
        ({"loss": "huber"}, "loss must be squared, absolute or bernoulli"),
        ({"score": "elbo"}, "score must be error or relative"),
        ({"loss": "bernoulli", "scaling": "standard"}, "needs values in"),
        ({"loss": "bernoulli", "scaling": "quantile"}, "needs values in"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalAutoencoder((1, 8, 8), **options)
