"""The page of a comparison: the leaderboard, who can be told apart, each data set, and what it cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepad.report import figures, html


def page(
    title: str,
    told: Sequence[str],
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    marked: Sequence[bool],
    found: Any,
    costs: Sequence[dict[str, Any]],
    failures: Sequence[tuple[int, str, str]],
) -> str:
    """The HTML text of a comparison's page.

    Args:
        title: its heading.
        told: sentences that stand above the table.
        head: names of the columns.
        rows: of the leaderboard, as text.
        marked: which models learn and are not above the principal components.
        found: the comparison in numbers: `metric`, `values`, `models`, `data`, `board`, `compared`.
        costs: by model.
        failures: how many cells ended with an error, the first of them, and the error.
    """
    order = [found.models.index(row[0]) for row in rows]
    metric = found.metric.rpartition(".")[2]
    best = np.where(np.isnan(found.values).all(1), np.nan, np.nanmax(np.nan_to_num(found.values, nan=-np.inf), axis=1))
    sets = [
        {
            "name": name,
            "cells": [
                {"text": "" if np.isnan(row[place]) else f"{row[place]:.3f}", "best": row[place] == top}
                for place in order
            ],
        }
        for name, row, top in zip(found.data, found.values, best, strict=True)
    ]
    drawn = []
    if found.board is not None:
        board = found.board
        figure = figures.critical_difference(found.compared, board.ranks.mean, board.critical_difference, board.groups)
        text = "Mean ranks of the models, bars beside those that cannot be told apart"
        caption = f"{text} (Nemenyi, alpha = {board.alpha:g}); 1 is best."
        drawn.append(html.Section("Ranks", [html.Picture(figure, text, caption)]))
    statements = {
        "title": title,
        "subtitle": f"{len(found.models)} models on {len(found.data)} data sets, ranked by {metric}",
        "told": told,
        "head": head,
        "rows": [{"name": row[0], "mark": mark, "cells": row[1:]} for row, mark in zip(rows, marked, strict=True)],
        "metric": metric,
        "models": [found.models[place] for place in order],
        "sets": sets,
        "costs": costs,
        "failures": failures,
    }
    return html.render("comparison.html", statements, drawn)
