"""What all figures share: colours, sizes of text, axes, and the SVG of a figure for light and dark pages.

Data colours have a contrast of at least 3 on white and on the dark page alike, and differ for colour-blind readers.
What is neutral (text, axes, thresholds) is drawn in `LINE`, which becomes the colour of the page's text in an SVG;
fainter lines are the same colour, more transparent. So neutral things are never rasterised, and data may be.

Source: W3C, *Web Content Accessibility Guidelines 2.2*, 2023, criteria 1.4.3 and 1.4.11; Okabe & Ito, *Color universal
design*, 2008 (blue beside vermilion).
"""

import html
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import StringIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InputError

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

NORMAL, ANOMALY, OTHER = "#3b6ea8", "#c8553d", "#808080"
LINE = "#222222"
"""What is neutral: text, axes, thresholds."""
SCALE = LinearSegmentedColormap.from_list("normal to anomaly", [NORMAL, "#8f6a9c", ANOMALY])
"""Low to high scores; every colour of it can be seen on light and dark pages."""
HEAT = LinearSegmentedColormap.from_list("nothing to anomaly", [f"{ANOMALY}00", ANOMALY])
"""None to much, from the colour of the page to that of anomalies."""
INK = {"light": "#1c1c1c", "dark": "#ececec"}
"""Text of light and dark pages, those of `style.css`."""

WIDTH = 4.8
"""Inches: a column of a page on a desktop, the whole of it on a phone, where 9 pt are still 8.5 pixels."""
TEXT, SMALL = 10, 9
DPI = 150
"""Of what is rasterised."""
REFERENCE = r'href="#|url\(#'
"""What stands before an id that an SVG refers to."""


def canvas(width: float = WIDTH, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one pair of axes in the shared style."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, dressed(figure.subplots())


def dressed(axes: Axes) -> Axes:
    """The same axes in the shared style: open to the top and the right, readable, neutral."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(LINE)
    axes.tick_params(which="both", colors=LINE, labelsize=SMALL)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(fontsize=TEXT, color=LINE)
    axes.patch.set_visible(False)
    return axes


def legend(axes: Axes, ncols: int = 2) -> None:
    """A legend at the top of the figure, where it hides no data; none if nothing on these axes is labelled."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(handles, labels, ncols=ncols, loc="outside upper left", borderaxespad=0.2, frameon=False,
                           fontsize=SMALL, labelcolor=LINE, handlelength=1.4, columnspacing=1.2)  # fmt: skip


def titled(axes: Axes, text: str) -> None:
    """A title at the left, above the axes."""
    axes.set_title(text, loc="left", fontsize=TEXT, color=LINE)


def colour_bar(axes: Axes, drawn: ScalarMappable, label: str) -> None:
    """What the colours of these axes stand for, to their right."""
    bar = axes.figure.colorbar(drawn, ax=axes, aspect=25, pad=0.02)
    bar.ax.tick_params(colors=LINE, labelsize=SMALL)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=TEXT, color=LINE)


def fitted(name: str, width: int = 28) -> str:
    """A name in lines of so many characters; a dollar sign begins no formula."""
    return "\n".join(line for part in name.splitlines() for line in textwrap.wrap(part, width)).replace("$", r"\$")


def shortened(name: str, width: int = 24) -> str:
    """A name in one line of so many characters, what is too much left out of its middle."""
    half = width // 2
    return fitted(name if len(name) <= width else f"{name[: half - 1]}…{name[-half:]}", width)


def short(value: float) -> str:
    """A number of four digits: 0.001, 5e-7, 2.5e6."""
    digits, _, power = f"{float(f'{value:.4g}'):g}".partition("e")
    return f"{digits}e{int(power)}" if power else digits


def logarithmic(axes: Axes, side: str, values: ArrayLike) -> bool:
    """Whether the `"x"` or `"y"` axis became logarithmic: if all values are positive and span a decade or more."""
    given = np.asarray(values, np.float64).ravel()
    given = given[np.isfinite(given)]
    if not len(given) or given.min() <= 0 or given.max() < 10 * given.min():
        return False
    axes.set(**{f"{side}scale": "log"})
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if given.max() < 150 * given.min() else (1,), numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())
    return True


def mark_threshold(axes: Axes, threshold: float, side: str) -> None:
    """A dashed line across the `"x"` or `"y"` axis with its value in the legend; not drawn if it is not finite."""
    style: dict[str, Any] = {
        "color": LINE,
        "linestyle": "--",
        "linewidth": 1.4,
        "label": f"threshold {short(threshold)}",
    }
    if np.isfinite(threshold):
        (axes.axvline if side == "x" else axes.axhline)(threshold, **style)
    else:
        axes.plot([], [], **style)


def samples(values: ArrayLike, y: ArrayLike | None = None, *, infinite: bool = False) -> tuple[Values, Flags, str]:
    """What can be drawn of N scores or p-values, which of it are anomalies, and a note on what was left out.

    Args:
        values: (N,) real numbers; NaN is left out.
        y: (N,) labels, 1 = anomaly, 0 = normal; if None, nothing counts as an anomaly.
        infinite: keep infinite values, for figures of ranks.

    Raises:
        InputError: not numbers (N,), other labels, or another number of them.
    """
    given, labels = np.asarray(values), None if y is None else np.asarray(y)
    if given.ndim != 1 or given.dtype.kind not in "fiub":
        raise InputError(f"got {given.dtype} of shape {given.shape}: give one number a sample, (N,)")
    anomaly = np.zeros(len(given), bool)
    if labels is not None:
        if labels.shape != given.shape:
            raise InputError(f"got labels of shape {labels.shape} for {len(given)} samples: give one a sample, (N,)")
        if labels.dtype.kind not in "fiub" or not np.isin(labels, (0, 1)).all():
            raise InputError("labels must be 0 (normal) or 1 (anomaly)")
        anomaly = labels == 1
    given = given.astype(np.float64)
    kept = ~np.isnan(given) if infinite else np.isfinite(given)
    left = int((~kept).sum())
    kind = "NaN" if infinite else "not finite"
    return given[kept], anomaly[kept], f" ({left} {kind}, left out)" if left else ""


