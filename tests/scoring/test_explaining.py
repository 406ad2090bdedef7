"""Why a sample has its score: sums, the part that is at fault, and what is normal beside it."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pytorch_lightning import Trainer

from deepad import Scorer
from deepad.baselines import (
    IQRDistance,
    IsolationForest,
    KNearestNeighbors,
    MeanDistance,
    MultivariateGaussian,
    PCAResidual,
    ZScore,
)
from deepad.channels import SeriesSchema
from deepad.data.windows import RULES, StepRule
from deepad.detectors import DenseAutoencoder
from deepad.errors import ArtifactCorruptError, InputError
from deepad.schema import TableSchema
from deepad.scoring.artifact import write_artifact
from deepad.scoring.composed import Ensemble, Hybrid
from deepad.scoring.explaining import channels_of_steps
from deepad.scoring.heldout import REFERENCE, Reference
from deepad.scoring.steps import score_series

CHANNELS = 8
MIX = np.random.default_rng(5).normal(size=(3, CHANNELS))


def correlated(n, seed):
    """Rows of correlated channels, which three hidden causes move."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) @ MIX + 0.3 * rng.normal(size=(n, CHANNELS))


def faulty(n, seed, size=5.0):
    """Rows in which one channel each is off by some standard deviations, and which one."""
    rng = np.random.default_rng(seed)
    rows, channel = correlated(n, seed + 1), rng.integers(0, CHANNELS, n)
    rows[np.arange(n), channel] += rng.choice([-size, size], n) * correlated(5000, 0).std(0)[channel]
    return rows, channel


