"""Judge a series as it comes, and go on after a restart: rows of CSV on standard input, verdicts on standard output.

    python scripts/watch.py --scorer runs/sensors/scorer --state runs/watch < rows.csv

The first column is the id of a row, a whole number that grows; the others are the channels. SIGTERM ends it with its
state saved. After a crash send the rows again from anywhere: those that were judged are left out.
"""

import argparse
import csv
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from deepad import Scorer
from deepad.scoring.watch import MANIFEST, Watch


def rows(lines: Iterator[str]) -> Iterator[tuple[int, list[float]]]:
    """Id and values of each row; a first line of names is left out."""
    for number, row in enumerate(csv.reader(lines)):
        if number or row[0].lstrip("-").isdecimal():
            yield int(row[0]), [float(cell) for cell in row[1:]]


def main(scorer: Path, state: Path, every: int) -> None:
    """Judge row by row, and save what is remembered after so many rows."""
    judge = Scorer.load(scorer)
    watch = Watch.load(state, judge) if (state / MANIFEST).exists() else Watch(judge)

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        for number, values in rows(iter(sys.stdin.readline, "")):
            verdict, new = watch.push([values], [number])
            if new[0] and not verdict.unscored[0]:
                print(f"{number},{verdict.score[0]!r},{verdict.p_value[0]!r},{int(verdict.flagged[0])}", flush=True)
            if watch.judged % every == 0:
                watch.save(state)
    finally:
        watch.save(state)
    sys.stderr.write(f"{watch.judged} rows judged, {watch.repeated} seen before, {watch.stretches} stretches\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", type=Path, required=True, help="folder of a saved scorer for steps of a series")
    parser.add_argument("--state", type=Path, required=True, help="folder of what is remembered; made if missing")
    parser.add_argument("--every", type=int, default=100, help="rows after which it is saved")
    main(**vars(parser.parse_args()))
