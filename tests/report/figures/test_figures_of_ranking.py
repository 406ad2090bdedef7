"""ROC and PR curves, the confusion matrix and the alarm dial, against scikit-learn and plain counts."""

from typing import Any

import numpy as np
import pytest
from gallery import line, marked, outline, p_values, scores, told
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from deepad.errors import InputError
from deepad.report.figures import alarm_dial, confusion_matrix, precision_recall_curve, roc_curve

exhaustive = settings(derandomize=True, deadline=None, max_examples=20)


@st.composite
def samples(draw: Any) -> tuple[Any, Any]:
    """Scores with many ties, and labels of both classes."""
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=25))
    y, score = np.array(rows).T
    y[:2] = 0, 1
    return score.astype(float), y


@exhaustive
@given(samples())
def test_the_curve_and_its_area_are_those_of_scikit_learn(data: Any) -> None:
    score, y = data
    figure = roc_curve(score, y, draws=2)
    false_alarms, recall, _ = metrics.roc_curve(y, score, drop_intermediate=False)
    x, height = line(figure, "area")
    assert x == pytest.approx(false_alarms)
    assert height == pytest.approx(recall)
    assert f"area {metrics.roc_auc_score(y, score):.4f}" in told(figure)


@exhaustive
@given(samples())
def test_the_area_below_the_steps_is_the_average_precision(data: Any) -> None:
    score, y = data
    figure = precision_recall_curve(score, y, draws=2)
    recall, precision = line(figure, "average precision")
    (drawn,) = [curve for curve in figure.axes[0].lines if str(curve.get_label()).startswith("average")]
    assert drawn.get_drawstyle() == "steps-pre"
    assert recall[0] == 0
    expected = metrics.average_precision_score(y, score)
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(expected)
    assert f"average precision {expected:.4f}" in told(figure)


def test_a_thinned_curve_runs_through_points_of_the_whole_one() -> None:
    score, y = scores(20_000)
    figure = roc_curve(score, y)
    x, height = line(figure, "area")
    assert len(x) < 600
    whole = set(zip(*metrics.roc_curve(y, score, drop_intermediate=False)[:2], strict=True))
    assert set(zip(x, height, strict=True)) <= whole
    assert np.max(np.diff(x)) <= 1 / 200 + 1e-9
    assert np.max(np.diff(height)) <= 1 / 200 + 1e-9
    assert f"area {metrics.roc_auc_score(y, score):.4f}" in told(figure)
    expected = metrics.average_precision_score(y, score)
    assert f"average precision {expected:.4f}" in told(precision_recall_curve(score, y))


def test_a_threshold_is_marked_where_what_scores_above_it_is_flagged() -> None:
    score, y = scores()
    threshold = float(np.sort(score)[300])
    flags = score > threshold
    x, height = line(roc_curve(score, y, threshold=threshold), "threshold")
    assert (x.item(), height.item()) == (flags[y == 0].mean(), flags[y == 1].mean())
    x, height = line(precision_recall_curve(score, y, threshold=threshold), "threshold")
    assert (x.item(), height.item()) == (flags[y == 1].mean(), y[flags].mean())


def test_infinite_scores_keep_their_rank_and_nan_is_left_out() -> None:
    finite = roc_curve([1.0, 2.0, 3.0, 9.0], [0, 1, 0, 1])
    figure = roc_curve([-np.inf, 2.0, 3.0, np.inf, np.nan], [0, 1, 0, 1, 1], threshold=np.inf)
    for one, other in zip(line(figure, "area"), line(finite, "area"), strict=True):
        assert one.tolist() == other.tolist()
    assert marked(figure, "x") == "share of normal samples flagged (1 NaN, left out)"
    assert [place.item() for place in line(figure, "threshold inf")] == [0, 0]


@pytest.mark.parametrize("n", [300, 30_000])
def test_the_band_is_where_curves_of_resampled_classes_lie(n: int) -> None:
    score, y = scores(n)
    area = outline(roc_curve(score, y, draws=400), "95 % band")
    rng = np.random.default_rng(1)
    normals, anomalies = score[y == 0], score[y == 1]
    places, recalls = (0.1, 0.3, 0.6), []
    for _ in range(200):
        drawn = [rng.choice(part, len(part)) for part in (normals, anomalies)]
        recalls.append([np.mean(drawn[1] > np.quantile(drawn[0], 1 - at)) for at in places])
    low, high = np.quantile(recalls, [0.025, 0.975], axis=0)
    for at, one, other in zip(places, low, high, strict=True):
        edge = area[np.isclose(area[:, 0], at), 1]
        assert edge.min() == pytest.approx(one, abs=0.35 * (other - one))
        assert edge.max() == pytest.approx(other, abs=0.35 * (other - one))