def trained(x, **arguments):
    """A small autoencoder that has learned the rows."""
    torch.manual_seed(0)
    x = torch.from_numpy(np.asarray(x, np.float32))
    detector = DenseAutoencoder(x.shape[1:], hidden_dims=[32], latent_dim=3, **arguments)
    loaders = (torch.utils.data.DataLoader(part, 64) for part in (x[:-200], x[-200:]))
    Trainer(max_epochs=15, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu").fit(detector, *loaders)  # fmt: skip
    return detector


MODELS = {
    "PCA": lambda x: PCAResidual().fit(x),
    "z-score": lambda x: ZScore().fit(x),
    "Gaussian": lambda x: MultivariateGaussian().fit(x),
    "k-NN": lambda x: KNearestNeighbors().fit(x),
    "dense": lambda x: trained(x, noise=0.5),  # plain bottlenecks smear a fault over channels
    "dense, Gaussian errors": lambda x: trained(x, noise=0.5, score="gaussian"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_channel_at_fault_carries_most_of_the_score_and_contributions_sum_to_it(name):
    scorer = Scorer.calibrate(MODELS[name](correlated(1200, 1)), correlated(300, 2))
    rows, channel = faulty(300, 3)
    told = scorer.explain(rows, range(300))
    first = np.array([int(one.parts[0].name[1:]) for one in told])
    assert (first == channel).mean() >= 0.95
    score = scorer(rows).score
    for one, of in zip(told, score, strict=True):
        assert one.score == pytest.approx(of, rel=1e-9)
        assert one.contributions.sum() == pytest.approx(of, rel=1e-5)
        assert sum(part.contribution for part in one.parts) == pytest.approx(of, rel=1e-5)
        assert sum(part.share for part in one.parts) == pytest.approx(1)
    assert np.mean([one.parts[0].p_value <= 1 / (REFERENCE + 1) for one in told]) > 0.9


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [MODELS["Gaussian"], MODELS["dense"]])
def test_the_channel_at_fault_is_found_in_windows_too(make):
    rng = np.random.default_rng(0)
    series = np.repeat(correlated(800, 1), 2, axis=0) + 0.1 * rng.normal(size=(1600, CHANNELS))
    windows = np.lib.stride_tricks.sliding_window_view(series, 4, axis=0).swapaxes(1, 2)
    scorer = Scorer.calibrate(make(windows[:1000]), series[1100:], steps="last")
    rows, channel = faulty(150, 7)
    hits = 0
    for row, at in zip(rows, channel, strict=True):
        broken = series[1100:1104].copy()
        broken[3, at] = row[at]
        hits += scorer.explain(broken, [3])[0].parts[0].name == f"channel {at}"
    assert hits >= 0.95 * 150


def test_an_explanation_says_what_was_expected_in_which_unit():
    x = correlated(500, 1)
    scorer = Scorer.calibrate(MeanDistance().fit(x), correlated(100, 2))
    row = x.mean(0)
    row[2] += 4.1 * x.std(0)[2]
    (told,) = scorer.explain(row[None], [0])
    assert told.sentence == "x2 4.1 s.d. above the mean carries 100 % of the score (p = 0.0099)"
    first = told.parts[0]
    assert (first.name, first.share) == ("x2", 1.0)
    assert first.expected == pytest.approx(x[:, 2].mean())
    assert first.deviation == pytest.approx(4.1)
    assert first.value == f"{row[2]:.5g}"
    plain = told.to_dict(most=2)
    assert [part["name"] for part in plain["parts"]] == ["x2", plain["parts"][1]["name"]]
    assert plain["sentence"] == told.sentence


def test_raw_units_are_told_as_numbers():
    scorer = Scorer.calibrate(PCAResidual(1, scaling="none").fit(correlated(200, 1)), correlated(100, 2))
    assert " s.d. " not in scorer.explain(correlated(1, 3), [0])[0].sentence


def test_what_raises_a_score_has_a_share_of_what_raises_it():
    """Of a density the contributions may be negative; shares are of what raises the score."""
    scorer = Scorer.calibrate(MultivariateGaussian(density=True).fit(correlated(300, 1) / 50), correlated(99, 2) / 50)
    (told,) = scorer.explain(correlated(1, 3) / 50, [0])
    raising = [part.contribution for part in told.parts if part.contribution > 0]
    for part in told.parts:
        assert part.share == pytest.approx(max(part.contribution, 0) / sum(raising))


def test_columns_of_a_table_are_told_by_name_and_value():
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "amount": rng.normal(50, 5, 600),
            "shop": rng.choice(["books", "food"], 600).tolist(),
            "age": np.where(rng.random(600) < 0.1, np.nan, rng.normal(40, 3, 600)),
        }
    )
    schema = TableSchema.learn(table, missing="median")
    model = PCAResidual(1).fit(schema.encode(table.slice(0, 400)))
    scorer = Scorer.calibrate(model, table.slice(400), inputs=schema)
    odd = pa.table({"amount": [50.0, 90.0], "shop": ["casino", "food"], "age": [None, 40.0]})
    unknown, dear = scorer.explain(odd, [0, 1])
    assert {part.name for part in unknown.parts} == {"amount", "shop", "age"}
    values = {part.name: part for part in unknown.parts}
    assert (values["shop"].value, values["shop"].deviation, values["age"].value) == ("unknown", None, "missing")
    assert unknown.sentence.startswith(("age = missing carries", "shop = unknown carries"))
    assert dear.parts[0].name == "amount"
    assert dear.parts[0].value == "90"
    assert dear.parts[0].deviation > 5


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stride", [1, 3])
def test_what_channels_add_sums_to_the_score_of_each_step_under_every_rule(rule, stride):
    x = correlated(60, 1)
    windows = np.lib.stride_tricks.sliding_window_view(correlated(300, 2), 7, axis=0).swapaxes(1, 2)
    model, steps = PCAResidual(4).fit(windows), StepRule(7, rule, stride)
    score = score_series(model, steps, x)
    parts = channels_of_steps(model, steps, x, np.arange(60))
    assert np.array_equal(np.isnan(score), np.isnan(parts).any(1))
    scored = ~np.isnan(score)
    np.testing.assert_allclose(parts.sum(1)[scored], score[scored], rtol=1e-9)
    scorer = Scorer.calibrate(model, correlated(200, 3), steps=steps)
    some = np.flatnonzero(scored)[[0, 9, -1]]
    for step, told in zip(some, scorer.explain(x, some.tolist()), strict=True):
        assert told.score == pytest.approx(score[step], rel=1e-9)
        assert told.x.shape == told.contributions.shape == (7, CHANNELS)
        assert (told.x == x[max(step - 6, 0) : max(step - 6, 0) + 7]).all()
        assert (told.parts[0].p_value is None) == (not steps.causal)
    with pytest.raises(InputError, match="there are 60 steps"):
        scorer.explain(x, [60])
    if not scored[0]:
        with pytest.raises(InputError, match="row 0 is scored by no window"):
            scorer.explain(x, [0])


