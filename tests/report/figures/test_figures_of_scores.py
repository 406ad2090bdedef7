"""Figures of scores, groups and tiers: what is drawn is what was counted."""

from typing import Any

import numpy as np
import pytest
from gallery import line, marked, outline, scores, ticks, told
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from deepad.errors import InputError
from deepad.report.figures import LINE, score_boxes, score_histogram, severity_tiers


def steps(figure: Figure) -> dict[str, Any]:
    """Heights and edges of what is drawn as outlines, by label."""
    found = [step for step in figure.axes[0].patches if isinstance(step, StepPatch) and not step.get_fill()]
    return {str(step.get_label()): step.get_data() for step in found}


@pytest.mark.parametrize("y", [None, np.arange(400) % 10 == 0])
def test_bars_of_each_class_sum_to_one_and_count_what_lies_between_their_edges(y: Any) -> None:
    score = scores()[0]
    drawn = steps(score_histogram(score, y, 9.0, calibration=score[:50], bins=30))
    parts = {"samples (400)": score} if y is None else {"normal (360)": score[~y], "anomaly (40)": score[y]}
    parts["calibration (50)"] = score[:50]
    assert drawn.keys() == parts.keys()
    for name, part in parts.items():
        heights, edges, _ = drawn[name]
        assert len(heights) == 30
        assert sum(heights) == pytest.approx(1)
        for place in (0, 11, 29):
            inside = (part >= edges[place]) & ((part < edges[place + 1]) | (place == 29))
            assert heights[place] == pytest.approx(inside.mean(), abs=1.5 / len(part))


def test_a_threshold_and_its_band_stand_where_they_are() -> None:
    figure = score_histogram(scores()[0], None, 9.0, band=(7.0, 12.0))
    assert set(line(figure, "threshold 9")[0]) == {9.0}
    (band,) = [patch for patch in figure.axes[0].patches if patch.get_label() == "where it could have been"]
    assert band.get_extents().transformed(figure.axes[0].transData.inverted()).intervalx == pytest.approx([7, 12])
    assert "threshold 9" in told(figure)


@pytest.mark.parametrize("threshold", [np.inf, -np.inf])
def test_an_infinite_threshold_is_told_but_not_drawn(threshold: float) -> None:
    figure = score_histogram(scores()[0], None, threshold, band=(7.0, np.inf))
    assert len(line(figure, f"threshold {threshold}")[0]) == 0
    assert told(figure) == ["samples (400)", f"threshold {threshold}"]


def test_what_is_not_finite_is_left_out_and_counted() -> None:
    figure = score_histogram([1.0, 2.0, np.inf, np.nan, -np.inf], [0, 1, 1, 0, 0], 1.5)
    assert told(figure)[:2] == ["normal (1)", "anomaly (1)"]
    assert marked(figure, "x") == "anomaly score (3 not finite, left out)"
    assert steps(score_histogram([np.inf, np.nan], None, 1.0)) == {}


@pytest.mark.parametrize(("least", "scale"), [(1e-3, "log"), (0.0, "linear"), (-1.0, "linear"), (5.0, "linear")])
def test_an_axis_is_logarithmic_for_positive_scores_over_a_decade(least: float, scale: str) -> None:
    figure = score_histogram([least, 9.0], None, 7.0)
    assert figure.axes[0].get_xscale() == scale
    assert figure.axes[0].get_ylim()[0] == 0


def test_boxes_hold_the_quartiles_and_a_dot_is_at_the_highest() -> None:
    score, y = scores()
    figure = score_boxes(score, y, 9.0)
    axes = figure.axes[0]
    assert ticks(figure, "y") == ["normal (360)", "anomaly (40)"]
    for row, part in enumerate((score[y == 0], score[y == 1])):
        box: Any = axes.patches[row]
        assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx(np.quantile(part, [0.25, 0.75]))
        assert box.get_y() < row < box.get_y() + box.get_height()
        whiskers, medians, dots = (collection for collection in axes.collections)
        segment: Any = whiskers
        assert segment.get_segments()[row][:, 0] == pytest.approx(np.quantile(part, [0.01, 0.99]))
        segment = medians
        assert segment.get_segments()[row][:, 0] == pytest.approx(np.median(part))
        offsets: Any = dots.get_offsets()
        assert offsets[row].tolist() == [part.max(), row]


def test_groups_without_a_finite_score_have_no_box() -> None:
    figure = score_boxes([1.0, 3.0, np.inf, np.nan], ["b", "a", "c", "b"])
    assert ticks(figure, "y") == ["a (1)", "b (1)"]
    assert marked(figure, "x") == "anomaly score (2 not finite, left out)"


def test_tiers_are_counted_by_class() -> None:
    figure = severity_tiers([-1, 0, 0, 0, 1, 2, 2], ["notice", "critical"], [0, 0, 0, 1, 1, 1, 1])
    assert ticks(figure, "y") == ["not judged", "not flagged", "notice", "critical"]
    containers: Any = figure.axes[0].containers
    bars = [container for container in containers if len(container) == 4]
    assert [[bar.get_width() for bar in container] for container in bars] == [[1, 2, 0, 0], [0, 1, 1, 2]]
    assert told(figure) == ["normal (3)", "anomaly (4)"]
    assert sorted(text.get_text() for text in figure.axes[0].texts) == sorted("12000112")


def test_classes_differ_in_colour_and_what_is_neutral_has_that_of_the_text() -> None:
    figure = score_histogram([1.0, 2.0, 3.0], [0, 0, 1], 2.5, calibration=[1.0])
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    colours = {str(patch.get_label()): patch.get_edgecolor() for patch in patches}
    assert len(set(colours.values())) == 3
    assert line(figure, "threshold")[0].size == 2
    assert figure.axes[0].lines[0].get_color() == LINE
    with pytest.raises(ValueError, match="not enough values"):
        outline(figure, "nothing")


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: score_histogram([[1.0]], None, 1.0), r"one number a sample, \(N,\)"),
        (lambda: score_histogram(["a"], None, 1.0), "one number a sample"),
        (lambda: score_histogram([1.0], [2], 1.0), "labels must be 0"),
        (lambda: score_histogram([1.0], ["a"], 1.0), "labels must be 0"),
        (lambda: score_histogram([1.0], [np.nan], 1.0), "labels must be 0"),
        (lambda: score_histogram([1.0], [0, 1], 1.0), "labels of shape"),
        (lambda: score_histogram([1.0], None, 1.0, band=(2.0, 1.0)), "lowest value of the threshold"),
        (lambda: score_histogram([1.0], None, 1.0, band=(np.nan, 1.0)), "lowest value of the threshold"),
        (lambda: score_histogram([1.0], None, 1.0, calibration=[[1.0]]), "one number a sample"),
        (lambda: score_boxes([1.0, 2.0], ["a"]), "groups of shape"),
        (lambda: score_boxes([np.inf], ["a"]), "0 groups with a finite score"),
        (lambda: score_boxes(np.ones(41), np.arange(41)), "41 groups"),
        (lambda: severity_tiers([3], ["notice", "critical"]), "whole numbers from -1 to 2"),
        (lambda: severity_tiers([0.5], ["notice"]), "whole numbers"),
        (lambda: severity_tiers([np.nan], ["notice"]), "whole numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()
