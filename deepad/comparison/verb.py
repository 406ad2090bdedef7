"""`deepad compare`: run a comparison, or run one of its cells again."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deepad.comparison.engine import measured, read_cell, read_scores, run
from deepad.comparison.plan import Cell, Plan
from deepad.comparison.table import as_markdown, write_table
from deepad.errors import DeepadError, InputError

FREE = ("cost", "versions", "command")
"""What two runs of a cell need not share."""


class CellsFailedError(DeepadError):
    """Some cells of a comparison ended with an error; all others are kept, and the table is written."""


class NotReproducedError(DeepadError):
    """A cell that was run again gave something else."""


def compare(options: Namespace, say: Callable[..., None]) -> None:
    """Run what a YAML file asks for and write the table, or verify one cell."""
    if options.verify is not None:
        return verify(Path(options.verify), options, say)
    if options.config is None:
        raise InputError("give --config FILE of a comparison, or --verify CELL")
    jobs = _processors() if options.jobs is None else options.jobs
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {jobs}")
    plan, name = Plan.read(options.config), Path(options.config).stem
    folder = Path(options.output or f"runs/{name}")
    try:
        with tqdm(total=len(plan.cells()), unit=" cells", desc=name, disable=None) as bar:
            run(plan, folder, jobs, bar, retry=options.retry)
        found = write_table(plan, folder, name)
    except OSError as failed:
        why = f"{failed.filename or folder}: {failed.strerror or failed}"
        raise InputError(
            f"cannot write {why}; the cells that are done are kept: mend that and run it again to go on"
        ) from failed
    report = {"output": str(folder), "metric": found.metric, "leaderboard": found.rows, "failed": dict(found.failed)}
    short = as_markdown(found, name).split("\n\n")[1]
    say(report, f"{short}\n\ntable   {folder}/leaderboard.md\nreport  {folder}/report.html", options.json)
    if found.failed:
        sys.stdout.flush()
        first, error = found.failed[0]
        raise CellsFailedError(
            f"{len(found.failed)} of {len(plan.cells())} cells failed, such as {first}: {error}; the others are kept, "
            "--retry runs these again"
        )


def _processors() -> int:
    """Processors that this process may use, or all where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def verify(path: Path, options: Namespace, say: Callable[..., None]) -> None:
    """Run a kept cell again and compare everything but its cost.

    The file says what is run, but nothing is imported for it: classes other than ours come from `--config` alone.

    Raises:
        InputError: no such cell, one that failed, or one of another plan.
        NotReproducedError: something differs.
    """
    kept = read_cell(path)
    if kept is None:
        raise InputError(f"no cell at {path}: give the JSON file of one, DIR/cells/DATA/MODEL/SEED.json")
    if "plan" not in kept:
        raise InputError(f"{path} is a cell that failed ({kept['error']}): there is nothing to compare")
    from deepad.comparison.cell import Bench

    plan = Plan.of(kept["plan"], kept=True) if options.config is None else Plan.read(options.config)
    cell = _cell_of(plan, kept, path)
    again, scores = measured(Bench(plan, cell.data, cell.seed), cell)
    odd = list(_differences({key: value for key, value in kept.items() if key in again.keys() - set(FREE)}, again))
    before = read_scores(path)
    if before is not None and scores:
        odd += [f"scores[{name}]" for name in scores if before[name].tobytes() != scores[name].tobytes()]
    versions = [f"{name} {old} is now {now}" for name, old in kept.get("versions", {}).items()
                if (now := again.get("versions", {}).get(name)) != old]  # fmt: skip
    if odd:
        known = f"; versions differ: {', '.join(versions)}" if versions else ""
        more = f" and {len(odd) - 8} more" if len(odd) > 8 else ""
        raise NotReproducedError(f"{kept['cell']} gave something else: {'; '.join(odd[:8])}{more}{known}")
    count = len(scores.get("score", ()))
    text = f"{kept['cell']}: identical, {count} scores bit for bit, splits, model and all metrics"
    say({"cell": kept["cell"], "identical": True, "scores": count, "versions_changed": versions}, text, options.json)


def _cell_of(plan: Plan, kept: Mapping[str, Any], path: Path) -> Cell:
    for cell in plan.cells():
        if cell.name == kept["cell"] and cell.digest == kept["digest"]:
            return cell
    raise InputError(f"{path} holds {kept['cell']} of another plan than the one given: it was altered, or is not of it")


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Paths at which two documents of plain values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in before.keys() | (now.keys() if where else ()):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif before != now:
        yield f"{where} {before!r} is now {now!r}"
