"""Judge a series as it comes, and go on after a restart: rows of CSV on standard input, verdicts on standard output.

    python scripts/watch.py --scorer runs/sensors/scorer --state runs/watch < rows.csv

The first column is the id of a row, a whole number that grows; the others are the channels. SIGTERM ends it with its
state saved. After a crash send the rows again from anywhere: those that were judged are left out.
"""

import argparse
import csv
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from deepad import Scorer
from deepad.scoring.watch import MANIFEST, Watch


def rows(text: Iterator[str]) -> Iterator[tuple[int, list[float]]]:
    """Id and values of each row; a first line of names and empty lines are left out."""
    for number, row in enumerate(csv.reader(text)):
        if row and (number or row[0].lstrip("-").isdecimal()):
            yield int(row[0]), [float(cell) for cell in row[1:]]


def main(scorer: Path, state: Path, every: int, gap: int) -> None:
    """Judge row by row, and save what is remembered after so many: what is saved has been told."""
    judge = Scorer.load(scorer)
    watch = Watch.load(state, judge) if (state / MANIFEST).exists() else Watch(judge, gap=gap)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    for number, values in rows(lines(ended)):
        verdict, new = watch.push([values], [number])
        if new[0] and not verdict.unscored[0]:
            score, p_value = float(verdict.score[0]), float(verdict.p_value[0])
            print(f"{number},{score!r},{p_value!r},{int(verdict.flagged[0])}", flush=True)
        if new[0] and watch.judged % every == 0:
            watch.save(state)
    watch.save(state)
    told = f"{watch.judged} rows judged, {watch.repeated} seen before, {watch.stretches} stretches"
    if watch.stretches == watch.judged > 1:
        told += f": no row follows another by {watch.gap} or less, give --gap"
    sys.stderr.write(f"{told}\n")


def lines(ended: list[int]) -> Iterator[str]:
    """Lines of standard input as they come, until there are no more or a signal has ended it."""
    held = b""
    while not ended:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], 0.2)
        if not ready:
            continue
        data = os.read(sys.stdin.fileno(), 1 << 16)
        if not data:
            yield held.decode()
            break
        *whole, held = (held + data).split(b"\n")
        for line in whole:
            if ended:
                return
            yield line.decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", type=Path, required=True, help="folder of a saved scorer for steps of a series")
    parser.add_argument("--state", type=Path, required=True, help="folder of what is remembered; made if missing")
    parser.add_argument("--every", type=int, default=100, help="rows after which it is saved")
    parser.add_argument("--gap", type=int, default=1, help="largest difference of ids of rows that follow each other")
    main(**vars(parser.parse_args()))
