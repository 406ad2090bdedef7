"""Runs the cells of a plan in processes of their own, and keeps each as soon as it is done.

A folder of a comparison:

| path                          | holds                                                                            |
|-------------------------------|----------------------------------------------------------------------------------|
| `plan.json`                   | the resolved plan, which `--config` takes as well                                |
| `cells/DATA/MODEL/SEED.json`  | one cell: its part of the plan, data and split digests, metrics, cost, versions   |
| `cells/DATA/MODEL/SEED.npz`   | the scores of its test samples and their labels                                  |
| `leaderboard.*`, `cells.csv`  | what they say together, see `table`                                              |

A cell is written at once and as a whole, so a comparison that was killed goes on where it stopped: what is done is not
run again, what was cut off is. A cell that fails is kept with its error and without scores; one whose process dies is,
too. Processes end with the one that started them.
"""

import fcntl
import json
import multiprocessing
import os
import shlex
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np

from deepad.atomic import replacing
from deepad.comparison.plan import Cell, Plan
from deepad.errors import DeepadError, InputError, raising_once

CELLS, PLAN = "cells", "plan.json"
PATIENCE = 5.0
"""Seconds that a process has to clean up before it is killed."""


def cell_path(folder: Path, data: str, model: str, seed: int) -> Path:
    """Where a cell is kept."""
    return folder / CELLS / data / model / f"{seed}.json"


def run(plan: Plan, folder: Path, jobs: int, bar: Any, *, retry: bool = False) -> None:
    """Run the cells of a plan that a folder does not hold yet.

    Args:
        plan: what is compared.
        folder: made if missing.
        jobs: processes at a time, >= 1.
        bar: progress bar over all cells, with `update`.
        retry: run cells again that failed.

    Raises:
        InputError: the folder cannot be written, is in use, or holds cells of another plan.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    with _claimed(folder):
        waiting = _units(plan, folder, bar, retry)
        with replacing(folder / PLAN) as file:
            file.write(json.dumps(plan.document, indent=1, ensure_ascii=False).encode())
        _work(plan, folder, waiting, jobs, bar)


def read_cells(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """The cells of a plan that a folder holds, in the order of the plan."""
    found = [_kept(folder, cell) for cell in plan.cells()]
    return [kept for kept in found if kept is not None]


def read_cell(path: Path) -> dict[str, Any] | None:
    """A kept cell; None if there is none.

    Raises:
        InputError: the file is not what was written.
    """
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a cell of a comparison ({error}): remove it") from None
    if not isinstance(kept, dict) or not {"cell", "digest", "error"} <= kept.keys():
        raise InputError(f"{path} is not a cell of a comparison: remove it")
    return kept


def read_scores(path: Path) -> dict[str, Any] | None:
    """The test scores beside the cell of that path, and their labels: `score` and `y`; None if there are none."""
    if not path.with_suffix(".npz").exists():
        return None
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as kept:
        return dict(kept)


def _kept(folder: Path, cell: Cell) -> dict[str, Any] | None:
    return read_cell(cell_path(folder, cell.data, cell.model, cell.seed))


@dataclass
class _Worker:
    """A process that runs cells of one data set and seed."""

    cells: list[Cell]
    process: Any = None
    pipe: Any = None
    done: set[str] = field(default_factory=set)


def _units(plan: Plan, folder: Path, bar: Any, retry: bool) -> list[list[Cell]]:
    """The cells that are to be run, those of one data set and seed together."""
    units: dict[tuple[str, int], list[Cell]] = {}
    for cell in plan.cells():
        kept = _kept(folder, cell)
        if kept is not None and kept["digest"] != cell.digest:
            raise InputError(
                f"{folder} holds {cell.name} of another plan: give another --output, or remove the cells that changed"
            )
        if kept is not None and not (retry and kept["error"]):
            bar.update()
        else:
            units.setdefault((cell.data, cell.seed), []).append(cell)
    return list(units.values())


def _work(plan: Plan, folder: Path, waiting: list[list[Cell]], jobs: int, bar: Any) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deepad.comparison.cell"])
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                worker = _Worker(waiting.pop(0))
                worker.pipe, child = context.Pipe(duplex=False)
                worker.process = context.Process(target=_serve, args=(plan, worker.cells, str(folder), child))
                worker.process.start()
                child.close()
                running.append(worker)
            for pipe in connection.wait([worker.pipe for worker in running]):
                worker = next(worker for worker in running if worker.pipe is pipe)
                try:
                    said = worker.pipe.recv()
                    if isinstance(said, OSError):  # a cell that cannot be kept is no result
                        raise said
                    worker.done.add(said)
                    bar.update()
                except EOFError:  # the process has ended
                    worker.process.join()
                    running.remove(worker)
                    left = after_death(folder, worker.cells, worker.done, worker.process.exitcode)
                    bar.update(len(worker.cells) - len(worker.done) - len(left))
                    waiting[:0] = [left] if left else []
    finally:
        end([worker.process for worker in running])


def end(processes: Sequence[Any]) -> None:
    """Ask processes to end, and kill those that have not within `PATIENCE` seconds, which is for all of them."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
    for process in processes:
        process.join()


