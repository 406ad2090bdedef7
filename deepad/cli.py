"""The `deepad` command. Each verb imports what it needs when it runs, so `--help` and `--version` answer at once.

Exit status: 0 done, 1 refused or failed (one line on standard error says why), 2 wrong usage, 130 and 143 interrupted
or terminated, with everything half-written removed.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import deepad
from deepad.errors import DeepadError, raising_once, visible

INPUTS = "image, folder of images or of tables, .npy, .npz, .csv, .parquet or IDX file"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _Terminated(BaseException):
    """SIGTERM has arrived."""


@contextmanager
def _unwinding_on_sigterm() -> Iterator[None]:
    """SIGTERM raises, so that files and processes are cleaned up; a caller's own handling of it is kept."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, raising_once(_Terminated))
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _unwinding_on_sigterm():
            if arguments[:1] == ["fit"]:
                _fit(arguments[1:])
                return 0
            options = _parser().parse_args(arguments)
            options.verb(options)
            sys.stdout.flush()
    except DeepadError as error:
        return _fail(str(error))
    except (ValueError, TypeError) as error:
        if not type(error).__module__.startswith(("builtins", "deepad")):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except _Terminated:
        return _fail("terminated", 143)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is its right
        return 0
    except OSError as error:  # a disk that is full or fails
        return _fail(f"{error.filename or 'cannot read or write'}: {error.strerror or error}")
    return 0


def _fail(message: str, status: int = 1) -> int:
    sys.stderr.write(f"deepad: error: {visible(' '.join(message.split()))}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("deepad", description="Deep anomaly detection with calibrated false-alarm rates.")
    parser.add_argument("--version", action="version", version=f"deepad {deepad.__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    verbs.add_parser("fit", help="train, calibrate and test from a config; writes a run folder", add_help=False)

    score = verbs.add_parser("score", help="judge files with a saved scorer")
    score.set_defaults(verb=_with("deepad.verbs", "score"))
    _add_scorer_and_inputs(score)
    score.add_argument("--output", metavar="FILE", help=".csv, .parquet or .jsonl; standard output if not given")
    score.add_argument(
        "--monitor", action="store_true", help="say as well whether the scores show that the calibration is stale"
    )

    evaluate = verbs.add_parser("evaluate", help="judge labelled files and say how well")
    evaluate.set_defaults(verb=_with("deepad.verbs", "evaluate"))
    _add_scorer_and_inputs(evaluate)
    where = evaluate.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--labels", metavar="WHERE", help="file of labels, or the name of a column or array of the input"
    )
    where.add_argument(
        "--intervals", metavar="FILE", help="series: JSON file of anomalous times by recording, {name: [[start, end]]}"
    )
    evaluate.add_argument(
        "--anomalous", nargs="+", default=["1"], metavar="VALUE", help="labels that mean anomaly (default: 1)"
    )

    explain = verbs.add_parser("explain", help="say why samples have their scores")
    explain.set_defaults(verb=_with("deepad.looking", "explain"))
    explain.add_argument("inputs", nargs="+", metavar="INPUT", help=INPUTS)
    explain.add_argument("--scorer", required=True, metavar="DIR", help="folder of a saved scorer")
    which = explain.add_mutually_exclusive_group()
    which.add_argument("--rows", metavar="LIST", help="numbers of the rows, from 0: 3,17 or 20-25")
    which.add_argument("--top", type=int, default=20, metavar="N", help="those with the highest scores (default: 20)")

    report = verbs.add_parser("report", help="make the page of a run again from its files")
    report.set_defaults(verb=_with("deepad.looking", "report"))
    report.add_argument("run", metavar="DIR", help="folder of a run")
    report.add_argument("--explore", action="store_true", help="a page to look around in, of a series or of images")
    report.add_argument(
        "--output", metavar="FILE", help="where the page goes (default: report.html or explore.html of the run)"
    )

    calibrate = verbs.add_parser("calibrate", help="make a scorer from a checkpoint and normal files, without training")
    calibrate.set_defaults(verb=_with("deepad.verbs", "calibrate"))
    calibrate.add_argument("inputs", nargs="+", metavar="INPUT", help=f"normal samples: {INPUTS}")
    calibrate.add_argument("--checkpoint", required=True, metavar="FILE", help="Lightning checkpoint of a detector")
    calibrate.add_argument("--output", required=True, metavar="DIR", help="where to save the scorer")
    calibrate.add_argument(
        "--reference", type=int, default=256, metavar="N",
        help="calibration samples that the scorer keeps, in the clear, to explain with (default: 256)",
    )  # fmt: skip
    _add_level(calibrate)
    _add_guarantee(calibrate)
    _add_events(calibrate)

    info = verbs.add_parser("info", help="say what a saved scorer is and what it promises")
    info.set_defaults(verb=_with("deepad.verbs", "info"))
    info.add_argument("scorer", metavar="DIR", help="folder of a saved scorer")
    info.add_argument("--verify", action="store_true", help="check that it is whole, without building its model")

    compare = verbs.add_parser("compare", help="models x data sets x seeds from one YAML to one table")
    compare.set_defaults(verb=_with("deepad.comparison.verb", "compare"))
    compare.add_argument("--config", metavar="FILE", help="YAML of the comparison, see configs/compare-*.yaml")
    compare.add_argument("--output", metavar="DIR", help="where its cells and table go (default: runs/NAME)")
    compare.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: one a processor)")
    compare.add_argument("--retry", action="store_true", help="run cells again that failed")
    compare.add_argument("--verify", metavar="CELL", help="run this cell (its JSON file) again and compare bit for bit")

    generate = verbs.add_parser("generate", help="write synthetic data whose anomalies are known")
    generate.set_defaults(verb=_generate, misused=generate.error)
    _add_generation(generate)
    for verb in (score, evaluate, explain):
        verb.add_argument("--report", metavar="FILE", help="write a page to look at, .html")
    for verb in (score, evaluate, explain, calibrate):
        verb.add_argument("--ignore", nargs="+", default=[], metavar="COLUMN", help="columns of a table to leave out")
    for verb in (score, evaluate, explain, report, calibrate, info, compare, generate):
        verb.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _add_scorer_and_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=INPUTS)
    parser.add_argument("--scorer", required=True, metavar="DIR", help="folder of a saved scorer")
    parser.add_argument("--alpha", type=float, help="false-alarm rate (default: the scorer's own)")
    _add_guarantee(parser)


