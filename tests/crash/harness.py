"""Kills commands at every write, flush, rename and removal, and does what the next start says: `make crash`.

One warm process forks a child for each point. In the child the calls that change files are counted, and at the k-th it
kills itself: before the call, or in the middle of it where it writes. Then the same command is started again, what it
says is followed, and the end is compared with that of an uninterrupted run, bit for bit. With `--terminate` it is asked
to end instead of killed, and has to clean up as well.
"""

import argparse
import builtins
import io
import json
import mmap
import multiprocessing
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tqdm import tqdm

CALLS = ("replace", "rename", "fsync", "unlink", "write", "mkdir", "chmod")
TINY = ["--model.hidden_dims=[8]", "--model.latent_dim=3", "--model.noise=0.2", "--model.dropout=0.2"]
FIT = ["fit", "--model=DenseAutoencoder", *TINY, "--trainer.max_epochs=3", "--run=run"]
SERIES = ["--data=Series", "--data.generator=sensors", "--data.generator_args={rows: 1200}", "--data.window_size=8"]
COMPARISON = """
data: {digits: {class_path: Digits}}
models:
  z: ZScore
  dense: {class_path: DenseAutoencoder, init_args: {hidden_dims: [8], latent_dim: 3}, trainer: {max_epochs: 1}}
"""


class Points:
    """Counts in memory that the processes of one command share, and kills the one that reaches a number."""

    def __init__(self):
        self.shared, self.deadly, self.signal = mmap.mmap(-1, 8), 0, signal.SIGKILL

    @property
    def count(self):
        return struct.unpack("q", self.shared[:8])[0]

    def reset(self, deadly):
        self.shared[:8], self.deadly = struct.pack("q", 0), deadly

    def passed(self, last_act=lambda: None):
        self.shared[:8] = struct.pack("q", self.count + 1)
        if self.count == self.deadly:
            last_act()
            os.kill(os.getpid(), self.signal)


POINTS = Points()


