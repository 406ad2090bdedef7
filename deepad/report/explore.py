"""Pages to look around in: zoom a series, go from episode to episode and see their channels; filter images by outcome.

Plain files with Bokeh's script in them: no server, no network. `pip install 'deepad[explore]'` brings Bokeh.
"""

import html as escaping
from base64 import b64encode
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepad.errors import IncompatibleInstallError, InputError
from deepad.report import html
from deepad.report.figures.base import ANOMALY, NORMAL, OTHER, runs
from deepad.report.figures.images import coloured, picture
from deepad.report.figures.series import in_lane
from deepad.report.sections import OUTCOMES, Judged, outcomes

Array = NDArray[Any]

TILE = 84
"""Pixels of the width of a picture."""
MOST_LANES = 12
"""Channels that are drawn: those that add most to the flagged steps."""

_SHOW = """
const e = cb_obj === episodes.selected ? (episodes.selected.indices[0] ?? -1) : (state.tags[0] + step);
const n = episodes.data.left.length;
if (!n || e < 0 && step === 0) return;
const at = ((e % n) + n) % n;
state.tags = [at];
if (episodes.selected.indices[0] !== at) episodes.selected.indices = [at];
const from = episodes.data.left[at], to = episodes.data.right[at], wide = Math.max(20, to - from);
range.start = from - wide; range.end = to + wide;
const first = steps.data.step[0], sums = bars.data.name.map((_, c) => {
  let sum = 0;
  for (let i = from - first; i < to - first; i++) sum += Math.max(parts.data["c" + c]?.[i] || 0, 0);
  return sum;
});
let whole = 0;
for (let i = from - first; i < to - first; i++) whole += parts.data.whole[i];
whole ||= 1;
bars.data = {...bars.data, share: sums.map(sum => 100 * sum / whole)};
const top = bars.data.name.map((name, c) => [100 * sums[c] / whole, name]).sort((a, b) => b[0] - a[0]).slice(0, 3);
const most = top.map(([share, name]) => `${name} (${share.toFixed(0)} %)`).join(", ");
const peak = episodes.data.peak[at].toPrecision(4);
told.text = `Episode ${at + 1} of ${n}: steps ${from} to ${to - 1}, highest score ${peak}.`
  + (sums.some(sum => sum > 0) ? ` Most comes from ${most}.` : "");
"""

_FILTER = """
const shown = tiles.filter(tile => boxes.active.includes(tile[0]));
grid.text = shown.map(tile => tile[1]).join("");
told.text = `${shown.length} of ${tiles.length} images`;
"""


def explore_page(title: str, judged: Judged, exhibits: dict[str, Array], names: Sequence[str], source: str) -> str:
    """The HTML text of a page to look around in.

    Args:
        title: of the page.
        judged: the test split.
        exhibits: of a series or of images, see `deepad.exhibits`.
        names: of the channels.
        source: the recording that the exhibits are of.

    Raises:
        InputError: exhibits of neither.
        IncompatibleInstallError: Bokeh is not installed.
    """
    try:
        embed, resources = import_module("bokeh.embed"), import_module("bokeh.resources")
    except ImportError:
        raise IncompatibleInstallError(
            "a page to look around in needs Bokeh, which is not installed: pip install 'deepad[explore]'"
        ) from None
    if "series" in exhibits:
        subtitle, layout = f"{source}: drag to move, scroll to zoom, click an episode", _series(judged, exhibits, names)
    elif "images" in exhibits:
        subtitle, layout = "original, rebuilt, where the score comes from", _images(judged, exhibits)
    else:
        raise InputError("there is something to look around in for series and images, this run has neither")
    script, body = embed.components(layout, wrap_script=False)
    inline = resources.Resources(mode="inline", components=["bokeh", "bokeh-widgets"], log_level="error")
    script = script.replace("</", "<\\/")  # no text of a file ends it
    page = {"title": title, "subtitle": subtitle, "library": inline.render_js(), "script": script, "body": body}
    return html.render("explore.html", page, [])


