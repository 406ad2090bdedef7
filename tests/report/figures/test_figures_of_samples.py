"""Figures of images, of features and of points in the plane."""

import sys
from typing import Any

import numpy as np
import pytest
from gallery import distance, images, plane, told
from matplotlib.figure import Figure

from deepad.baselines.pca import PCAResidual
from deepad.errors import IncompatibleInstallError, InputError
from deepad.report.figures import (
    ANOMALY,
    NORMAL,
    decision_boundaries,
    decision_boundary,
    latent_space,
    reconstructions,
    worst_normals,
)


def tiles(figure: Figure, place: int = 0) -> tuple[Any, Any, Any]:
    """Colours of the original, of what was rebuilt and of the error map."""
    drawn = np.asarray(figure.axes[place].images[0].get_array())
    width = (drawn.shape[1] - 2 * max(1, drawn.shape[0] // 14)) // 3
    gap = (drawn.shape[1] - 3 * width) // 2
    return tuple(drawn[:, start : start + width] for start in (0, width + gap, 2 * (width + gap)))  # type: ignore[return-value]


def captions(figure: Figure) -> list[str]:
    return [axes.get_xlabel() for axes in figure.axes]


# ---- images --------------------------------------------------------------------------------------------------------


def test_a_picture_shows_the_original_the_rebuilt_and_the_error_on_shared_scales() -> None:
    x, parts = np.zeros((2, 1, 8, 8)), np.zeros((2, 1, 8, 8))
    x[0, 0, 0, 0], parts[0, 0, 1, 2], parts[1, 0, 3, 3] = 1, 4, 2
    figure = reconstructions(x, x / 2, parts, ["a", "b"])
    original, rebuilt, errors = tiles(figure)
    assert original[0, 0, 0] == pytest.approx(0)  # the highest value is black on white
    assert original[1:, :, 0] == pytest.approx(1)
    assert 0.4 < rebuilt[0, 0, 0] < 0.6
    assert np.unravel_index(errors[..., :3].sum(-1).argmax(), (8, 8)) == (1, 2)
    assert errors[1, 2, :3].sum() > tiles(figure, 1)[2][3, 3, :3].sum() > 0.1
    assert captions(figure) == ["a", "b"]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_not_finite_is_clear(channels: int) -> None:
    x = np.ones((1, channels, 8, 8))
    x[0, 0, 2, 5], x[0, 0, 0, 0] = np.nan, np.inf
    parts = np.where(np.isfinite(x), 1.0, np.nan)
    for tile in (tiles(reconstructions(x, x, parts, ["a"]))[place] for place in (0, 1, 2)):
        assert np.argwhere(tile[..., 3] == 0).tolist() == [[0, 0], [2, 5]]


def test_three_channels_are_colours() -> None:
    x = np.zeros((1, 3, 4, 4))
    x[0, 1] = 1
    assert tiles(reconstructions(x, x, x, ["a"]))[0][..., :3].reshape(-1, 3).tolist() == [[0, 1, 0]] * 16


def test_groups_stand_together_below_their_names() -> None:
    x, rebuilt, parts = images(6)
    figure = reconstructions(x, rebuilt, parts, list("abcdef"), np.array(["n", "m", "n", "n", "n", "m"]))  # type: ignore[arg-type]
    assert captions(figure) == list("acdebf")
    heads = {text.get_text(): text.get_position()[1] for text in figure.texts}
    tops = [axes.get_position().y1 for axes in figure.axes]
    assert list(heads) == ["original, rebuilt, contribution to the score", "n", "m"]
    assert heads["n"] > tops[0] == tops[1] == tops[2] > tops[3] > heads["m"] > tops[4] == tops[5]


def test_the_worst_normals_come_first() -> None:
    x, rebuilt, parts = images(5)
    score = [3.0, np.inf, 9.0, np.nan, 4.0]
    figure = worst_normals(x, rebuilt, parts, score, [0, 0, 1, 0, 0], most=2)
    assert captions(figure) == ["1: inf", "4: 4"]
    assert captions(worst_normals(x, rebuilt, parts, score))[:2] == ["1: inf", "2: 9"]


def test_contributions_of_a_model_are_drawn_as_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(50, 1, 4, 4)).astype(np.float32)
    model = PCAResidual(n_components=4).fit(x)
    parts, rebuilt = np.asarray(model.contributions(x)), np.asarray(model.reconstruct(x))
    figure = worst_normals(x, rebuilt, parts, model.score(x), most=1)
    top = int(np.argmax(model.score(x)))
    assert captions(figure)[0].startswith(f"{top}: ")
    brightness = tiles(figure)[2][..., :3].sum(-1)
    assert brightness.argmax() == parts[top].argmax()


# ---- features ------------------------------------------------------------------------------------------------------


def dots(figure: Figure, place: int = 0) -> Any:
    drawn: Any = figure.axes[0].collections[place]
    return np.asarray(drawn.get_offsets())


def test_principal_components_keep_the_distances_and_tell_the_variance() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(60, 2)) * (3, 1)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    score = np.arange(60.0)
    figure = latent_space(flat @ turn + 7, score)
    drawn = dots(figure)
    for one, other in ((0, 1), (5, 40), (59, 3)):
        assert np.hypot(*(drawn[one] - drawn[other])) == pytest.approx(np.hypot(*(flat[one] - flat[other])))
    shares = np.linalg.eigvalsh(np.cov(flat.T))[::-1]
    axes = figure.axes[0]
    for label, share in zip((axes.get_xlabel(), axes.get_ylabel()), shares / shares.sum(), strict=True):
        assert f"({100 * share:.0f} % of variance)" in label
    assert axes.get_aspect() == 1
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    assert ((drawn >= low) & (drawn <= high)).all()


