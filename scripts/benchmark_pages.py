"""How long the page of a run takes to draw and how large it is, as the number of judged rows grows.

    python scripts/benchmark_pages.py --rows 1000 10000 100000

Scores of that many rows with a tenth of anomalies, features of 2000 of them, and a series of 10 000 steps by 8
channels: every figure but those of images. A page of few rows is drawn beside each in the same process: the ratio says
what rows cost.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deepad.report import html, sections
from deepad.report.pages import EMPTY
from deepad.scoring.conformal import Calibration
from deepad.scoring.judging import judge

FEW = 500


def page(rows: int, folder: Path) -> tuple[float, int]:
    """Seconds to draw the page of so many rows, and its bytes."""
    rng = np.random.default_rng(0)
    y = (np.arange(rows) % 10 == 0).astype(np.int64)
    known = Calibration.fit(rng.lognormal(size=5000))
    judged = sections.Judged(judge(known, (known.threshold(0.01),), rng.lognormal(2 * y)), y, known.scores, False)
    chosen, steps = np.sort(rng.choice(rows, min(rows, 2000), replace=False)), min(rows, 10_000)
    exhibits = {
        "feature_rows": chosen,
        "features": rng.normal(size=(len(chosen), 16)),
        "series_rows": np.arange(steps),
        "series_first": np.array([0]),
        "series": rng.normal(size=(steps, 8)),
        "series_parts": rng.exponential(size=(steps, 8)),
    }
    begin = time.perf_counter()
    parts = [
        sections.of_scores(judged),
        sections.of_promise(judged),
        sections.of_ranking(judged),
        sections.of_series(judged, exhibits, [], "a series"),
        sections.of_features(judged, exhibits, None, ()),
    ]
    text = html.render(
        "page.html", {**EMPTY, "title": "a page", "subtitle": "", "promise": "", "assumptions": ()}, parts
    )
    (folder / "page.html").write_text(text)
    return time.perf_counter() - begin, len(text.encode())


def main(rows: list[int]) -> None:
    """Print a table."""
    print("| rows | seconds | times a page of few rows | kB |\n|---|---|---|---|")
    with TemporaryDirectory() as folder:
        page(FEW, Path(folder))  # imports and fonts
        for many in rows:
            few, (seconds, size) = page(FEW, Path(folder))[0], page(many, Path(folder))
            print(f"| {many} | {seconds:.2f} | {seconds / few:.2f} | {size / 1000:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    main(**vars(parser.parse_args()))
