"""What holds for every figure, with usual data, with data that strain its layout, and with many rows."""

import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from gallery import large, strained, usual
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from deepad.report import figures
from deepad.report.figures.base import INK, LINE, SCALE, as_svg, fitted, runs, short, shortened

LABEL = 'what "it" shows & why'
USUAL, STRAINED = usual(), strained()
EVERY = USUAL | STRAINED
LARGE = large()
every_figure = pytest.mark.parametrize("name", EVERY)


@cache
def drawn(name: str) -> tuple[Figure, str]:
    figure = EVERY[name]()
    return figure, as_svg(figure, label=LABEL)


def texts(figure: Figure) -> list[Text]:
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]*)"', svg)


def contrast(one: str, other: str) -> float:
    """W3C's contrast of two colours."""
    linear = [np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
              for colour in (one, other)]  # fmt: skip
    low, high = sorted(float(rgb @ (0.2126, 0.7152, 0.0722)) for rgb in linear)
    return (high + 0.05) / (low + 0.05)


def test_the_gallery_shows_every_figure() -> None:
    assert {name for name in figures.__all__ if name.islower() and name not in ("as_svg", "canvas")} <= set(USUAL)


@every_figure
def test_texts_are_readable_and_neither_cut_nor_over_each_other(name: str) -> None:
    figure, _ = drawn(name)
    figure.draw_without_rendering()
    ticks: set[Text] = set()
    shown: list[Text] = []
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        labels = {tick.get_loc(): tick.label1 for tick in axis.get_major_ticks()}
        low, high = sorted(axis.get_view_interval())
        kept = [labels[at] for at in sorted(labels) if low <= at <= high]
        kept = [label for label in kept if label.get_visible() and label.get_text()]
        boxes = [label.get_window_extent().padded(-1) for label in kept]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes)), [label.get_text() for label in kept]
        ticks |= {label for tick in axis.get_major_ticks() for label in (tick.label1, tick.label2)}
        shown += kept
    for text in texts(figure):
        assert float(text.get_fontsize()) >= 9
        assert to_rgb(text.get_color()) == to_rgb(LINE)
    page = figure.bbox.padded(1)
    for text in [*shown, *(text for text in texts(figure) if text not in ticks)]:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text


@every_figure
def test_an_svg_is_one_file_of_valid_xml_in_the_colour_of_the_page(name: str) -> None:
    _, svg = drawn(name)
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == LABEL
    assert LINE not in svg
    assert "currentColor" in svg
    assert "DejaVu" not in svg
    addresses = set(re.findall(r"https?://[^\"')\s]+", svg))
    assert addresses == {"http://www.w3.org/2000/svg"}
    targets = re.findall(r'href="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
    for target in targets:
        assert target.startswith("data:image/png;base64,") or target[1:] in ids(svg)
    assert len(ids(svg)) == len(set(ids(svg)))


@pytest.mark.parametrize(
    "name", ["roc_curve", "alarm_dial", "reconstructions", "latent_space", "series_scores", "one place"]
)
def test_an_svg_is_the_same_to_the_byte_when_drawn_again(name: str) -> None:
    figure, svg = EVERY[name](), drawn(name)[1]
    assert as_svg(figure, label=LABEL) == svg
    assert as_svg(figure, label=LABEL) == svg


def test_no_id_occurs_in_two_figures() -> None:
    found = [one for name in EVERY for one in ids(drawn(name)[1])]
    assert len(found) == len(set(found))


def test_an_svg_is_for_both_pages_or_for_one() -> None:
    figure = USUAL["training_curves"]()
    both, light, dark = (as_svg(figure, dark=dark) for dark in (None, False, True))
    assert f"color:var(--ink,{INK['light']})" in both
    assert f"@media(prefers-color-scheme:dark){{#{ids(both)[0]}{{color:var(--ink,{INK['dark']})}}}}" in both
    for svg, ink in ((light, INK["light"]), (dark, INK["dark"])):
        assert f";color:{ink}" in svg
        assert "<style>" not in svg


def test_the_words_of_a_figure_stay_as_they_are() -> None:
    names = [f"{LINE} 1.23456789", "font: 9px x", 'an id="a" <b>']
    svg = as_svg(figures.leaderboard_bars(names, [1.0, 2.0, 3.0]))
    words = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert set(names) <= set(words)


@pytest.mark.parametrize("name", LARGE)
def test_100_000_rows_make_a_small_svg(name: str) -> None:
    assert len(as_svg(LARGE[name]())) < 400_000


def test_pyplot_is_never_imported() -> None:
    program = (
        "import sys, gallery\n"
        "for draw in gallery.usual().values(): draw()\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=Path(__file__).parent, check=True)


@pytest.mark.parametrize("paper", ["#ffffff", "#16181a"])
def test_colours_of_data_are_seen_on_light_and_dark_pages(paper: str) -> None:
    scale = [tuple(SCALE(share)[:3]) for share in np.linspace(0, 1, 11)]
    for colour in (figures.NORMAL, figures.ANOMALY, figures.OTHER, *scale):
        assert contrast(colour, paper) >= 3  # type: ignore[arg-type]


def test_names_fit_and_numbers_are_short() -> None:
    assert fitted("a name of several words", 10) == "a name of\nseveral\nwords"
    assert fitted("p\nq $x$") == "p\nq \\$x\\$"
    assert shortened("sensor 1 of the left valve, 17", 12) == "senso…ve, 17"
    assert shortened("short") == "short"
    assert [short(value) for value in (0.001, 123456.0, 5e-7, 2.5e6, -3.0, np.inf)] == [
        "0.001", "123500", "5e-7", "2.5e6", "-3", "inf"
    ]  # fmt: skip


def test_runs_are_the_longest_stretches_of_true() -> None:
    assert runs([1, 1, 0, 0, 1]).tolist() == [[0, 2], [4, 5]]
    assert runs([]).shape == (0, 2)