def test_rows_of_a_recording_are_steps_in_order_of_time():
    time = np.datetime64("2026-01-01", "s") + 60 * np.arange(40)
    x = correlated(40, 1)
    windows = np.lib.stride_tricks.sliding_window_view(correlated(300, 2), 5, axis=0).swapaxes(1, 2)
    names = tuple(f"c{i}" for i in range(CHANNELS))
    schema = SeriesSchema(names, time="time", interval=60.0)
    model = PCAResidual(3).fit(windows)
    scorer = Scorer.calibrate(model, correlated(200, 3), steps=StepRule(5), inputs=schema)
    order = np.random.default_rng(0).permutation(40)
    columns = {name: x[order, i].astype(np.float32) for i, name in enumerate(names)}
    table = pa.table({"time": time[order], **columns})
    row = int(np.flatnonzero(order == 20)[0])
    (told,) = scorer.explain(table, [row])
    assert told.x == pytest.approx(x[16:21], rel=1e-6)
    assert told.score == pytest.approx(scorer(table).score[row])
    assert told.parts[0].name in names


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_that_does_not_split_its_score_names_what_is_near():
    x = correlated(300, 1)
    forest = Ensemble({"forest": IsolationForest(20).fit(x)}).fit(correlated(200, 9))
    hybrid = Hybrid(trained(x), KNearestNeighbors()).fit(x)
    for model in (IsolationForest(20).fit(x), forest, hybrid, Ensemble({"a": hybrid}).fit(correlated(200, 8))):
        scorer = Scorer.calibrate(model, correlated(100, 2))
        (told,) = scorer.explain(scorer.reference[7:8], [0])
        assert told.parts == ()
        assert told.contributions is None
        assert told.nearest[0] == 7
        assert told.distances[0] == 0
        assert "does not split its score over its input" in told.sentence


def test_a_row_that_recurs_has_its_share_of_the_reference():
    for seed in range(5):
        rows = correlated(1000, seed)
        rows[np.random.default_rng(seed).permutation(1000)[:333]] = rows[0]
        reference = Reference((CHANNELS,))
        for part in np.array_split(rows, 9):
            reference.add(part)
        kept = (reference.samples == rows[0]).all(1).sum()
        assert abs(kept - 85) < 35


def test_only_steps_that_calibrate_are_in_the_reference():
    windows = np.lib.stride_tricks.sliding_window_view(correlated(300, 2), 5, axis=0).swapaxes(1, 2)
    values, scored = correlated(200, 3), np.ones(200, bool)
    scored[:4], scored[60:70] = False, False  # context, and what is wrong
    values[60:70] = 1000.0
    stretch = SimpleNamespace(values=values, scored=scored)
    scorer = Scorer.calibrate(PCAResidual(3).fit(windows), [stretch], steps=StepRule(5))
    assert scorer.reference.max() < 100
    shown = {row.tobytes() for row in scorer.reference}
    assert values[:5].tobytes() in shown, "context before is part of a window"
    assert len(shown) == 200 - 4 - 10 - 4


def test_the_reference_is_a_random_sample_whatever_the_order_and_can_be_left_out(tmp_path):
    x = correlated(1000, 2)
    model = PCAResidual().fit(correlated(200, 1))
    scorer = Scorer.calibrate(model, x)
    assert scorer.reference.shape == (REFERENCE, CHANNELS)
    again = Scorer.calibrate(model, iter(np.array_split(x, 7))).reference
    assert np.array_equal(again, scorer.reference), "whatever the batches"
    place = np.array([int(np.flatnonzero((x == row).all(1))[0]) for row in scorer.reference])
    assert abs(place.mean() / 1000 - 0.5) < 0.08, "from everywhere"
    scorer.save(tmp_path)
    assert np.array_equal(Scorer.load(tmp_path).reference, scorer.reference)
    without = Scorer.calibrate(model, x, reference=0)
    assert without.reference is None
    without.save(tmp_path)
    assert not list(tmp_path.glob("reference-*")), "raw samples must not stay behind"
    told = Scorer.load(tmp_path).explain(x[:2], [1])[0]
    assert told.nearest == ()
    assert told.parts[0].p_value is None


def test_large_samples_are_few_and_whole_numbers_narrow():
    reference = Reference((1, 600, 600))
    reference.add(np.zeros((1, 1, 600, 600)))
    reference.add(np.ones((9, 1, 600, 600)))
    assert reference.samples.shape == (2, 1, 600, 600)
    assert reference.samples.dtype == np.float32
    assert Reference((3,)).samples is None


