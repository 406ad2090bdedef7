"""One sample beside what was expected of it."""

import numpy as np
import pytest
from gallery import images

from deepad.errors import InputError
from deepad.report.figures import alarm_dial, image_explained, window_explained, worst_normals


def captions(figure):
    return [axes.get_xlabel() for axes in figure.axes if axes.get_visible()]


def test_an_image_stands_beside_its_reconstruction_its_map_and_its_neighbours():
    x, rebuilt, parts = images(4)
    figure = image_explained(x[0], rebuilt[0], parts[0], list(x[1:]))
    assert captions(figure) == ["original", "rebuilt", "contribution", "near 1", "near 2", "near 3"]
    shown = [axes.get_images()[0].get_array() for axes in figure.axes[:6]]
    seen = np.stack([x[0], rebuilt[0], *x[1:]])
    grey = (x[0, 0] - seen.min()) / (seen.max() - seen.min())
    assert np.corrcoef(shown[0][..., 0].ravel(), grey.ravel())[0, 1] < -0.99, "dark for high values"
    assert shown[2][..., :3].sum(-1).argmax() == parts[0].sum(0).argmax()
    assert captions(image_explained(x[0])) == ["original"]


def test_a_window_stands_beside_what_was_expected_and_steps_that_count_are_shaded():
    x = np.random.default_rng(0).normal(size=(6, 2))
    parts = np.zeros((6, 2))
    parts[5, 1], parts[2, 0] = 4.0, 1.0
    figure = window_explained(x, x + 1, ["speed", "heat"], parts)
    for place, (axes, name) in enumerate(zip(figure.axes, ("speed", "heat"), strict=True)):
        assert axes.get_title(loc="left") == name
        was, expected = axes.get_lines()
        assert was.get_ydata().tolist() == x[:, place].tolist()
        assert expected.get_ydata().tolist() == (x[:, place] + 1).tolist()
        assert was.get_xdata().tolist() == [-5, -4, -3, -2, -1, 0]
    slow, hot = (axes.get_images()[0] for axes in figure.axes)
    assert slow.get_array()[0].tolist() == [0, 0, 0.25, 0, 0, 0]
    assert hot.get_array()[0].tolist() == [0, 0, 0, 0, 0, 1]
    assert slow.get_extent()[:2] == [-5.5, 0.5]
    assert len(window_explained(x, None, ["a", "b"]).axes[0].get_lines()) == 1


def test_names_of_channels_are_no_formulas():
    figure = window_explained(np.zeros((4, 1)), None, ["price $x_{$"])
    figure.draw_without_rendering()
    assert figure.axes[0].get_title(loc="left") == r"price \$x_{\$"


def test_what_does_not_belong_together_is_refused():
    x, rebuilt, _ = images(2)
    for given in ((x[0, 0],), (x[0], rebuilt), (x[0], None, None, [x[0, :, 1:]])):
        with pytest.raises(InputError, match=r"give \(C, H, W\)"):
            image_explained(*given)
    window = np.zeros((4, 2))
    for given in ((window, None, ["a"]), (window, window[1:], ["a", "b"]), (window[:, :0], None, [])):
        with pytest.raises(InputError, match=r"give \(T, C\) and C names"):
            window_explained(*given)


def test_worst_normals_have_the_names_they_are_given():
    x, rebuilt, parts = images(3)
    told = [
        axes.get_xlabel() for axes in worst_normals(x, rebuilt, parts, [1.0, 3.0, 2.0], names=np.array([7, 8, 9])).axes
    ]
    assert told == ["8: 3", "9: 2", "7: 1"]
    with pytest.raises(InputError, match="2 names of 3 images"):
        worst_normals(x, rebuilt, parts, [1.0, 3.0, 2.0], names=["a", "b"])


def test_the_dial_counts_in_the_unit_it_is_given():
    assert alarm_dial(0.01, per_day=1000, unit="in 1000").axes[0].get_ylabel() == "false alarms\nin 1000"
