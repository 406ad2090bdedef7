"""What the verbs of the command line do with a scorer: read files as it takes them, judge, and say what came out.

| a scorer of      | takes                                                                                     |
|------------------|-------------------------------------------------------------------------------------------|
| samples          | images, arrays, tables whose rows are laid out as samples, by position                    |
| rows of a table  | CSV and Parquet by the names of the columns; arrays of encoded rows                       |
| steps of a series| one recording a file, or a folder of them: CSV and Parquet by the names of the channels,   |
|                  | `.npy` of shape (N, C)                                                                    |
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.compute import replace_substring_regex
from tqdm import tqdm

from deepad.channels import SeriesSchema
from deepad.data.files import TABLES, Batch, find_tables, read_labels, read_samples, read_table, record_batches
from deepad.data.recordings import FILES
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector
from deepad.errors import DeepadError, InputError
from deepad.evaluation.metrics import evaluate as measure
from deepad.schema import TableSchema
from deepad.scoring.models import Schema, schema_from_dict
from deepad.scoring.records import as_table, open_table
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict

Say = Callable[..., None]


@dataclass(frozen=True)
class _Part:
    """Some of the input, as a scorer takes it.

    Attributes:
        x: samples, or a series.
        source: (B,) the file each came from.
        index: (B,) its row in that file.
        y: (B,) labels, if they were asked for by name.
        time: (B,) timestamps as text, where rows have them.
    """

    x: Any
    source: list[str]
    index: NDArray[np.int64]
    y: NDArray[Any] | None = None
    time: pa.Array | None = None


def score(options: Namespace, say: Say) -> None:
    """Judge files and write one row for each sample or step."""
    scorer = Scorer.load(options.scorer)
    n = flagged = invalid = unscored = 0
    parts = _read(options, scorer.model.shape, scorer.inputs, scorer.steps)
    first, name = next(parts), scorer.id[:12]
    waiting: list[pa.Table] = []  # what is to be written when it is known that any step is scored
    with open_table(options.output, kind=".jsonl" if options.json else ".csv") as writer:
        for part in chain([first], parts):
            verdict = _judge(scorer, part, options)
            extra = {} if part.time is None else {"time": part.time}
            waiting.append(as_table(verdict, part.source, part.index, name, **extra))
            n, flagged = n + len(verdict), flagged + int(verdict.flagged.sum())
            invalid += int(verdict.invalid.sum())
            unscored += 0 if verdict.unscored is None else int(verdict.unscored.sum())
            while waiting and unscored < n:
                writer.write(waiting.pop(0))
        _require_scored(scorer, n, unscored)
    law = verdict.guarantee.future_alarms(n)
    report = {
        "n": n,
        "flagged": flagged,
        "invalid": invalid,
        "unscored": unscored,
        "if_all_normal_95": None if law is None else list(law),
        "threshold": verdict.threshold,
        "guarantee": verdict.guarantee.to_dict(),
        "output": options.output,
    }
    what = "samples" if scorer.steps is None else f"steps ({unscored} of them not scored: no window ends there)"
    text = f"{n} {what}, {flagged} flagged ({invalid} without a score)"
    if law is not None:
        text += f"; if all were normal, {law[0]} to {law[1]} would be flagged with 95 % probability"
    text += f"\n{verdict.guarantee}" + (f"\nrows in {options.output}" if options.output else "")
    say(report, text, options.json, sys.stdout if options.output else sys.stderr)


def evaluate(options: Namespace, say: Say) -> None:
    """Judge labelled files and say how well."""
    scorer = Scorer.load(options.scorer)
    named = not Path(options.labels).is_file()
    labels: list[NDArray[Any]] = []
    verdicts: list[Verdict] = []
    for part in _read(options, scorer.model.shape, scorer.inputs, scorer.steps, options.labels if named else None):
        if named:
            if part.y is None:
                raise InputError(f"no labels at {options.labels}: give a file, or the name of a column or array")
            labels.append(np.asarray(part.y))
        verdicts.append(_judge(scorer, part, options))
    verdict = Verdict.join(verdicts)
    _require_scored(scorer, len(verdict), 0 if verdict.unscored is None else int(verdict.unscored.sum()))
    if not named:
        labels.append(read_labels(Path(options.labels)))
    result = measure(verdict, _is_anomaly(np.concatenate(labels), options.anomalous))
    at, ranking = result["at_threshold"], result["ranking"]
    lines = [f"{name}: {'undefined' if value is None else value}" for name, value in {**ranking, **at}.items()]
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
    parts = _read(options, detector.shape, inputs, rule)
    x: Any = (part.x for part in parts)
    if rule is not None:
        x = list(x)
    elif isinstance(inputs, TableSchema):
        x = (inputs.encode(part.x) if isinstance(part.x, pa.Table) else part.x for part in parts)
    scorer = Scorer.calibrate(detector, x, alpha=options.alpha, kind=options.kind, delta=options.delta, steps=rule)
    scorer.save(options.output)
    guarantee = scorer.threshold.guarantee
    say({"scorer": options.output, **scorer.describe()}, f"{guarantee}\nscorer in {options.output}", options.json)


def _judge(scorer: Scorer, part: _Part, options: Namespace) -> Verdict:
    """The verdict on a part; of a recording that is refused the file is named."""
    try:
        return scorer(part.x, alpha=options.alpha, kind=options.kind, delta=options.delta)
    except InputError as error:
        raise InputError(f"{part.source[0]}: {error}" if scorer.steps is not None else str(error)) from None


def _require_scored(scorer: Scorer, n: int, unscored: int) -> None:
    if scorer.steps is not None and unscored == n:
        raise InputError(
            f"none of the {n} steps can be scored: that takes windows of {scorer.steps.window_size} steps in a row, "
            "without gaps; give longer recordings"
        )


def info(options: Namespace, say: Say) -> None:
    """Say what a saved scorer is."""
    scorer = Scorer.load(options.scorer)
    report = scorer.describe()
    model, n = report["model"], scorer.calibration.n
    lines = [f"{model['tag']} for samples of shape {tuple(model['shape'])}, id {report['id'][:12]}"]
    if scorer.steps is not None:
        lines.append(f"scores the steps of a series by the rule {scorer.steps.rule!r}")
    if isinstance(scorer.inputs, TableSchema):
        lines.append(f"columns {', '.join(column.name for column in scorer.inputs.columns)}")
    elif scorer.inputs is not None:
        lines.append(f"channels {', '.join(scorer.inputs.channels)}")
    lines += [
        str(scorer.threshold.guarantee),
        f"threshold {scorer.threshold.value:.6g}; smallest alpha from {n} calibration scores: {1 / (n + 1):.3g}",
    ]
    say(report, "\n".join(lines), options.json)


def _read(
    options: Namespace, shape: tuple[int, ...], inputs: Schema | None, steps: StepRule | None, label: str | None = None
) -> Iterator[_Part]:
    """Parts of the inputs under a progress bar, which shows on terminals only."""
    parts: Iterator[_Part]
    if steps is not None:
        paths = chain.from_iterable(_recordings(path) for path in options.inputs)
        parts = (_recording(path, shape, inputs, label) for path in paths)
    elif isinstance(inputs, TableSchema):
        parts = chain.from_iterable(_rows(path, shape, options.ignore, label) for path in options.inputs)
    else:
        parts = map(_sample_part, read_samples(options.inputs, shape, label=label))
    first = next(parts, None)
    with tqdm(unit=" rows", unit_scale=True, disable=None, desc="reading") as bar:
        for part in chain([] if first is None else [first], parts):
            yield part
            bar.update(len(part.source))


def _sample_part(batch: Batch) -> _Part:
    return _Part(batch.x, batch.source, batch.index, batch.y)


def _rows(path: str, shape: tuple[int, ...], ignore: Sequence[str], label: str | None) -> Iterator[_Part]:
    """Rows of a table by the names of its columns, or of an array by position."""
    if Path(path).suffix.lower() not in TABLES:
        yield from map(_sample_part, read_samples([path], shape, label=label))
        return
    row = 0
    for batch in record_batches(Path(path)):
        table = pa.Table.from_batches([batch])
        table, y = _without_label(table, label, path)
        table = table.drop_columns([name for name in ignore if name in table.column_names])
        yield _Part(table, [path] * len(table), np.arange(row, row + len(table)), y)
        row += len(table)
    if row == 0:
        raise InputError(f"{path} holds no rows")


def _recordings(path: str) -> list[Path]:
    """The file, or the recordings in the folder."""
    return find_tables(path, kinds=FILES) if Path(path).is_dir() else [Path(path)]


def _recording(path: Path, shape: tuple[int, ...], inputs: Schema | None, label: str | None) -> _Part:
    """One recording, with one entry a row."""
    time = y = None
    if path.suffix.lower() == ".npy" or not isinstance(inputs, SeriesSchema):
        batches = list(read_samples([path], shape[1:], label=label))
        x: Any = np.concatenate([batch.x for batch in batches])
        y = None if label is None else np.concatenate([batch.y for batch in batches if batch.y is not None])
        if isinstance(inputs, SeriesSchema) and inputs.time is not None:
            time = pa.nulls(len(x), pa.string())  # the same columns for every file
    else:
        x, y = _without_label(read_table(path), label, str(path))
        if inputs.time is not None and inputs.time in x.column_names:
            written = x.column(inputs.time).cast(pa.string()).combine_chunks()
            time = replace_substring_regex(written, r"(:\d\d)\.0+(Z?)$", r"\1\2")  # no fraction where it is 0
    return _Part(x, [str(path)] * len(x), np.arange(len(x)), y, time)


def _without_label(table: pa.Table, label: str | None, path: str) -> tuple[pa.Table, NDArray[Any] | None]:
    if label is None:
        return table, None
    if table.column_names.count(label) != 1:
        raise InputError(
            f"{path} must have one column {label!r} for labels, it has {', '.join(table.column_names[:8])}"
        )
    return table.drop_columns([label]), table.column(label).to_numpy(zero_copy_only=False)


def _is_anomaly(labels: NDArray[Any], anomalous: Sequence[str]) -> NDArray[Any]:
    """1 where a label is one of the values given on the command line, which are numbers if the labels are."""
    missing = np.array([label is None or label != label for label in labels.tolist()], bool)
    if missing.any():
        raise DeepadError(f"{missing.sum()} of {len(labels)} labels are missing (first at row {np.argmax(missing)})")
    try:
        wanted = np.array([float(value) for value in anomalous] if labels.dtype.kind in "fiub" else list(anomalous))
    except ValueError:
        raise DeepadError(f"the labels are numbers, --anomalous {' '.join(anomalous)} is not") from None
    known = labels if labels.dtype.kind in "fiub" else labels.astype(str)
    absent = [value for value, seen in zip(anomalous, np.isin(wanted, known), strict=True) if not seen]
    if absent:
        held = ", ".join(map(str, np.unique(known)[:10]))
        raise DeepadError(f"no label is {' or '.join(absent)}: the labels are {held}; give some of them as --anomalous")
    return np.isin(known, wanted).astype(np.int64)