def _add_guarantee(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind",
        choices=("marginal", "pac", "simultaneous", "block", "model", "none"),
        help="guarantee (default: the scorer's own, or marginal)",
    )
    parser.add_argument(
        "--delta", type=float, help="for pac and simultaneous: allowed probability of an unlucky calibration draw"
    )


def _add_level(parser: argparse.ArgumentParser) -> None:
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--alpha", type=float, help="false-alarm rate (default: 0.05)")
    level.add_argument(
        "--budget", metavar="TEXT", help='false alarms in a time, "2 per week", or "3 per 10000" samples'
    )
    level.add_argument("--tiers", metavar="LEVELS", help="tiers of severity, warning=1e-2,critical=1e-3")
    level.add_argument(
        "--threshold-rule",
        metavar="RULE",
        help="classical rule and its certified range: sigma:3, iqr:1.5, mad:3.5, ...",
    )
    parser.add_argument("--volume", metavar="TEXT", help='samples in a time, "20000 per day", for --budget')
    parser.add_argument(
        "--groups", metavar="NAME", help="a threshold for each group: a column, or hour or weekday of the times"
    )
    parser.add_argument("--min-group", type=int, metavar="N", help="merge groups of fewer samples into one")


def _add_events(parser: argparse.ArgumentParser) -> None:
    series = parser.add_argument_group("series", "lengths are steps, or times such as '1 day'")
    series.add_argument("--rule", help="how steps are scored: last (default), window, mean, median, max, cover")
    series.add_argument("--block", metavar="LENGTH", help="what is exchangeable, such as a day; promises need it")
    series.add_argument("--slot", metavar="LENGTH", help="at most one alert in each (default: a block)")
    series.add_argument("--persistence", metavar="M/W", help="alarm when M of the last W steps are above the threshold")
    series.add_argument("--standardize", metavar="LENGTH", help="take level and spread of the last steps out of scores")