def test_the_highest_scores_are_on_top_and_anomalies_outlined() -> None:
    points, y = plane(100)
    score = np.random.default_rng(1).permutation(100).astype(float)
    score[:3] = np.nan, np.inf, -np.inf
    figure = latent_space(points, score, y)
    drawn: Any = figure.axes[0].collections[0]
    colours = drawn.get_array()
    assert len(colours) == 99
    assert (np.diff(colours) >= 0).all()
    assert np.isfinite(colours).all()
    assert len(dots(figure, 1)) == (y[1:] == 1).sum()
    assert told(figure) == ["anomaly (9 of 99 shown)"]
    assert "(1 not finite, left out)" in figure.axes[0].get_xlabel()


def test_of_many_points_anomalies_are_at_most_half() -> None:
    points, _ = plane(1000)
    for anomalies, shown in ((10, 10), (400, 50), (980, 80)):
        figure = latent_space(points, np.ones(1000), np.arange(1000) < anomalies, most=100)
        assert len(dots(figure)) == 100
        assert told(figure) == [f"anomaly ({shown} of 100 shown)"]


@pytest.mark.parametrize("x", [np.ones((4, 3)), np.arange(30.0)[:, None]])
def test_neighbours_are_embedded_even_where_there_is_little_to_embed(x: Any) -> None:
    figure = latent_space(x, np.ones(len(x)), method="tsne")
    assert np.isfinite(dots(figure)).all()
    assert figure.axes[0].get_xlabel() == "t-SNE 1"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(IncompatibleInstallError, match="pip install umap-learn"):
        latent_space(np.ones((4, 3)), np.ones(4), method="umap")


@pytest.mark.parametrize("wrong", [{"method": "pac"}, {"most": 2}])
def test_wrong_arguments_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        latent_space(np.ones((4, 3)), np.ones(4), **wrong)


# ---- the plane -----------------------------------------------------------------------------------------------------


def test_the_line_is_the_threshold() -> None:
    points, y = plane()
    figure = decision_boundary(distance, points, 2.0, y)
    areas, line, *_ = figure.axes[0].collections
    vertices: Any = np.concatenate([path.vertices for path in line.get_paths()])
    np.testing.assert_allclose(np.hypot(*vertices.T), 2, atol=0.02)
    style: Any = line.get_linestyle()
    assert style[0][1] is None  # not dashed
    assert 2.0 in areas.levels  # type: ignore[attr-defined]
    assert told(figure) == ["normal (270 shown)", "anomaly (30 shown)"]
    low, high = np.array([figure.axes[0].get_xlim(), figure.axes[0].get_ylim()]).T
    assert ((points > low) & (points < high)).all()