def classes(values: Values, anomaly: Flags, labelled: bool) -> Iterator[tuple[str, str, Values]]:
    """Name, colour and values of each class that is there."""
    for mask, name, colour in ((~anomaly, "normal" if labelled else "samples", NORMAL), (anomaly, "anomaly", ANOMALY)):
        if mask.any():
            yield name, colour, values[mask]


def require_both(anomaly: Flags, what: str) -> None:
    """Refuse samples of one class.

    Raises:
        InputError: no normal sample, or no anomaly.
    """
    if not anomaly.any() or anomaly.all():
        raise InputError(
            f"got {(~anomaly).sum()} normal samples and {anomaly.sum()} anomalies with a score: {what} needs both"
        )


def runs(flags: ArrayLike) -> NDArray[np.int64]:
    """First step and the step after the last (M, 2) of each run of True among N steps."""
    padded = np.concatenate([[False], np.asarray(flags, bool), [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)


def as_svg(figure: Figure, *, dark: bool | None = None, label: str = "") -> str:
    """One SVG text of a figure, to inline in a page or to save as a file: the same bytes for the same drawing.

    Its background is transparent. What is neutral has the colour `--ink` of the page where there is one, otherwise
    that of the reader's colour scheme. No id occurs in another figure, and nothing outside is referred to.

    Args:
        figure: drawn with `LINE` for what is neutral.
        dark: draw for dark pages alone, or for light ones alone; None: for both.
        label: what the figure shows, read to those who do not see it.
    """
    buffer = StringIO()
    settings: Any = {"svg.hashsalt": "deepad", "svg.fonttype": "none", "svg.image_inline": True,
                     "savefig.bbox": "standard"}  # fmt: skip
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's font draws the text
        with _settled(figure):
            figure.savefig(buffer, format="svg", dpi=DPI, transparent=True, metadata=nothing)
    head, _, body = buffer.getvalue().partition("<svg ")[2].partition(">")
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^<>]*>", lambda tag: _neutral(tag[0]), body)
    body = _numbered(body)
    name = f"f{sha256(body.encode()).hexdigest()[:10]}"
    return _root(head, name, dark, label) + re.sub(rf"({REFERENCE}| id=\")-", rf"\g<1>{name}-", body)


@contextmanager
def _settled(figure: Figure) -> Iterator[None]:
    """Lay out for good, and take it back afterwards, so that drawing again gives the same bytes.

    Once is enough, except where axes of a fixed aspect stand beside others.
    """
    engine = figure.get_layout_engine()
    begin = [axes.get_position(original=True) for axes in figure.axes]
    try:
        now: list[float] = []
        for _ in range(1 if all(axes.get_aspect() == "auto" for axes in figure.axes) else 10):
            figure.draw_without_rendering()
            before, now = now, np.ravel([axes.get_position().bounds for axes in figure.axes]).tolist()
            if before and np.allclose(before, now, rtol=0, atol=1e-3):
                break
        figure.set_layout_engine("none")
        yield
    finally:
        figure.set_layout_engine(engine)
        for axes, place in zip(figure.axes, begin, strict=True):
            axes.set_position(place)
            axes.set_in_layout(True)  # which a position that is set takes it out of


def _neutral(tag: str) -> str:
    """A tag with the page's colour and font, and numbers of three decimals: what lies between texts."""
    tag = tag.replace("xlink:href", "href").replace(LINE, "currentColor")
    tag = re.sub(r"(font: [^;\"]*?px |font-family: )[^;\"]*", r"\1system-ui, sans-serif", tag)
    return re.sub(r"\d+\.\d{4,}", lambda number: f"{float(number[0]):.3f}".rstrip("0").rstrip("."), tag)


def _numbered(body: str) -> str:
    """The text with the ids -0, -1 and so on in order, and without those that nothing refers to."""
    numbers: dict[str, str] = {}
    for old in re.findall(rf'(?:{REFERENCE})([^")]+)', body):
        numbers.setdefault(old, f"-{len(numbers)}")
    body = re.sub(
        r'(<[^<>]*?) id="([^"]*)"', lambda m: f'{m[1]} id="{numbers[m[2]]}"' if m[2] in numbers else m[1], body
    )
    return re.sub(rf'({REFERENCE})([^")]+)', lambda m: m[1] + numbers[m[2]], body)


def _root(head: str, name: str, dark: bool | None, label: str) -> str:
    """The opening tag, which says how large the figure is, and the colour of what is neutral."""
    attributes: dict[str, Any] = dict(re.findall(r'(width|height|viewBox)="([^"]*)"', head))
    drawn = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    told = f'role="img" aria-label="{html.escape(label)}" ' if label else ""
    colour = "" if dark is None else f";color:{INK['dark' if dark else 'light']}"
    style = (
        ""
        if dark is not None
        else f"<style>#{name}{{color:var(--ink,{INK['light']})}}"
        f"@media(prefers-color-scheme:dark){{#{name}{{color:var(--ink,{INK['dark']})}}}}</style>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" {drawn} {told}stroke-linejoin="round" '
        f'style="max-width:100%;height:auto{colour}">{style}'
    )
