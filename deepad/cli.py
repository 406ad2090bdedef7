"""The `deepad` command. Each verb imports what it needs when it runs, so `--help` and `--version` answer at once.

Exit status: 0 done, 1 refused or failed (one line on standard error says why), 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import deepad
from deepad.errors import DeepadError

if TYPE_CHECKING:
    import numpy as np

    from deepad.data.files import Batch

INPUTS = "image, folder of images, .npy, .npz, .csv, .parquet or IDX file"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
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
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is its right
        return 0
    return 0


def _fail(message: str, status: int = 1) -> int:
    printable = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    sys.stderr.write(f"deepad: error: {printable}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("deepad", description="Deep anomaly detection with calibrated false-alarm rates.")
    parser.add_argument("--version", action="version", version=f"deepad {deepad.__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    verbs.add_parser("fit", help="train, calibrate and test from a config; writes a run folder", add_help=False)

    score = verbs.add_parser("score", help="judge files with a saved scorer")
    score.set_defaults(verb=_score)
    _add_scorer_and_inputs(score)
    score.add_argument("--output", metavar="FILE", help=".csv, .parquet or .jsonl; standard output if not given")

    evaluate = verbs.add_parser("evaluate", help="judge labelled files and say how well")
    evaluate.set_defaults(verb=_evaluate)
    _add_scorer_and_inputs(evaluate)
    evaluate.add_argument(
        "--labels", required=True, metavar="WHERE", help="file of labels, or the name of a column or array of the input"
    )  # fmt: skip
    evaluate.add_argument(
        "--anomalous", nargs="+", default=["1"], metavar="VALUE", help="labels that mean anomaly (default: 1)"
    )

    calibrate = verbs.add_parser("calibrate", help="make a scorer from a checkpoint and normal files, without training")
    calibrate.set_defaults(verb=_calibrate)
    calibrate.add_argument("inputs", nargs="+", metavar="INPUT", help=f"normal samples: {INPUTS}")
    calibrate.add_argument("--checkpoint", required=True, metavar="FILE", help="Lightning checkpoint of a detector")
    calibrate.add_argument("--output", required=True, metavar="DIR", help="where to save the scorer")
    calibrate.add_argument("--alpha", type=float, default=0.05, help="false-alarm rate (default: 0.05)")
    _add_guarantee(calibrate)

    info = verbs.add_parser("info", help="say what a saved scorer is and what it promises")
    info.set_defaults(verb=_info)
    info.add_argument("scorer", metavar="DIR", help="folder of a saved scorer")
    for verb in (score, evaluate, calibrate, info):
        verb.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _add_scorer_and_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=INPUTS)
    parser.add_argument("--scorer", required=True, metavar="DIR", help="folder of a saved scorer")
    parser.add_argument("--alpha", type=float, help="false-alarm rate (default: the scorer's own)")
    _add_guarantee(parser)


def _add_guarantee(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind", choices=("marginal", "pac"), help="guarantee (default: the scorer's own, or marginal)"
    )
    parser.add_argument(
        "--delta", type=float, help="for --kind pac: allowed probability of an unlucky calibration draw"
    )


def _fit(arguments: list[str]) -> None:
    from deepad.versions import require_matching_torchvision

    require_matching_torchvision()  # before Lightning, which would fail without saying why
    from deepad import fit

    fit.main(arguments)


def _score(options: argparse.Namespace) -> None:
    from deepad.scoring.records import as_table, open_table
    from deepad.scoring.scorer import Scorer

    scorer = Scorer.load(options.scorer)
    n = flagged = invalid = 0
    batches = _read(options, scorer.model.shape)
    first, name = next(batches), scorer.id[:12]
    with open_table(options.output, kind=".jsonl" if options.json else ".csv") as writer:
        for batch in chain([first], batches):
            verdict = scorer(batch.x, alpha=options.alpha, kind=options.kind, delta=options.delta)
            writer.write(as_table(verdict, batch.source, batch.index, name))
            n, flagged, invalid = (
                n + len(verdict),
                flagged + int(verdict.flagged.sum()),
                invalid + int(verdict.invalid.sum()),
            )
    low, high = verdict.guarantee.future_alarms(n)
    report = {
        "n": n,
        "flagged": flagged,
        "invalid": invalid,
        "if_all_normal_95": [low, high],
        "threshold": verdict.threshold,
        "guarantee": verdict.guarantee.to_dict(),
        "output": options.output,
    }
    text = (
        f"{n} samples, {flagged} flagged ({invalid} without a score); if all were normal, {low} to {high} would be "
        f"flagged with 95 % probability\n{verdict.guarantee}"
        + (f"\nrows in {options.output}" if options.output else "")
    )
    _print(report, text, options.json, sys.stdout if options.output else sys.stderr)


def _evaluate(options: argparse.Namespace) -> None:
    import numpy as np

    from deepad.errors import InputError
    from deepad.evaluation.metrics import evaluate
    from deepad.scoring.scorer import Scorer

    scorer = Scorer.load(options.scorer)
    named = not Path(options.labels).is_file()
    labels: list[np.ndarray[Any, Any]] = []

    def samples() -> Iterator[np.ndarray[Any, Any]]:
        for batch in _read(options, scorer.model.shape, options.labels if named else None):
            if named:
                if batch.y is None:
                    raise InputError(f"no labels at {options.labels}: give a file, or the name of a column or array")
                labels.append(np.asarray(batch.y))
            yield batch.x

    verdict = scorer(samples(), alpha=options.alpha, kind=options.kind, delta=options.delta)
    if not named:
        from deepad.data.files import read_labels

        labels.append(read_labels(Path(options.labels)))
    result = evaluate(verdict, _is_anomaly(np.concatenate(labels), options.anomalous))
    at, ranking = result["at_threshold"], result["ranking"]
    lines = [f"{name}: {'undefined' if value is None else value}" for name, value in {**ranking, **at}.items()]
    _print(result, "\n".join([*lines, str(verdict.guarantee)]), options.json)


def _calibrate(options: argparse.Namespace) -> None:
    from deepad.detectors.base import Detector
    from deepad.scoring.scorer import Scorer

    detector = Detector.from_checkpoint(options.checkpoint)
    samples = (batch.x for batch in _read(options, detector.shape))
    kind = options.kind or ("marginal" if options.delta is None else "pac")
    scorer = Scorer.calibrate(detector, samples, alpha=options.alpha, kind=kind, delta=options.delta)
    scorer.save(options.output)
    guarantee = scorer.threshold.guarantee
    _print({"scorer": options.output, **scorer.describe()}, f"{guarantee}\nscorer in {options.output}", options.json)


def _info(options: argparse.Namespace) -> None:
    from deepad.scoring.scorer import Scorer

    scorer = Scorer.load(options.scorer)
    report = scorer.describe()
    model, n = report["model"], scorer.calibration.n
    text = (
        f"{model['tag']} for samples of shape {tuple(model['shape'])}, id {report['id'][:12]}\n"
        f"{scorer.threshold.guarantee}\nthreshold {scorer.threshold.value:.6g}; smallest alpha from {n} calibration "
        f"samples: {1 / (n + 1):.3g} (marginal)"
    )
    _print(report, text, options.json)


def _read(options: argparse.Namespace, shape: tuple[int, ...], label: str | None = None) -> Iterator["Batch"]:
    """Batches of the inputs under a progress bar, which shows on terminals only."""
    from tqdm import tqdm

    from deepad.data.files import read_samples

    batches = read_samples(options.inputs, shape, label=label)
    first = next(batches, None)
    with tqdm(unit=" samples", unit_scale=True, disable=None, desc="reading") as bar:
        for batch in chain([] if first is None else [first], batches):
            yield batch
            bar.update(len(batch.x))


def _is_anomaly(labels: "np.ndarray[Any, Any]", anomalous: Sequence[str]) -> "np.ndarray[Any, Any]":
    """1 where a label is one of the values given on the command line, which are numbers if the labels are."""
    import numpy as np

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


def _print(report: dict[str, Any], text: str, as_json: bool, file: Any = None) -> None:
    print(json.dumps(report, indent=1) if as_json else text, file=file or sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