def test_bands_are_the_same_for_the_same_seed_and_missing_for_one_sample_of_a_class() -> None:
    score, y = scores()
    areas = [outline(precision_recall_curve(score, y, seed=seed), "95 % band") for seed in (0, 0, 1)]
    assert areas[0].tolist() == areas[1].tolist() != areas[2].tolist()
    assert told(roc_curve([1.0, 2.0, 3.0], [0, 0, 1])) == ["chance (0.5)", "area 1.0000"]


def test_cells_count_and_share_by_class() -> None:
    figure = confusion_matrix([0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 0])
    texts: dict[Any, list[str]] = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        texts.setdefault((round(float(y)), round(float(x))), []).append(text.get_text())
    assert texts == {
        (0, 0): ["3", "75.00 %"],
        (0, 1): ["1", "25.00 %"],
        (1, 0): ["1", "33.33 %"],
        (1, 1): ["2", "66.67 %"],
    }


def test_a_level_costs_what_it_leads_to() -> None:
    p, y = p_values()
    figure = alarm_dial(0.05, per_day=1000, p_value=p, y=y, costs=(2, 30), prevalence=0.01, levels=(0.001, 0.9))
    drawn = [np.array(axes.lines[0].get_data()) for axes in figure.axes]
    assert len(drawn) == 3
    alpha = drawn[0][0]
    assert alpha[[0, -1]] == pytest.approx([0.001, 0.9])
    missed = np.array([(p[y == 1] > level).mean() for level in alpha])
    np.testing.assert_allclose(drawn[0][1], 990 * alpha)
    np.testing.assert_allclose(drawn[1][1], missed)
    np.testing.assert_allclose(drawn[2][1], 2 * 990 * alpha + 30 * 10 * missed)
    at = (p[y == 1] > 0.05).mean()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{value:.4g} at alpha = 0.05" for value in (49.5, at, 99 + 300 * at)]
    for axes, curve in zip(figure.axes, drawn, strict=True):
        assert np.asarray(axes.lines[2].get_xydata()).tolist() == [[0.05, curve[1][alpha == 0.05].item()]]


def test_without_labelled_anomalies_only_false_alarms_are_drawn() -> None:
    assert len(alarm_dial(0.01, per_day=10).axes) == 1
    assert len(alarm_dial(0.01, per_day=10, p_value=[0.5], y=[0]).axes) == 1
    assert len(alarm_dial(0.01, per_day=10, p_value=[0.5, np.nan], y=[1, 1]).axes) == 2


LABELLED: Any = {"p_value": [0.5, 0.1], "y": [0, 1]}


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: roc_curve([1.0, 2.0], [0, 0]), "2 normal samples and 0 anomalies with a score"),
        (lambda: precision_recall_curve([1.0, 2.0], [1, 1]), "0 normal samples and 2 anomalies"),
        (lambda: roc_curve([1.0, np.nan], [0, 1]), "1 normal samples and 0 anomalies"),
        (lambda: roc_curve([1.0], [0, 1]), "labels of shape"),
        (lambda: confusion_matrix([0, 1], [0.5, 1]), "true or false for each sample"),
        (lambda: confusion_matrix([0, 1], [np.nan, 1]), "true or false for each sample"),
        (lambda: confusion_matrix([0, 2], [0, 1]), "labels must be 0"),
        (lambda: alarm_dial(0.0, per_day=1), "levels lie in"),
        (lambda: alarm_dial(1.0, per_day=1), "levels lie in"),
        (lambda: alarm_dial(np.nan, per_day=1), "levels lie in"),
        (lambda: alarm_dial(0.1, per_day=1, levels=(0.5, 0.1)), "the lower one first"),
        (lambda: alarm_dial(0.1, per_day=1, levels=(0.5, 1.1)), "levels lie in"),
        (lambda: alarm_dial(0.1, per_day=0), "per_day=0"),
        (lambda: alarm_dial(0.1, per_day=np.inf), "per_day=inf"),
        (lambda: alarm_dial(0.1, per_day=1, prevalence=1.0), "prevalence=1.0"),
        (lambda: alarm_dial(0.1, per_day=1, p_value=[0.5]), "without labels"),
        (lambda: alarm_dial(0.1, per_day=1, y=[0]), "without p-values"),
        (lambda: alarm_dial(0.1, per_day=1, costs=(1, 2), prevalence=0.1), "labelled anomalies"),
        (lambda: alarm_dial(0.1, per_day=1, costs=(1, 2), **LABELLED), "a prevalence above 0"),
        (lambda: alarm_dial(0.1, per_day=1, costs=(1, -2), prevalence=0.1, **LABELLED), "two of at least 0"),
        (lambda: alarm_dial(0.1, per_day=1, costs=(1, np.nan), prevalence=0.1, **LABELLED), "two of at least 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()