class Counted(io.BufferedWriter):
    """A file whose writer may be killed when half of what it writes is on the disk."""

    def write(self, data):
        def half():
            view = memoryview(data).cast("B")
            io.BufferedWriter.write(self, view[: len(view) // 2])
            self.flush()

        POINTS.passed(half)
        return super().write(data)


def arm():
    """Count the calls of this process and of those that it forks."""
    for name in CALLS:
        true = getattr(os, name)

        def counted(*arguments, true=true, **options):
            POINTS.passed()
            return true(*arguments, **options)

        setattr(os, name, counted)
    true_fdopen = os.fdopen
    os.fdopen = lambda handle, mode="r", *rest: (
        Counted(io.FileIO(handle, mode)) if mode == "wb" else true_fdopen(handle, mode, *rest)
    )
    true_open = builtins.open

    def opened(file, mode="r", *arguments, **options):
        if not set(mode) & set("wax"):
            return true_open(file, mode, *arguments, **options)
        POINTS.passed()
        made = true_open(file, mode, *arguments, **options)
        POINTS.passed()  # it is there, and empty
        return made

    builtins.open = opened
    # workers of a comparison are forked as well: they need not import torch again, and are counted
    context = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: context


def child(act, deadly=0, count=False):
    """Run `act` in a process of its own: its exit status (negative: the signal), what it printed, points passed."""
    POINTS.reset(deadly)
    alive, held = os.pipe()
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        process = os.fork()
        if not process:
            os.close(alive)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            status = 70
            try:
                if deadly or count:
                    arm()
                status = act()
            except SystemExit as stop:
                status = stop.code
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status or 0)
        os.close(held)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        while os.read(alive, 1):  # until those that it has started have ended too
            pass
        os.close(alive)
        said.seek(0)
        return status, said.read().decode(), POINTS.count


def command(*arguments):
    """What runs `deepad` with arguments."""

    def act():
        from deepad.cli import main

        return main(list(arguments))

    return act


def succeed(*arguments):
    status, said, _ = child(command(*arguments))
    assert status == 0, f"deepad {' '.join(arguments)} ended with {status}: {said}"
    return said


def scorer_in(folder):
    """Every file of a scorer, but for the time at which it was made."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = json.loads(files.pop("scorer.json"))
    return files, {name: value for name, value in manifest.items() if name not in ("created_utc", "sha256")}


class Workload:
    """A command: `prepare` makes what is there before it, `recover` does what the next start says."""

    is_command = True

    def prepare(self):
        pass

    def act(self):
        raise NotImplementedError

    def require_whole(self, before):
        """Right after the kill: what was finished before is as it was, or replaced as a whole."""

    def recover(self):
        status, said, _ = child(self.act)
        assert status == 0, said

    def result(self):
        """What must be the same bits in the end."""
        raise NotImplementedError


class Fit(Workload):
    def __init__(self, data):
        self.arguments = [*FIT, *data]

    def act(self):
        return command(*self.arguments)()

    def recover(self):
        status, said, _ = child(self.act)
        if status == 0:
            return
        assert status == 1, said
        assert said.count("\n") == 1, said
        if "holds a finished run" in said:
            return succeed("report", "run")
        go_on = re.search(r"(--ckpt_path=\S+) to go on", said)
        assert go_on or "--overwrite to replace it" in said, said
        assert go_on or not list(Path("run").rglob("*.ckpt")), said
        succeed(*self.arguments, go_on[1] if go_on else "--overwrite")

    def result(self):
        metrics = json.loads(Path("run/metrics.json").read_text())
        assert "</html>" in Path("run/report.html").read_text()
        known = {name: metrics[name] for name in ("id", "test", "floors", "guarantee")}
        return known, scorer_in(Path("run/scorer")), Path("run/scores.parquet").read_bytes()


class Calibrate(Workload):
    """Over an older scorer of another level."""

    def act(self):
        return command("calibrate", "--checkpoint", "best.ckpt", "normal.npy", "--output", "scorer")()

    def prepare(self):
        make_model()
        succeed("calibrate", "--checkpoint", "best.ckpt", "normal.npy", "--output", "scorer", "--alpha", "0.2")

    def require_whole(self, before):
        said = json.loads(succeed("info", "scorer", "--json"))
        assert said["id"] in (before, self.after)

    def state(self):
        return json.loads(succeed("info", "scorer", "--json"))["id"]

    def result(self):
        self.after = self.state()
        return scorer_in(Path("scorer"))


class Save(Calibrate):
    """In Python, where nobody listens to SIGTERM."""

    is_command = False

    def act(self):
        from deepad import Scorer

        Scorer.load("other").save("scorer")
        return 0

    def prepare(self):
        super().prepare()
        succeed("calibrate", "--checkpoint", "best.ckpt", "normal.npy", "--output", "other", "--alpha", "0.01")


class Score(Workload):
    """Over an older output."""

    def __init__(self, ending):
        self.output = Path(f"scores{ending}")

    def act(self):
        return command("score", "--scorer", "scorer", "normal.npy", "--output", str(self.output))()

    def prepare(self):
        make_model()
        succeed("calibrate", "--checkpoint", "best.ckpt", "normal.npy", "--output", "scorer")
        succeed("score", "--scorer", "scorer", "some.npy", "--output", str(self.output))

    def state(self):
        return self.output.read_bytes()

    def require_whole(self, before):
        assert self.state() in (before, self.after)

    def result(self):
        self.after = self.state()
        return self.after


class Compare(Workload):
    def act(self):
        return command("compare", "--config", "c.yaml", "--output", "out", "--jobs", "1")()

    def prepare(self):
        Path("c.yaml").write_text(COMPARISON)

    def kept(self):
        """Cells that are done; each has its scores."""
        import numpy as np

        found = {}
        for path in Path("out").glob("cells/*/*/*.json"):
            if json.loads(path.read_text())["error"] is None:
                found[path] = path.read_bytes()
                with np.load(path.with_suffix(".npz")) as scores:
                    assert len(scores["score"]) == len(scores["y"])
        return found

    def recover(self):
        before = self.kept()
        status, said, _ = child(self.act)
        if status:
            assert "--retry runs these again" in said, said
            succeed("compare", "--config", "c.yaml", "--output", "out", "--jobs", "1", "--retry")
        assert before.items() <= self.kept().items(), "a cell that was done is not as it was"

    def result(self):
        table = {name: Path("out", name).read_bytes() for name in ("leaderboard.csv", "cells.csv", "sets.csv")}
        return table, {str(path): path.read_bytes() for path in sorted(Path("out").rglob("*.npz"))}


WORKLOADS = {
    "fit": Fit(["--data=Digits"]),
    "fit on a series": Fit(SERIES),
    "calibrate": Calibrate(),
    "save": Save(),
    "score to .csv": Score(".csv"),
    "score to .parquet": Score(".parquet"),
    "compare": Compare(),
}


def make_model():
    """`best.ckpt` of a short training, `normal.npy` that it has not seen, and some of its rows in `some.npy`."""
    made = Path("../../model")
    if not made.exists():
        succeed(*FIT, "--data=Digits")
        status, said, _ = child(rows)
        assert status == 0, said
        made.mkdir()
        for path in (Path("run/checkpoints/best.ckpt"), *Path().glob("*.npy")):
            path.rename(made / path.name)
        shutil.rmtree("run")
    for path in made.iterdir():
        shutil.copy(path, path.name)


def rows():
    """The calibration rows of the training, and some of them."""
    import numpy as np

    from deepad.data import Digits

    held = Digits().splits.calibration
    x = held.x[held.index].numpy()
    np.save("normal.npy", x)
    np.save("some.npy", x[:50])
    return 0


def warm():
    """Import what the commands need, and start nothing."""

    from deepad.rooms import members

    for room, contract in (("data", "DataModule"), ("detectors", "Detector"), ("baselines", "Baseline")):
        members(room, contract)


def require_ended(work, status, said):
    """Of a comparison it may have been a process of its cells, of which it tells."""
    if POINTS.signal == signal.SIGKILL:
        assert status == -signal.SIGKILL or isinstance(work, Compare), f"status {status}: {said}"
        return
    ended = (status, said.splitlines()[-1:]) == (143, ["deepad: error: terminated"])
    # a process of cells that had kept its last one takes nothing with it
    assert ended or (isinstance(work, Compare) and status in (0, 1)), f"status {status}: {said}"
    assert not list(Path().rglob(".writing-*"))


def try_points(name, base, most=None, quiet=False, signals=(signal.SIGKILL,)):
    """Kill a workload at each of its points, or at so many that are spread evenly; what became of it, in numbers."""
    work, here, started = WORKLOADS[name], base / "now", time.perf_counter()
    before = base / "before"

    def restore():
        os.chdir(base)
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(before, here)
        os.chdir(here)

    before.mkdir(parents=True)
    os.chdir(before)
    work.prepare()
    restore()
    state = work.state() if hasattr(work, "state") else None
    status, said, total = child(work.act, count=True)
    assert status == 0, said
    wanted = work.result()
    chosen = list(range(1, total + 1))
    if most is not None and total > most:
        chosen = [round(total * (2 * i + 1) / (2 * most)) for i in range(most)]
    failed = []
    for point in tqdm(chosen, desc=name, unit=" points", disable=quiet):
        restore()
        POINTS.signal = signals[chosen.index(point) % len(signals)] if work.is_command else signal.SIGKILL
        status, said, _ = child(work.act, deadly=point)
        try:
            require_ended(work, status, said)
            work.require_whole(state)
            work.recover()
            assert work.result() == wanted, "the end is another"
            left = [str(path) for path in here.rglob(".writing-*")]
            assert not left, f"left behind: {left}"
        except Exception as error:
            failed.append({"point": point, "error": f"{type(error).__name__}: {error}"})
    seconds = round(time.perf_counter() - started, 1)
    return {"workload": name, "points": total, "tried": len(chosen), "failed": failed, "seconds": seconds}


def main():
    """Try the workloads that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=", ".join(WORKLOADS))
    parser.add_argument("--sample", type=int, help="points of each (default: every one)")
    parser.add_argument("--terminate", action="store_true", help="SIGTERM in place of SIGKILL")
    parser.add_argument("--mixed", action="store_true", help="SIGTERM at every other point")
    parser.add_argument("--json", action="store_true", help="a JSON document a line")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    signals = [signal.SIGTERM if options.terminate else signal.SIGKILL]
    warm()
    good = True
    with tempfile.TemporaryDirectory() as base:
        for i, name in enumerate(options.workloads or WORKLOADS):
            if options.terminate and not WORKLOADS[name].is_command:
                continue
            place = Path(base).resolve() / str(i)
            if options.mixed:  # the first in one workload, the last in the next
                signals = [signal.SIGKILL, signal.SIGTERM][:: 1 if i % 2 == 0 else -1]
            found = try_points(name, place, options.sample, options.json, signals)
            os.chdir(base)
            good = good and not found["failed"]
            survived = found["tried"] - len(found["failed"])
            text = (
                f"{name}: {found['points']} points, {found['tried']} tried, {survived} survived, {found['seconds']} s"
            )
            told = [f"  point {one['point']}: {one['error']}" for one in found["failed"]]
            print(json.dumps(found) if options.json else "\n".join([text, *told]), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
