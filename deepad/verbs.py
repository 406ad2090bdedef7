"""What the verbs of the command line do with a scorer: judge files, and say what came out."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deepad.channels import SeriesSchema, Timeline, rows_of_steps
from deepad.data.files import read_labels
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector
from deepad.errors import InputError, naming
from deepad.evaluation.metrics import evaluate as measure
from deepad.frames import is_anomaly, listed
from deepad.reading import Part, as_column, read_parts
from deepad.schema import TableSchema
from deepad.scoring.eventrule import EventRule
from deepad.scoring.grouping import Grouping
from deepad.scoring.groups import GroupedCalibration, GroupedThreshold
from deepad.scoring.manifest import check_scorer
from deepad.scoring.models import schema_from_dict
from deepad.scoring.records import as_table, open_table
from deepad.scoring.scorer import Scorer
from deepad.scoring.severity import SeverityPolicy
from deepad.scoring.summary import summary
from deepad.scoring.verdict import Verdict
from deepad.tally import Staleness, Tally

Say = Callable[..., None]


def score(options: Namespace, say: Say) -> None:
    """Judge files and write one row for each sample or step."""
    scorer = Scorer.load(options.scorer)
    staleness = Staleness(scorer) if options.monitor else None
    notes: list[str] = []
    parts = parts_for(scorer, options, notes)
    first, name, tally = next(parts), scorer.id[:12], Tally(scorer)
    watched = _watched(options, scorer)
    waiting: list[pa.Table] = []  # what is to be written when it is known that any step is scored
    with open_table(options.output, kind=".jsonl" if options.json else ".csv") as writer:
        for part in chain([first], parts):
            verdict = judge_part(scorer, part, _decided(options))
            extra = {} if part.time is None else {"time": part.time}
            waiting.append(as_table(verdict, part.source, part.index, name, **extra))
            stretches = _in_time(part, verdict)
            tally.add(verdict, stretches)
            if watched is not None:
                watched.add(part, verdict)
            if staleness is not None:
                staleness.add(stretches)
            while waiting and tally.unscored < tally.n:
                writer.write(waiting.pop(0))
        _require_scored(scorer, tally.n, tally.unscored)
    if watched is not None:
        watched.write(options.report, [f"{tally}."])
    report = {
        **tally.report(),
        **({} if staleness is None else staleness.report()),
        "threshold": verdict.threshold if isinstance(verdict.threshold, float) else None,
        "guarantee": verdict.guarantee.to_dict(),
        "output": options.output,
        "report": options.report,
        "notes": notes,
    }
    text = f"{tally}\n{verdict.guarantee}{staleness or ''}"
    text += f"\nrows in {options.output}" if options.output else ""
    text += f"\npage in {options.report}" if options.report else ""
    tell(notes, options)
    say(report, text, options.json, sys.stdout if options.output else sys.stderr)


def evaluate(options: Namespace, say: Say) -> None:
    """Judge labelled files and say how well."""
    scorer = Scorer.load(options.scorer)
    where = options.labels
    notes: list[str] = []
    if options.intervals is not None and (scorer.steps is None or not isinstance(scorer.inputs, SeriesSchema)):
        raise InputError("--intervals are times of a series, this scorer has no timestamps: give --labels")
    own = where is not None and Path(where).is_file()
    labels: list[NDArray[Any]] = []
    verdicts: list[Verdict] = []
    watched = _watched(options, scorer)
    for part in parts_for(scorer, options, notes, None if own else where):
        if not own:
            if part.y is None:
                raise InputError(f"no labels at {where}: give a file, or the name of a column or array")
            labels.append(np.asarray(part.y))
        verdicts.append(judge_part(scorer, part, _decided(options)))
        if watched is not None:
            watched.add(part, verdicts[-1])
    verdict = Verdict.join(verdicts)
    _require_scored(scorer, len(verdict), verdict.n_unscored)
    if own:
        labels.append(read_labels(Path(where)))
    y = np.concatenate(labels)
    if where is not None:
        y = is_anomaly(where, as_column(y, where), options.anomalous, present=True)
    result = {**measure(verdict, y), "notes": notes}
    if watched is not None:
        watched.write(options.report, [], y.astype(np.int64), result)
    at, ranking = result["at_threshold"], result["ranking"]
    lines = [f"{name}: {'undefined' if value is None else value}" for name, value in {**ranking, **at}.items()]
    tell(notes, options)
    say(result, "\n".join([*lines, str(verdict.guarantee)]), options.json)


def calibrate(options: Namespace, say: Say) -> None:
    """Make a scorer from a checkpoint and normal files."""
    detector = Detector.from_checkpoint(options.checkpoint)
    inputs = schema_from_dict(detector.inputs)
    series = isinstance(inputs, SeriesSchema) or options.rule is not None
    if options.rule is not None and len(detector.shape) != 2:
        raise InputError(
            f"--rule {options.rule} is for steps of a series, this model takes samples of shape {detector.shape}: "
            "leave it out"
        )
    rule = StepRule(detector.shape[0], options.rule or "last") if series else None
    events = _events(options, inputs.interval if isinstance(inputs, SeriesSchema) else None)
    if events is not None and rule is None:
        raise InputError("--block, --slot, --persistence and --standardize are for steps of a series: leave them out")
    notes: list[str] = []
    parts = read_parts(options, detector.shape, inputs, rule, notes, groups=options.groups)
    grouping = None
    if options.groups is not None:  # which are needed as a whole
        whole = list(parts)
        grouping = Grouping(options.groups, np.concatenate([part.groups.labels for part in whole if part.groups]))
        parts = iter(whole)
    x: Any = (part.x for part in parts)
    scorer = Scorer.calibrate(
        detector,
        x if rule is None else list(x),
        alpha=0.05 if options.alpha is None else options.alpha,
        kind=options.kind,
        delta=options.delta,
        tiers=None if options.tiers is None else SeverityPolicy.parse(options.tiers),
        threshold_rule=options.threshold_rule,
        budget=options.budget,
        volume=options.volume,
        groups=grouping,
        min_group=options.min_group,
        steps=rule,
        events=events,
        reference=options.reference,
    )
    promise, outlook = summary(scorer)  # first: what cannot be said must not leave a scorer behind
    scorer.save(options.output)
    tell(notes, options)
    report = {"scorer": options.output, **scorer.describe(), "promise": promise, "outlook": outlook, "notes": notes}
    say(report, f"{promise}\n{outlook}\nscorer in {options.output}", options.json)


def _events(options: Namespace, interval: float | None) -> EventRule | None:
    """What the options say about events of a series."""
    pair = None
    if options.persistence is not None:
        most = options.persistence.split("/")
        if len(most) != 2 or not all(part.strip().isdecimal() for part in most):
            raise InputError(f"--persistence is written as 3/5 (3 of the last 5 steps), got {options.persistence!r}")
        pair = int(most[0]), int(most[1])
    block = options.block or ("1 day" if options.budget and interval else None)
    return EventRule.of_times(
        interval, block=block, slot=options.slot, persistence=pair, standardize=options.standardize
    )


def parts_for(scorer: Scorer, options: Namespace, notes: list[str], label: str | None = None) -> Iterator[Part]:
    """The inputs as a scorer takes them, see `read_parts`."""
    return read_parts(options, scorer.model.shape, scorer.inputs, scorer.steps, notes, label, scorer.groups)


def _watched(options: Namespace, scorer: Scorer) -> Any:
    """What gathers the page on judged files, if one is asked for."""
    if options.report is None:
        return None
    from deepad.looking import Watched  # draws: only who asks pays

    return Watched(scorer)


def tell(notes: list[str], options: Namespace) -> None:
    """What was done to recordings, for people; JSON has it in the report."""
    if not options.json:
        sys.stderr.writelines(f"note: {note}\n" for note in notes)


def judge_part(scorer: Scorer, part: Part, decided: dict[str, Any]) -> Verdict:
    """The verdict on a part, at the scorer's own level or another; of a recording that is refused the file is named."""
    with naming(Path(part.source[0])) if scorer.steps is not None else nullcontext():
        return scorer(part.x, **decided, groups=None if scorer.groups is None else part.groups)


