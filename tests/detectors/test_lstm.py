"""The LSTM encoder-decoder against its equations, one gate at a time."""

import copy

import numpy as np
import pytest
import torch
from conftest import train, within
from torch.utils.data import DataLoader
from waves import Waves, rows_of

from deepad.detectors import LSTMAutoencoder
from deepad.quiet import quiet_lightning
from deepad.scoring.scorer import Scorer

SHAPE = (7, 2)
DECODERS = ["code", "feedback"]
LAYERS = [1, 2]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def model(decoder="code", layers=1, shape=SHAPE, **options):
    """A model whose states matter, in float64."""
    options = {"hidden_size": 4, "scaling": "none", "score": "squared"} | options
    made = LSTMAutoencoder(shape, decoder=decoder, num_layers=layers, **options)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(2)
    return made.double().eval()


def windows(n=5, shape=SHAPE):
    return torch.randn(n, *shape, dtype=torch.float64)


# ---- the equations, once more


def naive_cell(lstm, layer, x, h, c):
    """Hochreiter and Schmidhuber's cell with a forget gate, in the order of torch's weights."""
    wi, wh, bi, bh = (getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    gate_in, gate_forget, proposed, gate_out = (wi @ x + bi + wh @ h + bh).chunk(4)
    c = torch.sigmoid(gate_forget) * c + torch.sigmoid(gate_in) * torch.tanh(proposed)
    return torch.sigmoid(gate_out) * torch.tanh(c), c


def naive_step(lstm, x, state):
    """One step through all layers: hidden state of the top one, and the new state."""
    after = []
    for layer, (h, c) in enumerate(state):
        after.append(naive_cell(lstm, layer, x, h, c))
        x = after[-1][0]
    return x, after


def naive_told(made, u, truth=None):
    """The window (T, C) as the decoder tells it of one window u (T, C), in order of time."""
    zero = torch.zeros(made.encoder.hidden_size, dtype=u.dtype)
    state = [(zero, zero)] * made.encoder.num_layers
    for step in u:
        _, state = naive_step(made.encoder, step, state)
    code = state[-1][0]
    told = {}
    if made.feedback:
        told[len(u) - 1] = made.output(code)
        for t in reversed(range(len(u) - 1)):
            given = told[t + 1] if truth is None else truth[t + 1]
            hidden, state = naive_step(made.decoder, given, state)
            told[t] = made.output(hidden)
    else:
        for t in reversed(range(len(u))):
            hidden, state = naive_step(made.decoder, code, state)
            told[t] = made.output(hidden)
    return torch.stack([told[t] for t in range(len(u))])


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_errors_are_what_the_equations_give_step_by_step(decoder, layers):
    made, x = model(decoder, layers), windows()
    told = torch.stack([naive_told(made, u) for u in x])
    torch.testing.assert_close(made.reconstruct(x), told)
    torch.testing.assert_close(made.contributions(x), (x - told).square())
    torch.testing.assert_close(made.score(x), (x - told).square().sum((1, 2)))
    torch.testing.assert_close(made.loss(x), (x - told).square().mean())
    torch.testing.assert_close(made.features(x)[:, -1], (x - told).square().mean((1, 2)).log())


@pytest.mark.parametrize("layers", LAYERS)
@torch.no_grad()
def test_in_training_a_decoder_with_feedback_starts_each_step_from_the_truth(layers):
    made, x = model("feedback", layers), windows()
    told = torch.stack([naive_told(made, u, truth=u) for u in x])
    made.train()
    torch.testing.assert_close(made.loss(x), (x - told).square().mean())
    blind = torch.stack([naive_told(made, u) for u in x])
    assert not torch.allclose(made.loss(x), (x - blind).square().mean())


@torch.no_grad()
def test_a_decoder_on_the_code_trains_as_it_scores():
    made, x = model("code"), windows()
    validated = made.loss(x)
    assert torch.equal(made.train().loss(x), validated)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_the_window_is_told_backwards(decoder, layers):
    """Who tells three steps tells the last three of the window."""
    made, x = model(decoder, layers), windows()
    state = made._encode(x)
    whole = made._tell(state, 7)
    torch.testing.assert_close(made._tell(state, 3), whole[:, -3:])
    assert not torch.allclose(made._tell(state, 3), whole[:, :3])


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_when_scoring_the_decoder_knows_the_window_by_the_state_of_the_encoder_alone(decoder, layers):
    """With the states of other windows it tells the other windows, to the last bit: it has not seen its own."""
    made, x = model(decoder, layers), windows()
    order = torch.tensor([1, 2, 3, 4, 0])
    told = made.reconstruct(x)

    def swap(module, given, answer):
        steps, (h, c) = answer
        return steps, (h[:, order], c[:, order])

    made.encoder.register_forward_hook(swap)
    torch.testing.assert_close(made.reconstruct(x), told[order], rtol=0, atol=1e-14)
    torch.testing.assert_close(made.score(x), (x - told[order]).square().sum((1, 2)))


@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_noise_and_dropout_belong_to_training(decoder):
    made, x = model(decoder, 2, noise=0.3, dropout=0.4), windows()
    assert torch.equal(made.loss(x), made.loss(x))
    made.train()
    assert not torch.equal(made.loss(x), made.loss(x))


@torch.no_grad()
def test_noise_is_on_the_input_and_never_on_what_is_to_be_told():
    made, x = model("feedback", noise=1e6), windows()
    for weight in (made.output.weight, *made.decoder.parameters()):
        weight.zero_()
    torch.testing.assert_close(made.train().loss(x), (x - made.output.bias).square().mean())


@torch.no_grad()
def test_the_features_are_the_last_hidden_state_of_the_top_layer_and_the_error():
    made, x = model("code", 2), windows()
    features = made.features(x)
    assert features.shape == (5, 5)
    torch.testing.assert_close(features[:, :4], made.encoder(x)[0][:, -1])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("score", ["gaussian", "squared"])
def test_every_kind_has_the_same_bits_alone_and_in_any_batch_after_saving(decoder, score, tmp_path):
    data = Waves((9, 3))
    made = LSTMAutoencoder((9, 3), hidden_size=8, num_layers=2, decoder=decoder, score=score)
    train(made, data, tmp_path, max_epochs=2)
    scorer = Scorer.calibrate(made, data.calibration_dataloader())
    scorer.save(tmp_path / "scorer")
    x = rows_of(data.splits.test).numpy()
    whole = Scorer.load(tmp_path / "scorer")(x).score
    order = np.random.default_rng(0).permutation(len(x))
    assert np.array_equal(scorer(x[order]).score, whole[order])
    assert np.array_equal(np.concatenate([scorer(row[None]).score for row in x[:10]]), whole[:10])


# ---- the Gaussian of the errors


def test_the_gaussian_is_learned_from_the_validation_errors_and_from_them_alone(tmp_path):
    data = Waves((9, 3))
    made = LSTMAutoencoder((9, 3), hidden_size=8)
    train(made, data, tmp_path, max_epochs=2)
    with torch.no_grad():
        u = made.scaling(rows_of(data.splits.val))
        errors = (u - made.scaling(made.reconstruct(rows_of(data.splits.val)))).double()
    torch.testing.assert_close(made.errors.mean.double(), errors.mean((0, 1)), rtol=1e-4, atol=1e-5)
    size = (errors - errors.mean((0, 1))).square().mean((0, 2)).sqrt()
    torch.testing.assert_close(made.errors.step.double(), size / size.mean(), rtol=1e-3, atol=0)
    assert not torch.equal(made.errors.whiten, torch.eye(3))


def shared_noise(n, rng, broken=False):
    """Two sensors of one thing: what one does not foresee, the other does not foresee either."""
    t = np.arange(16) + rng.uniform(0, 16, (n, 1))
    wave = np.sin(2 * np.pi * t / 16)[:, :, None].repeat(2, 2)
    noise = 0.3 * rng.normal(size=(n, 16, 1)).repeat(2, 2)
    if broken:
        noise[:, 8:, 1] = 0.3 * rng.normal(size=(n, 8))
    x = wave + noise + 0.02 * rng.normal(size=(n, 16, 2))
    return torch.from_numpy(x.astype(np.float32))


@pytest.fixture(scope="module")
def sensors(tmp_path_factory):
    """A detector of waves seen by two sensors, and a generator that has not been used for it."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    made = LSTMAutoencoder((16, 2), hidden_size=16, lr=1e-2)
    loaders = DataLoader(shared_noise(400, rng), 64), DataLoader(shared_noise(200, rng), 64)
    with quiet_lightning():
        train(made, loaders[0], tmp_path_factory.mktemp("sensors"), val=loaders[1], max_epochs=25)
    return made, rng


def test_a_broken_correlation_is_seen_by_the_gaussian_and_not_by_the_plain_error(sensors):
    made, rng = sensors
    plain = copy.deepcopy(made)
    plain.errors = None
    normal, broken = shared_noise(300, rng), shared_noise(300, rng, broken=True)
    with torch.no_grad():
        for detector, seen in ((made, True), (plain, False)):
            above = (detector.score(broken)[:, None] > detector.score(normal)).double().mean()
            assert (above > 0.99) if seen else (0.3 < above < 0.7), "area under the ROC curve"


@pytest.mark.parametrize("channel", [0, 1])
def test_a_spike_adds_most_at_its_own_step(sensors, channel):
    made, rng = sensors
    for t in range(16):
        x = shared_noise(20, rng)
        x[:, t, channel] += 4
        with torch.no_grad():
            steps = made.contributions(x).sum(2)
        assert (steps.argmax(1) == t).float().mean() > 0.9, f"step {t}"


def test_new_normal_windows_score_as_a_new_gaussian_of_their_errors_would_have_it(sensors):
    """What was learned on the validation windows holds for others: shrinkage aside, one per value."""
    made, rng = sensors
    again, x = copy.deepcopy(made), shared_noise(1000, rng)
    with torch.no_grad():
        again.learn_residuals([x])
        assert abs(made.score(x).mean() / again.score(x).mean() - 1) < 0.3
        assert again.score(x).mean() <= 32


# ---- arguments


@pytest.mark.parametrize("shape", [(6,), (1, 8, 8), (1, 3)])
def test_what_is_no_window_is_refused(shape):
    with pytest.raises(ValueError, match="takes windows \\(T, C\\) of at least 2 steps, got"):
        LSTMAutoencoder(shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size >= 1"),
        ({"hidden_size": 2.5}, "hidden_size >= 1"),
        ({"num_layers": 0}, "num_layers >= 1"),
        ({"num_layers": 2.0}, "num_layers >= 1"),
        ({"dropout": 1.0, "num_layers": 2}, "dropout in"),
        ({"dropout": -0.1, "num_layers": 2}, "dropout in"),
        ({"dropout": 0.5}, "between layers"),
        ({"decoder": "teacher"}, "decoder code or feedback"),
        ({"score": "error"}, "score gaussian or squared"),
        ({"noise": -1.0}, "noise >= 0"),
        ({"noise": float("nan")}, "noise >= 0"),
        ({"scaling": "max"}, "scaling must be"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LSTMAutoencoder((5, 2), **options)


def test_layers_without_end_in_a_file_take_no_time():
    made = LSTMAutoencoder((5, 2), hidden_size=2)
    with within(5), pytest.raises(ValueError, match="more layers"):
        LSTMAutoencoder.from_state({**made.hparams, "num_layers": 10**9}, made.state_arrays())