@pytest.mark.parametrize("shift", [0.0, -5.0])
@pytest.mark.parametrize("threshold", [1.0, np.inf, -np.inf])
def test_colours_change_at_the_threshold(shift: float, threshold: float) -> None:
    figure = decision_boundary(lambda x: distance(x) + shift, plane()[0], threshold + shift)
    areas: Any = figure.axes[0].collections[0]
    colours = areas.get_facecolor()
    below = int(np.sum(np.asarray(areas.levels) <= threshold + shift))
    blue = [colour[2] > colour[0] for colour in colours]
    assert blue == [place < below or threshold == np.inf for place in range(len(colours))]
    assert len(figure.axes[0].collections) == (3 if np.isfinite(threshold) else 2)


@pytest.mark.parametrize(("threshold", "colour"), [(1.0, NORMAL), (0.5, ANOMALY), (2.0, NORMAL), (np.inf, NORMAL)])
def test_a_plane_of_one_score_has_one_colour(threshold: float, colour: str) -> None:
    figure = decision_boundary(lambda x: np.ones(len(x)), plane()[0], threshold)
    areas: Any = figure.axes[0].collections[0]
    filled = [shade for shade, path in zip(areas.get_facecolor(), areas.get_paths(), strict=True) if len(path.vertices)]
    red, _, blue, _ = filled[0]
    assert len(filled) == 1
    assert (blue > red) == (colour == NORMAL)


def test_scores_that_are_not_finite_leave_the_rest_as_it_is() -> None:
    figure = decision_boundary(lambda x: np.where(x[:, 0] > 0, np.inf, np.nan), plane()[0], 1.0)
    assert figure.axes[0].collections[0].get_paths()


def test_every_model_has_its_panel_with_the_same_points() -> None:
    points, y = plane(2000)
    points[0] = np.nan
    figure = decision_boundaries({name: (distance, 1.0) for name in "abc"}, points, y, most=100)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list("abc")
    offsets: Any = [axes.collections[-2].get_offsets() for axes in shown]
    assert offsets[0].tolist() == offsets[1].tolist() == offsets[2].tolist()
    assert len(figure.legends) == 1


# ---- refusals ------------------------------------------------------------------------------------------------------

X, REBUILT, PARTS = images(2)
POINTS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: reconstructions(X[:0], X[:0], X[:0], []), "of at least one image"),
        (lambda: reconstructions(np.float64(1), X, X, []), "arrays of shapes"),  # type: ignore[arg-type]
        (lambda: reconstructions(X, REBUILT[:1], PARTS, ["a", "b"]), "arrays of shapes"),
        (lambda: reconstructions(X, REBUILT, PARTS, ["a"]), "1 captions and 0 groups for 2 images"),
        (lambda: reconstructions(X, REBUILT, PARTS, ["a", "b"], ["c"]), "2 captions and 1 groups"),
        (lambda: worst_normals(X, REBUILT, PARTS, [1.0]), "got 1 scores"),
        (lambda: worst_normals(X, REBUILT, PARTS, [1.0, np.nan], [1, 0]), "none of 2 images is normal"),
        (lambda: worst_normals(X, REBUILT, PARTS, [1.0, 2.0], [1, 3]), "labels must be 0"),
        (lambda: latent_space(np.ones(4), np.ones(4)), "features of shape"),
        (lambda: latent_space(np.ones((4, 0)), np.ones(4)), "features of shape"),
        (lambda: latent_space(np.ones((4, 2)), np.ones(3)), "for 3 scores"),
        (lambda: latent_space(np.ones((4, 2)), np.full(4, np.nan)), "0 of 4 rows"),
        (lambda: latent_space(np.ones((4, 2)), np.ones(4), [0, 1]), "labels of shape"),
        (lambda: decision_boundary(distance, np.ones((4, 3)), 1.0), "of more features choose two"),
        (lambda: decision_boundary(distance, [[np.nan, 1.0]], 1.0), "none of 1 points is finite"),
        (lambda: decision_boundary(distance, POINTS, 1.0, [0]), "one for each of 2 points"),
        (lambda: decision_boundary(distance, POINTS, 1.0, [0, 5]), "labels must be 0"),
        (lambda: decision_boundary(lambda x: [1.0], POINTS, 1.0), "score must give one a point"),
        (lambda: decision_boundaries({}, POINTS), "no model to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()