def _in_time(part: Part, verdict: Verdict) -> list[Verdict]:
    """The verdict on each unbroken stretch of a recording, step by step; rows may stand in any order."""
    if not isinstance(part.x, Timeline):
        return [verdict]
    row_of_step = rows_of_steps(part.x.step_of_row, len(part.x))
    return [verdict[row_of_step[segment]] for segment in part.x.segments()]


def _decided(options: Namespace) -> dict[str, Any]:
    """Level and guarantee that were asked for; None is the scorer's own."""
    return {"alpha": options.alpha, "kind": options.kind, "delta": options.delta}


def _require_scored(scorer: Scorer, n: int, unscored: int) -> None:
    if scorer.steps is not None and unscored == n:
        raise InputError(
            f"none of the {n} steps can be scored: that takes windows of {scorer.steps.window_size} steps in a row, "
            "without gaps; give longer recordings"
        )


def _thresholds(scorer: Scorer) -> str:
    """The thresholds in numbers, one for each tier or group."""
    names, found = scorer.decision.tiers or ("threshold",), []
    for name, threshold in zip(names, scorer.thresholds, strict=True):
        if isinstance(threshold, GroupedThreshold):
            found += [f"{name} of {group} {part.value:.6g}" for group, part in threshold.parts.items()]
        else:
            found.append(f"{name} {threshold.value:.6g}")
    return f"{', '.join(found)}; {scorer.calibration.n} calibration scores"


def info(options: Namespace, say: Say) -> None:
    """Say what a saved scorer is, or whether it is whole."""
    if options.verify:
        return _verify(options, say)
    scorer = Scorer.load(options.scorer)
    report = scorer.describe()
    model = report["model"]
    lines = [f"{model['tag']} for samples of shape {tuple(model['shape'])}, id {report['id'][:12]}"]
    if scorer.steps is not None:
        lines.append(f"scores the steps of a series by the rule {scorer.steps.rule!r}")
    if isinstance(scorer.inputs, TableSchema):
        lines.append(f"columns {', '.join(column.name for column in scorer.inputs.columns)}")
    elif scorer.inputs is not None:
        lines.append(f"channels {', '.join(scorer.inputs.channels)}")
    if scorer.events is not None:
        lines.append(f"events: {scorer.events}")
    if isinstance(scorer.calibration, GroupedCalibration):
        merged = scorer.calibration.merged
        lines.append(f"groups by {scorer.groups}" + (f", of which {listed(merged)} are one" if merged else ""))
    promise, outlook = summary(scorer)
    kept = 0 if scorer.reference is None else len(scorer.reference)
    lines += [promise, outlook, _thresholds(scorer), f"{kept} calibration samples kept to explain with"]
    say(report, "\n".join(lines), options.json)


def _verify(options: Namespace, say: Say) -> None:
    """Say of a saved scorer that it is whole; its model is not built."""
    report = check_scorer(options.scorer)
    model, files = report["model"], report["files"]
    text = (
        f"{options.scorer} is whole: {len(files)} files, {sum(files.values())} bytes, schema {report['schema']}, "
        f"written by deepad {report['deepad']} at {report['created_utc']}\n{model['tag']} for samples of shape "
        f"{tuple(model['shape'])}, id {report['id'][:12]}, with {report['n']} calibration scores of this model"
    )
    say(report, text, options.json)
