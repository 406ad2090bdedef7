"""The variational autoencoder against torch.distributions, row by row and draw by draw."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import train, within
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pytorch_lightning.callbacks import Callback
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional
from waves import Waves, rows_of

from deepad.detectors import VariationalAutoencoder
from deepad.detectors.residuals import ENERGY_FLOOR
from deepad.detectors.variational import LEAST_VARIANCE, VALIDATION_DRAWS, kl_from_standard
from deepad.errors import LearningError
from deepad.scoring.scorer import Scorer

LIKELIHOODS = [
    pytest.param({"likelihood": "bernoulli"}, id="bernoulli"),
    pytest.param({"likelihood": "gaussian", "variance": "feature"}, id="gaussian, by feature"),
    pytest.param({"likelihood": "gaussian", "variance": "sample"}, id="gaussian, by sample"),
]
SCORES = ["probability", "elbo", "importance"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def model(size=5, **options):
    """A model with weights that mean something, in float64 so that sums in any order agree."""
    made = VariationalAutoencoder((size,), hidden_dims=(8,), latent_dim=3, scaling="none", **options)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.4 * torch.randn_like(weight))
    return made.double().eval()


def rows(n=12, size=5):
    """Values in [0, 1], some of them at the ends."""
    return torch.rand(n, size, dtype=torch.float64).mul(1.4).sub(0.2).clamp(0, 1)


def naive_likelihood(made, u, z):
    """log p (D,) of the parts of one row u (D,) given one code z; of a grey value, less the divergence from it."""
    v = made.decoder(z[None])[0]
    if made.likelihood == "bernoulli":
        cross = Bernoulli(logits=v, validate_args=False).log_prob(u)
        return cross + Bernoulli(probs=u).entropy()
    mean, raw = v.chunk(2) if made.by_sample else (v, made.variance)
    return Normal(mean, (LEAST_VARIANCE + functional.softplus(raw)).sqrt()).log_prob(u)


def naive_terms(made, x, draws=None):
    """For each row: log p(u|z) of each draw, KL(q || p), and log p(z) / q(z|x) of each draw."""
    draws = made.draws if draws is None else draws
    likelihood, divergence, ratio = [], [], []
    for u in x:
        mu, log_var = made.encoder(u[None])[0].chunk(2)
        q, p = Normal(mu, (0.5 * log_var).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))
        codes = [mu + q.scale * draw for draw in draws]
        likelihood.append(torch.stack([naive_likelihood(made, u, z).sum() for z in codes]))
        divergence.append(kl_divergence(q, p).sum())
        ratio.append(torch.stack([(p.log_prob(z) - q.log_prob(z)).sum() for z in codes]))
    return torch.stack(likelihood), torch.stack(divergence), torch.stack(ratio)


def naive_score(made, kind, x):
    likelihood, divergence, ratio = naive_terms(made, x)
    if kind == "probability":
        return -likelihood.mean(1)
    if kind == "elbo":
        return -likelihood.mean(1) + divergence
    return -((likelihood + ratio).logsumexp(1) - math.log(len(made.draws)))


latent = hnp.array_shapes(min_dims=2, max_dims=2, max_side=4)


@settings(deadline=None)
@given(st.data(), latent)
def test_the_divergence_from_the_prior_is_that_of_torch(data, shape):
    mu, log_var = (torch.from_numpy(data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-6, 6)))) for _ in "ab")
    q = Normal(mu, (0.5 * log_var).exp())
    expected = kl_divergence(q, Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(1)
    torch.testing.assert_close(kl_from_standard(mu, log_var), expected)
    assert (kl_from_standard(mu, log_var) >= -1e-12).all()


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("options", LIKELIHOODS)
@torch.no_grad()
def test_a_score_is_what_a_loop_over_the_stored_draws_gives(options, kind):
    made, x = model(score=kind, **options), rows()
    torch.testing.assert_close(made.score(x), naive_score(made, kind, x))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("options", LIKELIHOODS)
@torch.no_grad()
def test_contributions_sum_to_the_score_for_every_likelihood_and_score(options, kind):
    made, x = model(score=kind, **options).float(), rows().float()
    parts = made.contributions(x)
    assert parts.shape == x.shape
    assert parts.dtype == torch.float32
    torch.testing.assert_close(parts.double().sum(1), made.score(x), rtol=1e-6, atol=1e-9)
    exact = copy.deepcopy(made).double()
    torch.testing.assert_close(made.score(x), naive_score(exact, kind, x.double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", LIKELIHOODS)
@torch.no_grad()
def test_what_a_part_contributes_to_the_reconstruction_probability_is_its_own_log_likelihood(options):
    made, x = model(score="probability", **options), rows()
    for u, parts in zip(x, made.contributions(x), strict=True):
        mu, log_var = made.encoder(u[None])[0].chunk(2)
        draws = [naive_likelihood(made, u, mu + (0.5 * log_var).exp() * draw) for draw in made.draws]
        torch.testing.assert_close(parts, -torch.stack(draws).mean(0))


@torch.no_grad()
def test_what_a_part_contributes_to_the_importance_bound_is_weighted_by_draw():
    made, x = model(score="importance", likelihood="gaussian"), rows()
    likelihood, _, ratio = naive_terms(made, x)
    for u, parts, weight, score in zip(x, made.contributions(x), likelihood + ratio, made.score(x), strict=True):
        mu, log_var = made.encoder(u[None])[0].chunk(2)
        draws = torch.stack([-naive_likelihood(made, u, mu + (0.5 * log_var).exp() * draw) for draw in made.draws])
        own = (weight.softmax(0)[:, None] * draws).sum(0)
        torch.testing.assert_close(parts, own + (score - own.sum()) / 5)


@torch.no_grad()
def test_of_black_and_white_the_bernoulli_score_is_minus_the_log_likelihood():
    made, x = model(score="probability", likelihood="bernoulli"), rows().round()
    mu, log_var = made.encoder(x).chunk(2, 1)
    z = mu[:, None] + (0.5 * log_var).exp()[:, None] * made.draws
    expected = -Bernoulli(logits=made.decoder(z)).log_prob(x[:, None].expand(-1, 16, -1)).sum(2).mean(1)
    torch.testing.assert_close(made.score(x), expected)


@torch.no_grad()
def test_a_relative_score_is_divided_by_the_energy_of_the_sample():
    plain, x = model(likelihood="bernoulli"), rows()
    x[0] = 0
    relative = copy.deepcopy(plain)
    relative.relative = True
    size = x.square().sum(1).clamp_min(ENERGY_FLOOR * 5)
    torch.testing.assert_close(relative.score(x), plain.score(x) / size)
    torch.testing.assert_close(relative.contributions(x).sum(1), relative.score(x))


@pytest.mark.parametrize("draws", [2, 16])
@pytest.mark.parametrize("options", LIKELIHOODS)
@torch.no_grad()
def test_the_importance_bound_is_never_above_the_negative_evidence_bound_of_the_same_draws(options, draws):
    """Jensen: the logarithm of a mean is at least the mean of the logarithms."""
    made, x = model(score="importance", draws=draws, **options), rows(40)
    likelihood, divergence, ratio = naive_terms(made, x)
    assert (made.score(x) <= -(likelihood + ratio).mean(1) + 1e-9).all()
    # the elbo score takes the divergence exactly instead of from the draws, which differ by a known amount
    elbo = copy.deepcopy(made)
    elbo.kind = "elbo"
    sampling = -ratio.mean(1) - divergence
    assert (made.score(x) <= elbo.score(x) + sampling + 1e-9).all()


@torch.no_grad()
def test_with_many_draws_the_importance_bound_is_tighter_and_the_evidence_bound_stays():
    few, x = model(draws=16, likelihood="gaussian"), rows(40)
    many = copy.deepcopy(few)
    many.draws = torch.randn(4000, 3, dtype=torch.float64)
    torch.testing.assert_close(many.score(x).mean(), few.score(x).mean(), rtol=0.2, atol=0)
    few.kind = many.kind = "importance"
    assert many.score(x).mean() < few.score(x).mean()


def test_the_stored_draws_do_not_depend_on_the_seed_and_come_in_opposite_pairs():
    first = VariationalAutoencoder((5,), draws=6)
    torch.manual_seed(1)
    second = VariationalAutoencoder((9,), draws=6)
    assert torch.equal(first.draws, second.draws)
    assert torch.equal(first.draws[::2], -first.draws[1::2])
    assert first.draws.unique().numel() == first.draws.numel()
    again = VariationalAutoencoder.from_state(dict(first.hparams), first.state_arrays())
    assert torch.equal(again.draws, first.draws)
    foreign = {**first.state_arrays(), "draws": np.zeros((6, 8), np.float32)}
    assert not VariationalAutoencoder.from_state(dict(first.hparams), foreign).draws.any(), "draws are state"


def test_building_a_model_takes_no_numbers_for_the_draws_from_the_global_stream():
    def after(draws):
        torch.manual_seed(3)
        VariationalAutoencoder((5,), draws=draws)
        return torch.rand(1)

    assert after(2) == after(64)


def test_draws_without_end_in_a_file_take_no_memory():
    made = VariationalAutoencoder((5,))
    with within(5), pytest.raises(ValueError, match="arrays are not those"):
        VariationalAutoencoder.from_state({**made.hparams, "draws": 10**12}, made.state_arrays())


@torch.no_grad()
def test_in_validation_the_loss_is_the_bound_with_stored_draws_and_full_beta():
    made, x = model(likelihood="gaussian", beta=3.0), rows()
    likelihood, divergence, _ = naive_terms(made, x, made.draws[:VALIDATION_DRAWS])
    torch.testing.assert_close(made.loss(x), (-likelihood.mean(1) + 3 * divergence).mean() / 5)
    assert torch.equal(made.loss(x), made.loss(x))


@torch.no_grad()
def test_in_training_the_loss_is_an_unbiased_estimate_of_the_bound():
    made, x = model(likelihood="gaussian", beta=3.0), rows(4)
    likelihood, divergence, _ = naive_terms(made, x, torch.randn(1000, 3, dtype=torch.float64))
    made.train()
    losses = torch.stack([made.loss(x) for _ in range(1000)])
    assert losses.std() > 0
    bound = (-likelihood.mean(1) + 3 * divergence).mean() / 5
    assert abs(losses.mean() - bound) < 5 * (losses.std() + likelihood.std(1).mean() / 5) / 1000**0.5


class Gradients(Callback):
    """Gradients of the encoder, the batch and the validation loss, at every step of a training that stands still."""

    def __init__(self):
        self.batches, self.gradients, self.validated = [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batches.append(batch)

    def on_after_backward(self, trainer, module):
        self.gradients.append([weight.grad.clone() for weight in module.encoder.parameters()])

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.validated.append(trainer.callback_metrics["val_loss"].item())


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def standing_still(folder, **options):
    torch.manual_seed(0)
    made, seen = VariationalAutoencoder((6,), lr=1e-30, weight_decay=0.0, **options), Gradients()
    with pytest.raises(LearningError, match="did not change"):
        train(made, Waves(n=640), folder, callbacks=[seen], max_epochs=4)
    return made, seen


@pytest.mark.parametrize("options", [{}, {"warmup": 1.0}, {"warmup": 0.0}], ids=str)
def test_the_divergence_pulls_at_the_encoder_from_the_first_step_and_soon_with_full_weight(options, tmp_path):
    """Of two trainings that differ in beta alone, the gradients differ by the divergence times its weight."""
    made, one = standing_still(tmp_path / "1", beta=1.0, **options)
    _, two = standing_still(tmp_path / "2", beta=2.0, **options)
    shares = []
    for batch, low, high in zip(one.batches, one.gradients, two.gradients, strict=True):
        divergence = kl_from_standard(*made.encoder(made.scaling(batch)).chunk(2, 1)).mean() / 6
        full = flat(torch.autograd.grad(divergence, list(made.encoder.parameters())))
        found = flat(high) - flat(low)
        share = (found @ full / (full @ full)).item()
        torch.testing.assert_close(found, share * full, rtol=0.02, atol=0.01 * full.abs().max().item())
        shares.append(share)
    steps = made.warmup * len(shares)
    expected = [min(1.0, (step + 1) / max(steps, 1)) for step in range(len(shares))]
    np.testing.assert_allclose(shares, expected, rtol=0.01)
    assert shares[0] > 0
    assert abs(shares[-1] - 1) < 0.01


def test_while_the_weight_still_rises_the_validation_loss_has_full_beta(tmp_path):
    made, seen = standing_still(tmp_path, beta=2.0, warmup=1.0)
    exact = made.double().eval()
    with torch.no_grad():
        u = exact.scaling(rows_of(Waves(n=640).splits.val))
        likelihood, divergence, _ = naive_terms(exact, u, exact.draws[:VALIDATION_DRAWS])
        expected = (-likelihood.mean(1) + 2 * divergence).mean().item() / 6
    np.testing.assert_allclose(seen.validated, [expected] * 4, rtol=1e-4)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    def get(**options):
        torch.manual_seed(0)
        made, data = VariationalAutoencoder((6,), **options), Waves()
        train(made, data, tmp_path_factory.mktemp("vae"), max_epochs=40)
        with torch.no_grad():
            mu, log_var = made.encoder(made.scaling(rows_of(data.splits.calibration))).chunk(2, 1)
        return made, mu, log_var

    return get


def test_codes_are_standard_normal_on_average_and_say_something(learned):
    _, mu, log_var = learned()
    assert kl_from_standard(mu, log_var).mean() > 0.3
    assert mu.mean(0).abs().max() < 0.25
    second = (mu.square() + log_var.exp()).mean(0)
    assert ((second > 0.7) & (second < 1.4)).all()


def test_a_huge_beta_collapses_the_codes_and_it_can_be_seen(learned):
    made, mu, log_var = learned(beta=1000.0)
    assert kl_from_standard(mu, log_var).mean() < 1e-3
    rebuilt = made.reconstruct(rows_of(Waves().splits.calibration))
    assert rebuilt.std(0).max() < 0.05, "each sample is rebuilt as the mean"


@torch.no_grad()
def test_the_least_variance_bounds_the_likelihood():
    made, x = model(likelihood="gaussian", score="probability"), rows()
    made.variance.fill_(-100.0)  # as sure as can be
    surest = 0.5 * math.log(2 * math.pi * LEAST_VARIANCE)
    assert (made.contributions(x) >= surest).all()
    for weight in made.decoder.parameters():
        weight.zero_()
    exact = torch.zeros(3, 5, dtype=torch.float64)  # what this decoder says
    torch.testing.assert_close(made.contributions(exact), torch.full_like(exact, surest))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("options", LIKELIHOODS)
def test_scores_stay_ordered_or_infinite_far_outside_the_training_range(options, kind):
    made, x = model(score=kind, **options).float(), rows().float()
    with torch.no_grad():
        for far in (1e4, 1e20, 3e38):
            score = made.score(x + far)
            assert not score.isnan().any()
            assert (score > made.score(x).max()).all()


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("options", LIKELIHOODS)
def test_every_kind_of_score_has_the_same_bits_alone_and_in_any_batch(options, kind, tmp_path):
    data = Waves()
    scaling = {"scaling": "range"} if options["likelihood"] == "bernoulli" else {}
    made = VariationalAutoencoder((6,), score=kind, **options, **scaling)
    train(made, data, tmp_path, max_epochs=2)
    scorer = Scorer.calibrate(made, data.calibration_dataloader())
    scorer.save(tmp_path / "scorer")
    x = rows_of(data.splits.test).numpy()
    whole = Scorer.load(tmp_path / "scorer")(x).score
    order = np.random.default_rng(0).permutation(len(x))
    assert np.array_equal(scorer(x[order]).score, whole[order])
    assert np.array_equal(np.concatenate([scorer(row[None]).score for row in x[:10]]), whole[:10])


def test_the_likelihood_and_the_scaling_suit_the_shape_unless_they_are_given():
    image, table = VariationalAutoencoder((1, 4, 4)), VariationalAutoencoder((4,))
    assert (image.likelihood, image.scaling.kind) == ("bernoulli", "range")
    assert (table.likelihood, table.scaling.kind) == ("gaussian", "standard")
    assert VariationalAutoencoder((4,), likelihood="bernoulli").scaling.kind == "range"
    assert VariationalAutoencoder((1, 4, 4), likelihood="gaussian").scaling.kind == "standard"
    assert image.variance is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood must be one of bernoulli, gaussian, got 'poisson'"),
        ({"variance": "batch"}, "variance must be one of feature, sample, got 'batch'"),
        ({"score": "error"}, "score must be one of probability, elbo, importance, got 'error'"),
        ({"beta": 0.0}, "beta > 0"),
        ({"beta": -1.0}, "beta > 0"),
        ({"beta": math.nan}, "beta > 0"),
        ({"beta": math.inf}, "finite beta"),
        ({"warmup": -0.1}, "warmup in"),
        ({"warmup": 1.1}, "warmup in"),
        ({"warmup": math.nan}, "warmup in"),
        ({"draws": 0}, "even number of draws"),
        ({"draws": 3}, "even number of draws"),
        ({"draws": -2}, "even number of draws"),
        ({"draws": 4.0}, "even number of draws"),
        ({"likelihood": "bernoulli", "scaling": "standard"}, "needs values in"),
        ({"likelihood": "bernoulli", "scaling": "robust"}, "needs values in"),
        ({"likelihood": "bernoulli", "scaling": "quantile"}, "needs values in"),
        ({"relative": True}, "relative=True is for likelihood='bernoulli'"),
        ({"latent_dim": 0}, "layer widths"),
        ({"latent_dim": 2.5}, "layer widths"),
        ({"hidden_dims": (0,)}, "layer widths"),
        ({"dropout": 1.0}, "dropout"),
        ({"activation": "sine"}, "activation must be one of"),
        ({"lr": 0.0}, "lr > 0"),
        ({"patience": 0}, "patience >= 1"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VariationalAutoencoder((4,), **options)
