"""What the verbs of the command line do with a scorer: read files as it takes them, judge, and say what came out.

| a scorer of      | takes                                                                                     |
|------------------|-------------------------------------------------------------------------------------------|
| samples          | images, arrays, tables whose rows are laid out as samples, by position                    |
| rows of a table  | CSV and Parquet, or a folder of them, by the names of the columns; `.npz` and `.npy`: rows  |
|                  | of columns x0, x1, ... if it was trained on such (a table from `.npz`), else encoded rows  |
| steps of a series| one recording a file, or a folder of them: CSV and Parquet by the names of the channels,   |
|                  | `.npy` of shape (N, C)                                                                    |

Categories are read from CSV as they are written, so a row means the same whatever stands beside it.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
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
from deepad.data.files import ARRAYS, BATCH, TABLES, find_tables, read_labels, read_samples, read_table, record_batches
from deepad.data.recordings import FILES, Reader
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector
from deepad.errors import InputError, naming
from deepad.evaluation.metrics import evaluate as measure
from deepad.frames import is_anomaly, listed
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
        notes: what was done to a recording, in words.
    """

    x: Any
    source: list[str]
    index: NDArray[np.int64]
    y: NDArray[Any] | None = None
    time: pa.Array | None = None
    notes: tuple[str, ...] = ()


def score(options: Namespace, say: Say) -> None:
    """Judge files and write one row for each sample or step."""
    scorer = Scorer.load(options.scorer)
    n = flagged = invalid = unscored = 0
    notes: list[str] = []
    parts = _read(options, scorer.model.shape, scorer.inputs, scorer.steps, notes)
    first, name = next(parts), scorer.id[:12]
    waiting: list[pa.Table] = []  # what is to be written when it is known that any step is scored
    with open_table(options.output, kind=".jsonl" if options.json else ".csv") as writer:
        for part in chain([first], parts):
            verdict = _judge(scorer, part, options)
            extra = {} if part.time is None else {"time": part.time}
            waiting.append(as_table(verdict, part.source, part.index, name, **extra))
            n, flagged = n + len(verdict), flagged + int(verdict.flagged.sum())
            invalid += int(verdict.invalid.sum())
            unscored += verdict.n_unscored
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
        "notes": notes,
    }
    what = "samples" if scorer.steps is None else f"steps ({unscored} of them not scored: no window ends there)"
    text = f"{n} {what}, {flagged} flagged ({invalid} without a score)"
    if law is not None:
        text += f"; if all were normal, {law[0]} to {law[1]} would be flagged with 95 % probability"
    text += f"\n{verdict.guarantee}" + (f"\nrows in {options.output}" if options.output else "")
    _tell(notes, options)
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
    for part in _read(options, scorer.model.shape, scorer.inputs, scorer.steps, notes, None if own else where):
        if not own:
            if part.y is None:
                raise InputError(f"no labels at {where}: give a file, or the name of a column or array")
            labels.append(np.asarray(part.y))
        verdicts.append(_judge(scorer, part, options))
    verdict = Verdict.join(verdicts)
    _require_scored(scorer, len(verdict), verdict.n_unscored)
    if own:
        labels.append(read_labels(Path(where)))
    y = np.concatenate(labels)
    if where is not None:
        y = is_anomaly(where, _as_column(y, where), options.anomalous, present=True)
    result = {**measure(verdict, y), "notes": notes}
    at, ranking = result["at_threshold"], result["ranking"]
    lines = [f"{name}: {'undefined' if value is None else value}" for name, value in {**ranking, **at}.items()]
    _tell(notes, options)
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
    notes: list[str] = []
    parts = _read(options, detector.shape, inputs, rule, notes)
    x: Any = (part.x for part in parts)
    scorer = Scorer.calibrate(
        detector,
        x if rule is None else list(x),
        alpha=options.alpha,
        kind=options.kind,
        delta=options.delta,
        steps=rule,
    )
    scorer.save(options.output)
    _tell(notes, options)
    report = {"scorer": options.output, **scorer.describe(), "notes": notes}
    say(report, f"{scorer.threshold.guarantee}\nscorer in {options.output}", options.json)


def _tell(notes: list[str], options: Namespace) -> None:
    """What was done to recordings, for people; JSON has it in the report."""
    if not options.json:
        sys.stderr.writelines(f"note: {note}\n" for note in notes)


