"""Verbs that end in something to look at: explanations of samples, and the pages of runs and of judged files."""

from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad import exhibits, run
from deepad.atomic import replacing
from deepad.channels import Timeline
from deepad.data.images import IMAGES
from deepad.errors import InputError, naming
from deepad.reading import Part
from deepad.report import pages
from deepad.report.explained import entry
from deepad.scoring.explaining import Explanation, plain
from deepad.scoring.records import printable
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict
from deepad.verbs import judge_part, parts_for, tell

Say = Callable[..., None]

SHOWN = 10
"""Samples that a page on judged files explains."""
DRAWN = 3
"""Recordings that it draws."""
MOST = 1000
"""Rows that are explained at a time."""


@dataclass(frozen=True, eq=False)
class Told:
    """A sample or step with the explanation of its score.

    Attributes:
        source: the file it is from.
        index: its row there.
        row: its number among all that were read.
        score: by which it was chosen.
        p_value: of that.
        flagged: whether it was.
        explanation: why; of a step its score before events, if anything is done to scores of steps.
        changed: whether something is.
    """

    source: str
    index: int
    row: int
    score: float
    p_value: float
    flagged: bool
    explanation: Explanation
    changed: bool

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return self.source if Path(self.source).suffix.lower() in IMAGES else f"{self.source}, row {self.index}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        found: dict[str, Any] = {
            "source": self.source,
            "index": self.index,
            "row": self.row,
            "score": plain(self.score),
        }
        if self.changed:
            found["score_before_events"] = plain(self.explanation.score)
        told = {name: value for name, value in self.explanation.to_dict().items() if name != "score"}
        return {**found, "p_value": plain(self.p_value), "flagged": self.flagged, **told}

    @property
    def numbers(self) -> str:
        """Score and p-value, for people."""
        before = f" ({self.explanation.score:.5g} before events)" if self.changed else ""
        p = "no p-value" if np.isnan(self.p_value) else f"p = {self.p_value:.3g}"
        return f"score {self.score:.5g}{before}, {p}"


@dataclass
class Highest:
    """Keeps the highest scores of the parts that are shown to it, explained.

    Of a series the steps around a higher one, less than a window away, are left out: they tell the same.

    Attributes:
        scorer: that judges.
        most: how many are kept.
        kept: those so far, highest first.
        seen: rows that were shown.
    """

    scorer: Scorer
    most: int
    kept: list[Told] = field(default_factory=list)
    seen: int = 0

    def add(self, part: Part, verdict: Verdict) -> None:
        """Show a part of the input and the verdict on it."""
        bar = self.kept[-1].score if len(self.kept) == self.most else -np.inf
        chosen = [row for row in self._peaks(part, verdict) if verdict.score[row] > bar]
        told = explained(self.scorer, part, verdict, chosen, self.seen) if chosen else []
        self.kept = sorted(self.kept + told, key=lambda one: -one.score)[: self.most]
        self.seen += len(verdict)

    def _peaks(self, part: Part, verdict: Verdict) -> list[int]:
        apart = 1 if self.scorer.steps is None else self.scorer.steps.window_size
        place = part.x.step_of_row if isinstance(part.x, Timeline) else np.arange(len(verdict))
        free, found = ~np.isnan(verdict.score), list[int]()
        for row in np.argsort(-verdict.score, kind="stable").tolist():
            if free[row]:
                found.append(row)
                if apart > 1:
                    free &= np.abs(place - place[row]) >= apart
            if len(found) == self.most:
                break
        return found


def explained(scorer: Scorer, part: Part, verdict: Verdict, rows: list[int], first: int) -> list[Told]:
    """Rows of a part of the input, whose first one has this number, explained."""
    with naming(Path(part.source[0])) if scorer.steps is not None else nullcontext():
        found = scorer.explain(part.x, rows)
    return [
        Told(
            printable(part.source[row]), int(part.index[row]), first + row, float(verdict.score[row]),
            float(verdict.p_value[row]), bool(verdict.flagged[row]), explanation, scorer.events is not None,
        )
        for row, explanation in zip(rows, found, strict=True)
    ]  # fmt: skip


def entries(scorer: Scorer, told: list[Told]) -> list[dict[str, Any]]:
    """What a page says of explained samples."""
    channels = run.names_of(scorer)
    return [
        entry(one.name, one.explanation, flagged=one.flagged, numbers=one.numbers, channels=channels,
              reference=scorer.reference)
        for one in told
    ]  # fmt: skip


