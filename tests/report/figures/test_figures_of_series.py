"""Figures of a series and of a training: nothing that stands out gets lost."""

from typing import Any

import numpy as np
import pytest
from gallery import line, marked, ticks, told, wave
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.path import Path

from deepad.errors import InputError
from deepad.report.figures import channel_contributions, series_scores, training_curves
from deepad.report.figures.series import COLUMNS, decimated

exhaustive = settings(derandomize=True, deadline=None, max_examples=50)


def spans(path: Path) -> tuple[float, float]:
    x = np.asarray(path.vertices)[:, 0]
    return float(x.min()), float(x.max())


def bars(figure: Figure, label: str, panel: int) -> list[tuple[float, float]]:
    """Begin and end of each bar."""
    (found,) = [bar for bar in figure.axes[panel].collections if bar.get_label() == label]
    return [spans(path) for path in found.get_paths()]


@exhaustive
@given(st.lists(st.floats(-5, 5) | st.just(np.nan), min_size=1, max_size=200), st.integers(1, 20))
def test_the_lowest_and_the_highest_of_each_bin_are_kept(values: list[float], bins: int) -> None:
    given = np.array(values)
    where = decimated(given, bins)
    assert len(where) <= max(2 * bins, min(len(given), 2 * bins))
    assert (np.diff(where) > 0).all()
    size = -(-len(given) // bins)
    for start in range(0, len(given), size):
        part = given[start : start + size]
        shown = given[where[(where >= start) & (where < start + size)]]
        if np.isnan(part).all():
            assert np.isnan(shown).all()
            assert len(shown) >= 1
        else:
            assert (np.nanmin(shown), np.nanmax(shown)) == (np.nanmin(part), np.nanmax(part))


def test_scores_stand_at_their_steps_above_the_threshold_where_flagged() -> None:
    values, score, y = wave()
    figure = series_scores(values, score, y, 8.0, first=1000)
    curve = figure.axes[1].lines[0]
    assert np.asarray(curve.get_xdata()).tolist() == list(range(1000, 1500))
    np.testing.assert_array_equal(np.asarray(curve.get_ydata()), score)
    assert set(line(figure, "threshold 8", 1)[1]) == {8.0}
    flagged = bars(figure, "flagged", 1)
    assert len(flagged) > 1
    inside = [any(begin < step < end for begin, end in flagged) for step in range(1000, 1500)]
    binned = np.repeat((score.reshape(-1, 2) > 8).any(1), 2)  # 500 steps in 250 bins
    assert inside == binned.tolist()
    assert told(figure) == ["threshold 8", "labelled anomaly", "flagged"]


def test_channels_lie_in_lanes_from_their_lowest_to_their_highest() -> None:
    values = np.array([[0.0, 5.0, 1.0, np.nan], [1.0, 5.0, np.inf, np.nan], [0.5, 5.0, 3.0, np.nan]])
    figure = series_scores(values, np.ones(3), None, 2.0, names=["a", "b", "c", "d"])
    lanes = [np.asarray(curve.get_ydata()).tolist() for curve in figure.axes[0].lines]
    np.testing.assert_allclose(lanes, [[0.9, 0.1, 0.5], [1.5] * 3, [2.9, 2.1, 2.1], [np.nan] * 3])
    assert ticks(figure, "y") == ["a", "b", "c", "d"]
    assert figure.axes[0].get_ylim() == (4, 0)


def test_infinite_scores_are_counted_and_never_drawn_below_the_threshold_they_pass() -> None:
    score = np.array([1.0, np.inf, 2.0, -np.inf, np.nan])
    figure = series_scores(np.ones(5), score, None, 7.0)
    np.testing.assert_array_equal(np.asarray(figure.axes[1].lines[0].get_ydata()), [1, 7, 2, 1, np.nan])
    assert marked(figure, "x", 1) == "step (2 infinite, cut)"
    assert bars(figure, "flagged", 1) == [(0.5, 1.5)]


def test_flags_that_are_given_are_drawn_instead() -> None:
    figure = series_scores(np.ones(5), np.ones(5), None, 0.5, flagged=[0, 0, 1, 1, 0])
    assert bars(figure, "flagged", 1) == [(1.5, 3.5)]


def test_no_spike_of_a_long_series_is_lost() -> None:
    n = 100_000
    values, score = np.zeros((n, 2)), np.ones(n)
    values[12_345, 1], score[77_777] = 9, 50
    y = np.arange(n) == 54_321
    figure = series_scores(values, score, y, 20.0)
    assert np.nanmax(np.asarray(figure.axes[1].lines[0].get_ydata())) == 50
    assert np.asarray(figure.axes[0].lines[1].get_ydata()).min() == pytest.approx(1.1)
    assert len(np.asarray(figure.axes[1].lines[0].get_xdata())) <= 1200
    for label, step in (("flagged", 77_777), ("labelled anomaly", 54_321)):
        ((begin, end),) = bars(figure, label, 1)
        assert begin < step < end
        assert end - begin <= n / COLUMNS + 1


def test_contributions_are_sorted_by_their_peak_and_keep_it() -> None:
    parts = np.zeros((1001, 4))
    parts[:, 1], parts[500, 3], parts[7, 2], parts[9, 0] = 1, 8, -5, np.inf
    figure = channel_contributions(parts, names=["a", "b", "c", "d"], most=3)
    assert ticks(figure, "y") == ["d", "b", "a"]
    image = figure.axes[0].images[0]
    drawn = np.asarray(image.get_array())
    assert drawn.shape == (3, 251)
    assert (drawn[0].max(), drawn[1].min(), drawn[1].max(), drawn[2].max()) == (8, 1, 1, 0)
    begin, end = image.get_extent()[:2]
    width = (end - begin) / 251
    assert width == 4  # a bin is as wide as its steps
    place = begin + width * drawn[0].argmax()
    assert place < 500 < place + width
    assert figure.axes[0].get_xlim() == (-0.5, 1000.5)


def test_flags_and_labels_have_rows_of_their_own() -> None:
    figure = channel_contributions(np.ones((10, 2)), flagged=np.arange(10) == 3, y=np.arange(10) > 7, first=100)
    assert ticks(figure, "y") == ["labelled anomaly", "flagged", "0", "1"]
    flagged, labelled = (bar.get_paths() for bar in figure.axes[0].collections)
    assert [spans(path) for path in flagged] == [(102.5, 103.5)]
    assert [spans(path) for path in labelled] == [(107.5, 109.5)]


def test_the_best_epoch_is_that_of_the_lowest_validation_loss() -> None:
    figure = training_curves([3.0, 2.0, np.nan, 0.5], [3.0, 2.5, 2.0, 2.1])
    epochs, loss = line(figure, "train")
    assert epochs.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(loss, [3, 2, np.nan, 0.5])
    x, y = line(figure, "best, epoch 3")
    assert (x.item(), y.item()) == (3, 2.0)


def test_without_validation_there_is_no_best_epoch() -> None:
    assert told(training_curves([3.0, 2.0], [])) == ["train"]
    assert told(training_curves([], [np.inf])) == ["validation (normal)"]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: series_scores(np.ones((0, 2)), [], None, 1.0), "at least one step"),
        (lambda: series_scores(np.ones((2, 0)), [1, 2], None, 1.0), "at least one step"),
        (lambda: series_scores(np.float64(1), np.float64(1), None, 1.0), "at least one step"),
        (lambda: series_scores(np.ones((3, 2)), [1, 2], None, 1.0), "one score, label and flag a step"),
        (lambda: series_scores(np.ones((2, 2)), [1, 2], [0], 1.0), "one score, label and flag a step"),
        (lambda: series_scores(np.ones((2, 2)), [1, 2], None, 1.0, flagged=[1]), "one score, label and flag a step"),
        (lambda: series_scores(np.ones((2, 2)), [1, 2], None, 1.0, names=["a"]), "1 names of 2 channels"),
        (lambda: channel_contributions(np.ones(3)), r"give \(N, C\)"),
        (lambda: channel_contributions(np.ones((0, 3))), r"give \(N, C\)"),
        (lambda: channel_contributions(np.ones((4, 3)), flagged=[1]), "flags and labels of as many steps"),
        (lambda: channel_contributions(np.ones((4, 3)), y=[[1]]), "flags and labels of as many steps"),
        (lambda: channel_contributions(np.ones((4, 3)), names=["a"]), "1 names of 3 channels"),
        (lambda: training_curves([], []), "one number an epoch"),
        (lambda: training_curves([[1.0]], [1.0]), "one number an epoch"),
    ],
)
def test_what_cannot_be_drawn_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()