def _judge(scorer: Scorer, part: _Part, options: Namespace) -> Verdict:
    """The verdict on a part; of a recording that is refused the file is named."""
    with naming(Path(part.source[0])) if scorer.steps is not None else nullcontext():
        return scorer(part.x, alpha=options.alpha, kind=options.kind, delta=options.delta)


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
    options: Namespace,
    shape: tuple[int, ...],
    inputs: Schema | None,
    steps: StepRule | None,
    notes: list[str],
    label: str | None = None,
) -> Iterator[_Part]:
    """Parts of the inputs under a progress bar, which shows on terminals only; `notes` are added to."""
    parts: Iterator[_Part]
    if options.ignore and inputs is None:
        raise InputError(
            "--ignore is for columns of tables and series, this model takes samples by position: leave it out"
        )
    if steps is not None:
        paths = chain.from_iterable(_files(path, FILES) for path in options.inputs)
        intervals = getattr(options, "intervals", None)
        parts = (_recording(path, shape, inputs, label, options.ignore, intervals) for path in paths)
    elif isinstance(inputs, TableSchema):
        paths = chain.from_iterable(_files(path, TABLES) for path in options.inputs)
        parts = chain.from_iterable(_rows(path, inputs, options.ignore, label) for path in paths)
    else:
        parts = map(_sample_part, read_samples(options.inputs, shape, label=label))
    first = next(parts, None)
    with tqdm(unit=" rows", unit_scale=True, disable=None, desc="reading") as bar:
        for part in chain([] if first is None else [first], parts):
            notes += part.notes
            yield part
            bar.update(len(part.source))


def _sample_part(batch: Any) -> _Part:
    return _Part(batch.x, batch.source, batch.index, batch.y)


def _files(path: str, kinds: frozenset[str]) -> list[Path]:
    """The file, or the files of such kinds in the folder."""
    return find_tables(path, kinds=kinds) if Path(path).is_dir() else [Path(path)]


def _rows(path: Path, schema: TableSchema, ignore: Sequence[str], label: str | None) -> Iterator[_Part]:
    """Encoded rows of a table by the names of its columns, or of an array by position."""
    suffix = path.suffix.lower()
    counted = all(column.name[0:1] == "x" and column.name[1:].isdecimal() for column in schema.columns)
    if suffix in ARRAYS and counted:
        batches: Iterable[pa.Table] = [read_table(path, label=label)]
    elif suffix in TABLES:
        text = {column.name for column in schema.columns if column.kind == "category"}
        batches = (pa.Table.from_batches([batch]) for batch in record_batches(path, text=text))
    else:
        if ignore:
            raise InputError(f"{path} holds encoded rows, whose columns have no names to --ignore: leave it out")
        yield from map(_sample_part, read_samples([path], (schema.size,), label=label))
        return
    row = 0
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            with naming(path):
                table, y = _chosen(batch.slice(start, BATCH), label, ignore)
                x = schema.encode(table, first=row)
            yield _Part(x, [str(path)] * len(x), np.arange(row, row + len(x)), y)
            row += len(x)
    if row == 0:
        raise InputError(f"{path} holds no rows")


def _recording(
    path: Path,
    shape: tuple[int, ...],
    inputs: Schema | None,
    label: str | None,
    ignore: Sequence[str],
    intervals: str | None,
) -> _Part:
    """One recording, with one entry a row."""
    time = y = None
    notes: tuple[str, ...] = ()
    if path.suffix.lower() == ".npy" or not isinstance(inputs, SeriesSchema):
        if ignore or intervals:
            raise InputError(f"{path} has neither names of columns nor timestamps: leave out --ignore and --intervals")
        batches = list(read_samples([path], shape[1:], label=label))
        x: Any = np.concatenate([batch.x for batch in batches])
        y = None if label is None else np.concatenate([batch.y for batch in batches if batch.y is not None])
        if isinstance(inputs, SeriesSchema) and inputs.time is not None:
            time = pa.nulls(len(x), pa.string())  # the same columns for every file
        rows = len(x)
    else:
        table = read_table(path)
        with naming(path):
            table, y = _chosen(table, label, ignore)
            x = inputs.read(table)
            done = list(x.notes)
            if intervals is not None:
                source = "/".join(path.parts[-2:])
                labels, missed = Reader(intervals=intervals).labels(source, table, x, inputs.zoned)
                y, done = labels[x.place_of_row], [*done, *missed]
        notes = tuple(f"{path}: {note}" for note in done)
        if inputs.time is not None:
            written = table.column(inputs.time).cast(pa.string()).combine_chunks()
            time = replace_substring_regex(written, r"(:\d\d)\.0+(Z?)$", r"\1\2")  # no fraction where it is 0
        rows = len(table)
    return _Part(x, [str(path)] * rows, np.arange(rows), y, time, notes)


def _chosen(table: pa.Table, label: str | None, ignore: Sequence[str]) -> tuple[pa.Table, NDArray[Any] | None]:
    """The table without its labels and what is ignored; and the labels, if they are asked for."""
    names = table.column_names
    if unknown := [name for name in ignore if name not in names]:
        raise InputError(f"no columns {listed(unknown)} to ignore: there are {listed(names)}")
    if label is not None and names.count(label) != 1:
        raise InputError(f"there must be one column {label!r} for labels, there are {listed(names)}")
    y = None if label is None else table.column(label).to_numpy()
    return table.drop_columns(list({name for name in (*ignore, label) if name is not None})), y


def _as_column(labels: NDArray[Any], where: str) -> Any:
    """Labels of all files as one Arrow column."""
    try:
        return pa.chunked_array([labels.tolist() if labels.dtype.kind in "OU" else labels])
    except pa.ArrowException:
        raise InputError(f"the labels {where} are of several types: give each file the same") from None