def _add_generation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="which data; see --list")
    parser.add_argument("--list", action="store_true", help="say which data there are, with columns and patterns")
    parser.add_argument("--output", metavar="FILE", help=".csv, .parquet or .jsonl; standard output if not given")
    parser.add_argument("--no-labels", action="store_true", help="leave out the columns label and pattern")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other data (default: 0)")
    for name, kind, meaning in (
        ("--rows", int, "number of rows"),
        ("--rate", float, "share of anomalous rows, 0 <= rate < 0.5"),
        ("--severity", float, "how far from normal, 1 is usual"),
        ("--duration", float, "mean rows of an episode, where there are episodes"),
        ("--anomaly-free", float, "series: share of the beginning without anomalies"),
    ):
        parser.add_argument(name, type=kind, default=argparse.SUPPRESS, help=meaning)
    parser.add_argument("--patterns", nargs="+", default=argparse.SUPPRESS, help="anomalies to inject (default: all)")


def _fit(arguments: list[str]) -> None:
    from deepad.versions import require_matching_torchvision

    require_matching_torchvision()  # before Lightning, which would fail without saying why
    from deepad import fit

    fit.main(arguments)


def _with(module: str, name: str) -> Callable[[argparse.Namespace], None]:
    """A verb of a module that is imported, with torch, when it runs."""

    def verb(options: argparse.Namespace) -> None:
        getattr(import_module(module), name)(options, say)

    return verb


def _generate(options: argparse.Namespace) -> None:
    from deepad.data.synthetic import GENERATORS, generate
    from deepad.scoring.records import open_table

    if options.list:
        return _list_generators(options)
    if options.name is None:
        options.misused("give the NAME of the data, or --list")
    settings = ("rows", "rate", "severity", "duration", "anomaly_free", "patterns")
    arguments = {name: value for name, value in vars(options).items() if name in settings}
    table = generate(options.name, seed=options.seed, **arguments)
    counts = sorted((row["values"], row["counts"]) for row in table["pattern"].value_counts().to_pylist())
    patterns = {name: n for name, n in counts if name}
    anomalies = sum(patterns.values())
    time = GENERATORS[options.name].time
    if time and (options.json if options.output is None else options.output.lower().endswith(".jsonl")):
        table = table.set_column(0, time, table[time].cast("string"))  # JSON has no timestamps
    with open_table(options.output, kind=".jsonl" if options.json else ".csv") as writer:
        writer.write(table.drop_columns(["label", "pattern"]) if options.no_labels else table)
    report = {"generator": options.name, "seed": options.seed, "rows": len(table), "anomalies": anomalies}
    held = ", ".join(f"{name} {n}" for name, n in patterns.items()) or "none"
    where = f" in {options.output}" if options.output else ""
    text = f"{len(table)} rows of {options.name}, seed {options.seed}{where}\n{anomalies} of them anomalous: {held}"
    report |= {"patterns": patterns, "output": options.output}
    say(report, text, options.json, sys.stdout if options.output else sys.stderr)


def _list_generators(options: argparse.Namespace) -> None:
    from deepad.data.synthetic import GENERATORS

    report = {
        name: {
            "kind": generator.kind,
            "purpose": generator.purpose,
            "columns": generator.make(rows=10, rate=0).column_names[:-2],
            "patterns": list(generator.patterns),
        }
        for name, generator in GENERATORS.items()
    }
    text = "\n".join(
        f"{name}: {entry['purpose']} ({entry['kind']})\n  columns: {', '.join(entry['columns'])}\n"
        f"  patterns: {', '.join(entry['patterns'])}"
        for name, entry in report.items()
    )
    say(report, text, options.json)


def say(report: dict[str, Any], text: str, as_json: bool, file: Any = None) -> None:
    """Print a report, as text for people or as JSON for machines; a name in it cannot steer the terminal."""
    print(json.dumps(report, indent=1) if as_json else visible(text, keep="\n"), file=file or sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
