"""Figures of many models: ranks, who can be told apart, and a metric by model."""

from typing import Any

import numpy as np
import pytest
from gallery import line, marked, ticks, told
from matplotlib.figure import Figure

from deepad.errors import InputError
from deepad.report.figures import critical_difference, leaderboard_bars


def cliques(figure: Figure) -> list[tuple[float, float, float]]:
    """Place, first and last row of each bar beside the models."""
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 4]
    return [(float(x[0]), float(y[0]), float(y[1])) for x, y in (np.array(bar.get_data()) for bar in bars)]


def numbers(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_models_stand_by_rank_with_bars_beside_those_that_cannot_be_told_apart() -> None:
    figure = critical_difference(["a", "b", "c", "d"], [3.0, 1.0, 2.5, 3.5], 1.0, [[0, 2, 3], [1], [1, 2]])
    assert ticks(figure, "y") == ["b", "c", "a", "d"]
    dots = figure.axes[0].lines[0]
    assert sorted(zip(*map(np.ndarray.tolist, np.array(dots.get_data())), strict=True)) == [
        (1.0, 0), (2.5, 1), (3.0, 2), (3.5, 3)
    ]  # fmt: skip
    (one, *first), (other, *second) = cliques(figure)
    assert first == pytest.approx([-0.2, 1.2])
    assert second == pytest.approx([0.8, 3.2])
    assert other > one > 1  # they share model c, so they stand beside each other
    assert sorted(numbers(figure)) == ["1.00", "2.50", "3.00", "3.50"]
    assert line(figure, "critical difference 1.00")[0].tolist() == [1, 2]
    assert told(figure) == ["critical difference 1.00", "cannot be told apart"]


def test_bars_without_a_common_model_stand_below_each_other() -> None:
    figure = critical_difference(list("abcd"), [1.0, 2.0, 3.0, 4.0], 1.0, [[0, 1], [2, 3]])
    assert len({x for x, *_ in cliques(figure)}) == 1


@pytest.mark.parametrize(("higher", "order"), [(True, ["b", "a", "d", "c"]), (False, ["d", "a", "b", "c"])])
def test_the_best_is_at_the_top_and_what_failed_last(higher: bool, order: list[str]) -> None:
    figure = leaderboard_bars(list("abcd"), [0.5, 0.9, np.nan, 0.1], higher_is_better=higher, metric="AP")
    assert ticks(figure, "y") == order
    assert numbers(figure)[-1] == "failed"
    bars: Any = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [{"a": 0.5, "b": 0.9, "c": 0, "d": 0.1}[name] for name in order]
    assert marked(figure, "x") == "AP"
    low, high = figure.axes[0].get_ylim()
    assert low > high


def test_intervals_and_floors_are_drawn() -> None:
    figure = leaderboard_bars(
        list("abc"), [0.5, 0.9, 0.7], [0.4, np.nan, 0.6], [0.6, np.nan, 0.75], floors=["c", "unknown"]
    )
    intervals: Any = figure.axes[0].collections[0]
    drawn = [one.tolist() for one in intervals.get_segments() if len(one)]
    assert drawn == [[[0.6, 1], [0.75, 1]], [[0.4, 2], [0.6, 2]]]
    assert told(figure) == ["model", "floor"]
    places = {text.get_text(): text.xy[0] for text in figure.axes[0].texts}  # type: ignore[attr-defined]
    assert places == {"0.900": 0.9, "0.700": 0.75, "0.500": 0.6}


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: critical_difference([], [], 1.0, []), "of 0 models"),
        (lambda: critical_difference(["a"], [1.0, 2.0], 1.0, []), "of 1 models"),
        (lambda: critical_difference(["a"], [np.nan], 1.0, []), "finite mean rank"),
        (lambda: leaderboard_bars([], []), "for 0 models"),
        (lambda: leaderboard_bars(["a"], [1.0, 2.0]), "for 1 models"),
        (lambda: leaderboard_bars(["a"], [np.inf]), "one finite mean a model"),
        (lambda: leaderboard_bars(["a"], [1.0], [0.5]), "both or neither"),
        (lambda: leaderboard_bars(["a"], [1.0], [0.5, 0.6], [1.0]), "for 1 models"),
    ],
)
def test_what_cannot_be_drawn_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()
