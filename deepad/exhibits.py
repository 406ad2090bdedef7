"""What of the judged samples a page shows and only the model can tell; kept in the run folder, to draw it again.

| array                             | holds                                                                        |
|-----------------------------------|------------------------------------------------------------------------------|
| `images`, `rebuilt`, `image_parts`| originals, reconstructions and contributions (K, C, H, W) of some images     |
| `image_rows`                      | (K,) which of the judged samples they are                                    |
| `features`, `feature_rows`        | what a detector has learned (K, F) of a random sample of them                |
| `points`, `point_rows`            | samples (K, 2) of two features                                               |
| `series`, `series_parts`          | channels and what they add to the score (n, C) of a stretch of a series      |
| `series_rows`, `series_first`     | (n,) which of the judged steps they are, and the number of the first one     |
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.channels import rows_of_steps
from deepad.detectors.base import Detector
from deepad.protocol import Tested
from deepad.scoring.artifact import read_artifact, write_artifact
from deepad.scoring.blocks import blockwise, detect
from deepad.scoring.explaining import channels_of_steps, explains, maps_and_rebuilt
from deepad.scoring.inputs import as_series
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict

Array = NDArray[Any]

FOLDER, MANIFEST, FORMAT = "exhibits", "exhibits.json", "deepad.exhibits"
EACH, WORST = 12, 9
"""Images of each outcome, and of normal samples with the highest scores."""
POINTS = 2000
STEPS = 10_000
"""Most steps of a series that are kept: the part with the most flags."""


def of_samples(scorer: Scorer, samples: Callable[[Array], Array], verdict: Verdict, y: Array) -> dict[str, Array]:
    """Exhibits of labelled samples.

    Args:
        scorer: that judged them.
        samples: gives those (K, *shape) at some positions (K,).
        verdict: on all of them.
        y: their labels (N,), 1 = anomaly.
    """
    model, found = scorer.model, dict[str, Array]()
    if len(model.shape) == 3:
        rows = _images(verdict, y)
        images = samples(rows)
        if (told := maps_and_rebuilt(model, images)) is not None:
            found |= {"image_rows": rows, "images": images, "image_parts": told[0], "rebuilt": told[1]}
    rows = _some(y)
    if isinstance(model, Detector):
        features = blockwise(lambda some: detect(model, samples(some), model.features), rows)
        found |= {"feature_rows": rows, "features": features}
    if model.shape == (2,):
        found |= {"point_rows": rows, "points": samples(rows)}
    return {name: _narrow(array) for name, array in found.items()}


def of_steps(scorer: Scorer, stretches: list[Any], tested: Tested) -> dict[str, Array]:
    """Exhibits of the longest stretch of a series, or of the part of it with the most flags.

    Args:
        scorer: that judged it, with `steps`.
        stretches: with `values` (n, C), `scored` (n,) and `first`, as a data module gives them.
        tested: the verdict on their scored steps.
    """
    which = int(np.argmax(tested.lengths))
    stretch, begin = stretches[which], sum(tested.lengths[:which])
    rows = np.arange(begin, begin + tested.lengths[which])
    steps = np.flatnonzero(stretch.scored)  # it begins with context
    return _stretch(scorer, stretch.values, steps, rows, tested.verdict.flagged[rows], stretch.first)


def _stretch(
    scorer: Scorer, series: Array, steps: Array, rows: NDArray[np.int64], flagged: Array, first: int
) -> dict[str, Array]:
    """Exhibits of steps (n,) of an unbroken series (N, C), rows (n,) of a verdict; the first one has this number."""
    start = _busiest(flagged, STEPS)
    chosen = slice(start, start + STEPS)
    found = {
        "series_rows": rows[chosen],
        "series_first": np.array([first + start]),
        "series": series[steps[chosen]],
    }
    if explains(scorer.model) and scorer.steps is not None:
        found["series_parts"] = channels_of_steps(scorer.model, scorer.steps, series, steps[chosen])
    return {name: _narrow(array) for name, array in found.items()}


def of_recording(scorer: Scorer, x: Any, verdict: Verdict) -> dict[str, Array]:
    """Exhibits of the longest unbroken stretch of a recording; none if no step of it has a score.

    Args:
        scorer: that judged it, with `steps`.
        x: what the scorer took.
        verdict: on it, an entry a row.
    """
    stretches, step_of_row = as_series(x, scorer.model.shape[1], scorer.inputs)
    lengths = [len(stretch) for stretch in stretches]
    which = int(np.argmax(lengths))
    begin = sum(lengths[:which])
    row_of_step = np.arange(sum(lengths)) if step_of_row is None else rows_of_steps(step_of_row, sum(lengths))
    rows = row_of_step[begin : begin + lengths[which]]
    if np.isnan(verdict.score[rows]).all():
        return {}
    return _stretch(scorer, stretches[which], np.arange(len(rows)), rows, verdict.flagged[rows], int(rows[0]))


def write(folder: Path, found: dict[str, Array]) -> None:
    """Keep exhibits in a run folder."""
    write_artifact(folder / FOLDER, MANIFEST, {"format": FORMAT}, {"arrays": found})


def read(folder: Path) -> dict[str, Array]:
    """The exhibits of a run folder.

    Raises:
        ArtifactError: missing, altered or cut short.
    """
    keys: frozenset[str] = frozenset()
    _, arrays = read_artifact(folder / FOLDER, MANIFEST, format=FORMAT, keys=keys, groups=frozenset({"arrays"}))
    return arrays["arrays"]


def _images(verdict: Verdict, y: Array) -> NDArray[np.int64]:
    """Images to look at: the clearest of each outcome, and the normal ones with the highest scores."""
    order = np.argsort(-verdict.score, kind="stable")
    anomaly, flagged = y[order] == 1, verdict.flagged[order]
    chosen = [
        order[anomaly & flagged][:EACH],
        order[anomaly & ~flagged][::-1][:EACH],
        order[~anomaly & flagged][:EACH],
        order[~anomaly & ~flagged][::-1][:EACH],
        order[~anomaly][:WORST],
    ]
    return np.asarray(list(dict.fromkeys(np.concatenate(chosen).tolist())), np.int64)


def _some(y: Array) -> NDArray[np.int64]:
    """A seeded random sample of positions in order, a quarter of it anomalies where there are so many."""
    stream = np.random.default_rng(0)
    normal, anomaly = stream.permutation(np.flatnonzero(y == 0)), stream.permutation(np.flatnonzero(y == 1))
    few = anomaly[: max(POINTS // 4, POINTS - len(normal))]
    return np.sort(np.concatenate([normal[: POINTS - len(few)], few]))


def _busiest(flagged: Array, size: int) -> int:
    """Where the part of so many steps with the most flags begins; the first of several."""
    if len(flagged) <= size:
        return 0
    counts = np.concatenate([[0], np.cumsum(flagged)])
    return int(np.argmax(counts[size:] - counts[:-size]))


def _narrow(array: Array) -> Array:
    """Floats in float32: they are looked at."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array