class Watched:
    """What a page on judged files needs, gathered while they are judged part by part."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.highest = scorer, Highest(scorer, SHOWN)
        self._verdicts: list[Verdict] = []
        self._parts: list[tuple[int, Part]] = []

    def add(self, part: Part, verdict: Verdict) -> None:
        """A part of the input and the verdict on it."""
        self.highest.add(part, verdict)
        self._verdicts.append(verdict)
        if self.scorer.steps is not None:  # recordings with most flags are drawn
            self._parts.append((len(self._verdicts) - 1, part))
            flags = [int(self._verdicts[place].flagged.sum()) for place, _ in self._parts]
            order = sorted(range(len(flags)), key=lambda i: -flags[i])[:DRAWN]
            self._parts = [self._parts[i] for i in sorted(order)]

    def write(
        self, path: str, told: list[str], y: NDArray[Any] | None = None, result: dict[str, Any] | None = None
    ) -> None:
        """Write the page.

        Args:
            path: the file.
            told: sentences about what was judged.
            y: labels (N,) of all of it, 1 = anomaly, if there are any.
            result: what `evaluate` says of them.
        """
        scorer, verdict = self.scorer, Verdict.join(self._verdicts)
        begins = np.cumsum([0, *map(len, self._verdicts)])
        names = run.names_of(scorer)
        series = []
        for place, part in self._parts:
            found = exhibits.of_recording(scorer, part.x, self._verdicts[place])
            if "series_rows" in found:
                found["series_rows"] = found["series_rows"] + begins[place]
                series.append((printable(Path(part.source[0]).name), names, found))
        what = "steps" if scorer.steps is not None else "samples"
        model = f"{type(scorer.model).__name__}, id {scorer.id[:12]}"
        text = pages.judged_page(
            f"{len(verdict)} {what} judged",
            f"by a {model}, calibrated on {scorer.calibration.n} normal scores",
            run.judged_by(scorer, verdict, y),
            told,
            result,
            series,
            entries(scorer, self.highest.kept),
        )
        write_page(path, text)


def write_page(path: str | Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise InputError(f"cannot write the page {path}: {error.strerror or error}") from error


def explain(options: Namespace, say: Say) -> None:
    """Say why samples have their scores."""
    scorer = Scorer.load(options.scorer)
    rows = None if options.rows is None else _numbers(options.rows)
    if options.top < 1:
        raise InputError(f"--top {options.top}: give how many to explain, at least 1")
    notes: list[str] = []
    highest = Highest(scorer, options.top)
    chosen: list[Told] = []
    for part in parts_for(scorer, options, notes):
        verdict = judge_part(scorer, part, {})
        if rows is None:
            highest.add(part, verdict)
            continue
        mine = [row - highest.seen for row in rows if highest.seen <= row < highest.seen + len(verdict)]
        if mine:
            chosen += explained(scorer, part, verdict, mine, highest.seen)
        highest.seen += len(verdict)
    if rows is not None and (missing := [row for row in rows if row >= highest.seen]):
        raise InputError(f"no row {missing[0]}: the input has {highest.seen}, from 0 to {highest.seen - 1}")
    by_row = {one.row: one for one in chosen}
    told = highest.kept if rows is None else [by_row[row] for row in rows]
    if not told:
        raise InputError("nothing here has a score that could be explained: give longer recordings")
    threshold = scorer.threshold
    guarantee = threshold.guarantee.to_dict() | {"text": str(threshold.guarantee)}
    if options.report is not None:
        subtitle = f"scored by a {type(scorer.model).__name__}, id {scorer.id[:12]}"
        which = "highest scores" if rows is None else "rows"
        title = f"{len(told)} {which} of {highest.seen}"
        write_page(options.report, pages.explained_page(title, subtitle, guarantee, entries(scorer, told)))
    report = {"model": scorer.id, "guarantee": guarantee, "rows": [one.to_dict() for one in told]}
    report |= {"report": options.report, "notes": notes}
    lines = [
        f"{one.name}: {one.numbers}{', flagged' if one.flagged else ''}\n  {one.explanation.sentence}" for one in told
    ]
    if options.report is not None:
        lines.append(f"page in {options.report}")
    tell(notes, options)
    say(report, "\n".join(lines), options.json)


def _numbers(text: str) -> list[int]:
    """Row numbers out of `3,17,20-25`."""
    ranges: list[range] = []
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise InputError(f"--rows is written as 3,17 or 20-25, from 0, got {text[:100]!r}")
        ranges.append(range(int(first), int(last or first) + 1))
    if sum(map(len, ranges)) > MOST:
        raise InputError(
            f"--rows names {sum(map(len, ranges))} rows, at most {MOST} are explained at a time: give fewer"
        )
    return list(dict.fromkeys(chain.from_iterable(ranges)))


def report(options: Namespace, say: Say) -> None:
    """Make the page of a run again from its files."""
    folder = Path(options.run)
    path = Path(options.output) if options.output else folder / ("explore.html" if options.explore else "report.html")
    write_page(path, run.report(folder, explore=options.explore))
    say({"report": str(path)}, f"page in {path}", options.json)