@pytest.mark.parametrize("reference", [np.ones((4, 5)), np.full((4, CHANNELS), np.nan), np.ones((4, CHANNELS), int)])
def test_a_reference_that_the_model_could_not_take_is_refused(reference, tmp_path):
    scorer = Scorer.calibrate(PCAResidual().fit(correlated(200, 1)), correlated(100, 2))
    with pytest.raises(ValueError, match="the reference must be finite samples"):
        Scorer(scorer.model, scorer.calibration, scorer.decision, reference=reference)
    scorer.save(tmp_path)
    from deepad.scoring.manifest import FORMAT, MANIFEST, read_artifact

    groups, optional = frozenset({"model", "calibration"}), frozenset({"reference"})
    keys = frozenset(scorer.describe()) | {"created_utc", "deepad"}
    document, arrays = read_artifact(tmp_path, MANIFEST, format=FORMAT, keys=keys, groups=groups, optional=optional)
    arrays["reference"] = {"samples": reference}
    body = {key: value for key, value in document.items() if key not in ("payloads", "sha256", "schema")}
    write_artifact(tmp_path, MANIFEST, body, arrays)
    with pytest.raises(ArtifactCorruptError, match="the reference must be finite samples"):
        Scorer.load(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_score_that_is_no_number_names_what_is_furthest():
    scorer = Scorer.calibrate(trained(correlated(500, 1)), correlated(100, 2))
    row = correlated(1, 3)
    row[0, 1] = 1e30
    (told,) = scorer.explain(row, [0])
    assert told.sentence == "the score is too large for a number: x1 is furthest from what the model has seen"
    assert told.parts == ()
    assert told.to_dict()["score"] is None
    x = np.random.default_rng(0).normal(size=(50, 3))
    inner = Scorer.calibrate(IQRDistance().fit(x), x[:40] + 1).explain(x.mean(0)[None], [0])
    assert inner[0].sentence == "nothing raises the score: each value is as expected"


def test_what_is_expected_is_what_the_score_compares_with():
    x = correlated(400, 1)
    for model in (KNearestNeighbors(3), KNearestNeighbors(3, distance="mean"), KNearestNeighbors(1)):
        new = correlated(20, 2)
        model.fit(x)
        distance = np.sqrt(np.square(model.scaled(new) - model.scaled(model.reconstruct(new))).sum(1))
        if model.distance == "largest":
            np.testing.assert_allclose(distance, model.score(new), rtol=1e-9)
        else:
            assert (distance <= model.score(new) + 1e-9).all(), "the mean of some rows is no further than they are"
    gaussian = MultivariateGaussian("full").fit(x)
    u, told = gaussian.scaled(x), gaussian.scaled(gaussian.reconstruct(x))
    others = np.c_[np.ones(400), np.delete(u, 2, axis=1)]
    by_hand = others @ np.linalg.lstsq(others, u[:, 2], rcond=None)[0]
    np.testing.assert_allclose(told[:, 2], by_hand, atol=1e-3)


def test_only_the_parts_that_add_most_are_told_of_many():
    x = np.random.default_rng(0).normal(size=(60, 500))
    (told,) = Scorer.calibrate(MeanDistance().fit(x[:40]), x[40:]).explain(x[:1], [0])
    assert len(told.parts) == 100
    parts = np.sort(told.contributions)[::-1]
    assert [part.contribution for part in told.parts] == pytest.approx(parts[:100])


def test_rows_that_are_not_there_are_refused():
    scorer = Scorer.calibrate(PCAResidual().fit(correlated(200, 1)), correlated(100, 2))
    for rows in ([5], [-1], []):
        with pytest.raises(InputError, match="there are 5 samples, give some from 0 to 4"):
            scorer.explain(correlated(5, 3), rows)


def test_half_of_the_score_of_an_image_is_placed():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (300, 1, 6, 6))
    scorer = Scorer.calibrate(PCAResidual(3).fit(x[:200]), x[200:])
    broken = x[:1].copy()
    broken[0, 0, 2:4, 5] = 9.0
    (told,) = scorer.explain(broken, [0])
    assert told.sentence == "half of the score comes from 1 of 36 pixels, in rows 2 to 2 and columns 5 to 5" or (
        "in rows 2 to 3 and columns 5 to 5" in told.sentence
    )