def _series(judged: Judged, exhibits: dict[str, Array], names: Sequence[str]) -> Any:
    """Score above channels, and beside them what a chosen episode comes from."""
    models, layouts, plotting = (import_module(f"bokeh.{part}") for part in ("models", "layouts", "plotting"))
    rows, first = exhibits["series_rows"], int(exhibits["series_first"][0])
    verdict, values = judged.verdict, exhibits["series"]
    score, flagged = verdict.score[rows], verdict.flagged[rows]
    steps = first + np.arange(len(rows))
    parts = np.nan_to_num(exhibits.get("series_parts", np.zeros(values.shape))).clip(0)
    order = np.argsort(-parts[flagged].sum(0), kind="stable")[:MOST_LANES]
    named = [names[i] if names else f"channel {i}" for i in order]
    spans = runs(flagged)
    finite = np.where(np.isfinite(score), score, np.nan)
    top = float(np.nanmax(np.append(finite, judged.line)))
    lanes = {f"lane{lane}": in_lane(values[:, i], lane) for lane, i in enumerate(order)}
    source = models.ColumnDataSource({"step": steps, "score": finite, **lanes})
    episodes = models.ColumnDataSource(
        {
            "left": first + spans[:, 0],
            "right": first + spans[:, 1],
            "peak": [float(np.nanmax(finite[a:b], initial=-np.inf)) for a, b in spans],
        }
    )
    bars = models.ColumnDataSource({"name": named, "share": np.zeros(len(named))})
    held = models.ColumnDataSource(
        {"whole": parts.sum(1), **{f"c{place}": parts[:, i] for place, i in enumerate(order)}}
    )
    style: dict[str, Any] = {"toolbar_location": None, "sizing_mode": "stretch_width"}
    tools: dict[str, Any] = {"tools": "xpan,xwheel_zoom,tap", "active_scroll": "xwheel_zoom"}
    positive = np.nanmin(finite, initial=np.inf) > 0 and top > 10 * np.nanmin(finite)
    above = plotting.figure(
        height=220, y_axis_label="score", x_range=(steps[0], steps[-1] + 1),
        y_axis_type="log" if positive else "linear", **tools, **style,
    )  # fmt: skip
    below = plotting.figure(height=60 + 34 * len(order), x_range=above.x_range, x_axis_label="step", **tools, **style)
    if judged.y is not None:
        for a, b in runs(judged.y[rows] == 1):
            for plot in (above, below):
                plot.add_layout(
                    models.BoxAnnotation(left=first + a, right=first + b, fill_color=ANOMALY, fill_alpha=0.12)
                )
    quads = above.quad("left", "right", top, 0.94 * top, source=episodes, color="#222222", line_width=3)
    quads.nonselection_glyph = None
    above.line("step", "score", source=source, color=NORMAL)
    above.add_layout(models.Span(location=judged.line, dimension="width", line_dash="dashed", line_color="#222222"))
    for place in range(len(order)):
        below.line("step", f"lane{place}", source=source, color=OTHER)
    below.yaxis.ticker = [place + 0.5 for place in range(len(order))]
    below.yaxis.major_label_overrides = {place + 0.5: name for place, name in enumerate(named)}
    below.y_range.start, below.y_range.end = len(order), 0
    beside = plotting.figure(
        height=60 + 24 * len(order), y_range=list(reversed(named)), x_axis_label="share of the episode's score, %",
        x_range=(0, 100), tools="", **style,
    )  # fmt: skip
    beside.hbar("name", right="share", height=0.7, source=bars, color=ANOMALY)
    text = f"{len(spans)} episodes. Click one, or go from one to the next."
    told = models.Div(text=text, name="told", render_as_text=True)  # channels have the names that files give them
    state = models.Div(visible=False, tags=[-1])
    shared = {"episodes": episodes, "state": state, "range": above.x_range, "steps": source, "parts": held,
              "bars": bars, "told": told}  # fmt: skip

    def show(step: int) -> Any:
        return models.CustomJS(args={**shared, "step": step}, code=_SHOW)

    before, after, whole = (
        models.Button(label=label, name=name, width=160)
        for label, name in (("previous episode", "previous"), ("next episode", "next"), ("whole series", "whole"))
    )
    before.js_on_click(show(-1))
    after.js_on_click(show(1))
    ends = {"range": above.x_range, "first": int(steps[0]), "last": int(steps[-1] + 1)}
    whole.js_on_click(models.CustomJS(args=ends, code="range.start = first; range.end = last;"))
    episodes.selected.js_on_change("indices", show(0))
    buttons = layouts.row(before, after, whole)
    return layouts.column(told, buttons, above, below, beside, state, sizing_mode="stretch_width")


def _images(judged: Judged, exhibits: dict[str, Array]) -> Any:
    """Images with boxes to choose outcomes, or tiers where there are some."""
    models, layouts = (import_module(f"bokeh.{part}") for part in ("models", "layouts"))
    verdict, rows = judged.verdict, exhibits["image_rows"]
    x, rebuilt, parts = (exhibits[name].astype(np.float64) for name in ("images", "rebuilt", "image_parts"))
    kinds = outcomes(verdict, judged.y)[rows]
    known = [name for name in OUTCOMES if name in kinds]
    if verdict.tier is not None:
        kinds = np.array([name or "not flagged" for name in verdict.tier_names])[rows]
        known = [name for name in ("not flagged", *verdict.tiers, "invalid") if name in kinds]
    low, high = float(x.min()), float(x.max())
    errors = parts.sum(1).clip(0)
    shown = (picture(x, low, high), picture(rebuilt, low, high), coloured("magma", errors / (errors.max() or 1.0)))
    order = np.argsort(-verdict.score[rows], kind="stable")
    tiles = []
    for i in order:
        words = f"{rows[i]}: {kinds[i]}, p = {verdict.p_value[rows[i]]:.2g}"
        seen = "".join(_tile(part[i], f"{words}, {what}") for part, what in zip(shown, WHAT, strict=True))
        tile = f'<span style="display:inline-block;margin:0 14px 10px 0">{seen}<br>{escaping.escape(words)}</span>'
        tiles.append((known.index(str(kinds[i])), tile))
    grid = models.Div(text="".join(tile for _, tile in tiles), name="grid", sizing_mode="stretch_width")
    told = models.Div(text=f"{len(tiles)} of {len(tiles)} images", name="told")
    boxes = models.CheckboxButtonGroup(labels=known, active=list(range(len(known))), name="boxes")
    code = {"grid": grid, "told": told, "boxes": boxes, "tiles": tiles}
    boxes.js_on_change("active", models.CustomJS(args=code, code=_FILTER))
    return layouts.column(boxes, told, grid, sizing_mode="stretch_width")


WHAT = ("original", "rebuilt", "where the score comes from")


def _tile(colours: Array, alt: str) -> str:
    """A picture (H, W, 4) as an element of a page."""
    buffer = BytesIO()
    Image.fromarray((255 * colours).round().astype(np.uint8)).save(buffer, format="png")
    data = b64encode(buffer.getvalue()).decode()
    style = f"width:{TILE}px;image-rendering:pixelated;margin-right:2px"
    return f'<img src="data:image/png;base64,{data}" alt="{escaping.escape(alt)}" style="{style}">'
