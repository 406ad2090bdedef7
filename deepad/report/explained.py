"""Explained samples on a page: the sentence, the parts that carry the score, and a figure where looking helps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.report.figures import as_svg, image_explained, window_explained
from deepad.scoring.explaining import Explanation

MOST = 8
"""Parts in a table."""
DRAWN = 4
"""Channels in a figure."""


def entry(
    name: str,
    explanation: Explanation,
    *,
    flagged: bool,
    numbers: str,
    channels: Sequence[str] = (),
    reference: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """What the template says of a sample.

    Args:
        name: which one it is.
        explanation: of its score.
        flagged: whether it was.
        numbers: its score and p-value.
        channels: of a window, by name.
        reference: what it was compared with.
    """
    figure, shows = _figure(explanation, channels, reference)
    if explanation.nearest:
        numbers += (
            f"; distance to the nearest normal samples {', '.join(f'{far:.3g}' for far in explanation.distances)}"
        )
    head, parts = _table(explanation)
    return {
        "name": name,
        "mark": "flagged" if flagged else "not flagged",
        "kind": "bad" if flagged else "soft",
        "sentence": explanation.sentence[0].upper() + explanation.sentence[1:],
        "numbers": numbers,
        "head": head,
        "parts": parts,
        "svg": None if figure is None else as_svg(figure, label=f"{name}: {shows}"),
        "caption": shows,
    }


def _table(explanation: Explanation) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the parts that add most; none for pixels."""
    if explanation.x.ndim == 3 or not explanation.parts:
        return [], []
    columns = {
        "part": [part.name for part in explanation.parts],
        "share": [f"{100 * part.share:.1f} %" for part in explanation.parts],
        "value": [part.value for part in explanation.parts],
        "expected": ["" if part.expected is None else f"{part.expected:.5g}" for part in explanation.parts],
        "deviation": ["" if part.deviation is None else f"{part.deviation:+.2f}" for part in explanation.parts],
        "nearest normal": [part.near or "" for part in explanation.parts],
        "p": ["" if part.p_value is None else f"{part.p_value:.2g}" for part in explanation.parts],
    }
    told = {name: cells for name, cells in columns.items() if any(cells)}
    return list(told), [list(row) for row in zip(*told.values(), strict=True)][:MOST]


def _figure(explanation: Explanation, channels: Sequence[str], reference: NDArray[Any] | None) -> tuple[Any, str]:
    """A figure of an image or a window and what it shows; none of a row."""
    x, rebuilt, parts = explanation.x, explanation.rebuilt, explanation.contributions
    if x.ndim == 3:
        near = [] if reference is None else [reference[which] for which in explanation.nearest]
        told = "The image, what the model expected, where the score comes from, and the nearest normal images"
        return image_explained(x, rebuilt, parts, near), told
    if x.ndim == 2:
        order = np.arange(x.shape[1]) if parts is None else np.argsort(-parts.sum(0), kind="stable")
        chosen = order[:DRAWN]
        names = [channels[i] if channels else f"channel {i}" for i in chosen]
        expected, shaded = (None if part is None else part[:, chosen] for part in (rebuilt, parts))
        told = "The window that ends with the step, channels that add most first"
        told += ", dashed what the model expected" if rebuilt is not None else ""
        told += "; shaded what adds to the score" if parts is not None else ""
        return window_explained(x[:, chosen], expected, names, shaded), told
    return None, ""