def after_death(folder: Path, cells: Sequence[Cell], done: set[str], code: int | None) -> list[Cell]:
    """What is left of the cells of a process that has ended.

    The first that has no result is the one that it died in, and is kept with that as its error.

    Args:
        folder: of the comparison.
        cells: that the process was to run, one after the other.
        done: names of those of which it said so; it may have ended between keeping a cell and saying so.
        code: exit status of the process.
    """
    rest = [cell for cell in cells if cell.name not in done and not _has_result(folder, cell)]
    if rest:
        _keep(folder, rest[0], {"error": _death(code)}, {})
    return rest[1:]


def _has_result(folder: Path, cell: Cell) -> bool:
    kept = _kept(folder, cell)
    return kept is not None and not kept["error"]


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"the process ended with status {code}"


def _serve(plan: Plan, cells: Sequence[Cell], folder: str, pipe: Any) -> None:
    """What a process does: run its cells one after the other, and say so of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, _unwinding())
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before it is imported: each cell has one thread
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    from deepad.comparison.cell import Bench

    bench = Bench(plan, cells[0].data, cells[0].seed)
    for cell in cells:
        found, scores = measured(bench, cell)
        try:
            _keep(Path(folder), cell, found, scores)
        except OSError as error:
            pipe.send(error)
            return
        pipe.send(cell.name)


def _unwinding() -> Callable[..., None]:
    """What SIGTERM does to a process of cells: it ends, and cleans up."""
    return raising_once(lambda: SystemExit(128 + signal.SIGTERM))


def _end_with(sentinel: int) -> None:
    """End when the parent has; what is being written and the checkpoints of a training are removed."""
    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


def measured(bench: Any, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """A cell as JSON has it and its scores, or the error that it ended with, in one line."""
    try:
        found, scores = bench.measure(cell)
        return json.loads(json.dumps(found, allow_nan=False)), scores
    except DeepadError as error:
        said = str(error)
    except Exception as error:  # whatever a model raises is the result of its cell
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    return {"error": " ".join(said.split())}, {}


def _keep(folder: Path, cell: Cell, found: dict[str, Any], scores: Mapping[str, Any]) -> None:
    path = cell_path(folder, cell.data, cell.model, cell.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    if scores:  # first: where the cell is, they are
        with replacing(path.with_suffix(".npz")) as file:
            np.savez(file, **scores)
    else:
        path.with_suffix(".npz").unlink(missing_ok=True)
    names = {"cell": cell.name, "data": cell.data, "model": cell.model, "seed": cell.seed, "kind": cell.kind}
    command = shlex.join(["deepad", "compare", "--verify", str(path)])
    with replacing(path) as file:
        document = {**names, "digest": cell.digest, "command": command, **found}
        file.write((json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """One comparison at a time writes into a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(
            f"another comparison is writing into {folder}: wait for it, or give another --output"
        ) from None
    finally:
        os.close(handle)
