"""The Scorer: a model and its calibration, in one thing that is saved, loaded and used.

A scorer judges samples, or, with a rule for it, the steps of a series. It knows what its input looks like (columns of a
table, channels of a series) where the data it was trained on said so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import deepad
from deepad.channels import SeriesSchema
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector, require_fitted
from deepad.errors import ArtifactCorruptError, CalibrationMismatchError, InputError
from deepad.fingerprint import digest_of
from deepad.frames import as_frame
from deepad.rooms import members
from deepad.schema import TableSchema
from deepad.scoring.artifact import read_artifact, write_artifact
from deepad.scoring.blocks import BLOCK, Model, score_block
from deepad.scoring.conformal import TIE_RTOL, Calibration, Scores, Threshold, as_scores
from deepad.scoring.heldout import score_samples, score_stretches
from deepad.scoring.inputs import as_samples, as_series, in_blocks
from deepad.scoring.models import CONTRACTS, Schema, describe, model_id, rebuild, require_fit, schema_from_dict
from deepad.scoring.steps import CHUNK, StepScorer, score_rows
from deepad.scoring.verdict import Verdict

MANIFEST = "scorer.json"
FORMAT = "deepad.scorer"
_KEYS = frozenset({"calibration", "created_utc", "data", "decision", "deepad", "id", "inputs", "model", "steps"})
_ADDED = {2: {"inputs": None, "steps": None}}
DEPENDENT = "steps of a series depend on each other"
OVERLAPPING = "windows of a series depend on each other"


@dataclass(frozen=True, eq=False)
class Scorer:
    """A detector or baseline with its calibration: raw samples, or a raw series, in, `Verdict` out.

    Attributes:
        model: the fitted detector or baseline.
        calibration: made from this model's scores of held-out normal samples.
        alpha: false-alarm rate used when a call asks for none, in (0, 1).
        kind: guarantee used when a call asks for none.
        delta: with `kind="pac"`, the allowed probability of an unlucky calibration draw.
        provenance: plain values that say where the data came from.
        steps: how the steps of a series are scored from windows; None for a scorer of samples.
        inputs: columns of the table or channels of the series that is taken; None if that was not known in training.

    Raises:
        CalibrationMismatchError: the calibration was made from another model.
        InsufficientCalibrationError: `alpha` cannot be guaranteed.
        ValueError: a promise for steps of a series, or inputs or steps that do not fit the model.
    """

    model: Model
    calibration: Calibration
    alpha: float = 0.05
    kind: str = "marginal"
    delta: float | None = None
    provenance: dict[str, Any] | None = None
    steps: StepRule | None = None
    inputs: Schema | None = None

    def __post_init__(self) -> None:
        self._require_pair()
        require_fit(self.model.shape, self.steps, self.inputs)
        _require_promise(self.kind, _dependence(self.steps, self.inputs))
        _ = self.threshold  # an impossible promise is refused here, not at the first call

    def _require_pair(self) -> None:
        if self.calibration.scorer_id != self.id:
            raise CalibrationMismatchError(
                f"the calibration belongs to model {self.calibration.scorer_id[:12] or 'unknown'}, this model is "
                f"{self.id[:12]}: calibrate this model on held-out normal data"
            )

    # ---- making one --------------------------------------------------------------------------------------------

    @classmethod
    def calibrate(
        cls,
        model: Model,
        x: Any,
        *,
        alpha: float = 0.05,
        kind: str | None = None,
        delta: float | None = None,
        steps: StepRule | str | None = None,
        inputs: Schema | None = None,
    ) -> "Scorer":
        """Calibrate a fitted model on held-out normal samples, or on held-out normal stretches of a series.

        Args:
            model: a trained detector or a fitted baseline.
            x: normal samples (N, *shape) that neither trained nor selected the model, or an iterable of batches; with
                `steps`, normal steps (N, C) of a series, a list of unbroken stretches of it, or what `stretches` of the
                data module gives, of which only the steps that are `scored` calibrate.
            alpha: false-alarm rate, in (0, 1).
            kind: `"marginal"`, `"pac"` or `"none"`, see `deepad.scoring.guarantee`. If not given, `"marginal"` for
                samples (`"pac"` with delta) and `"none"` for steps and windows (T, C). For steps, and for
                windows where `inputs` is a series, no promise is made; to ask for one on windows of unknown origin is
                to assert that they are exchangeable, say independent sequences.
            delta: for `"pac"`, the allowed probability of an unlucky calibration draw.
            steps: how steps are scored, a rule of `deepad.data.windows` by name or with its stride; None for samples.
            inputs: the schema of the raw input; that of the data the model was trained on if not given.

        Raises:
            NotFittedError: the model has not been trained.
            DataLeakError: rows of x were used to fit or select the model.
            InsufficientCalibrationError: too few rows for `alpha`.
            NonFiniteScoreError: the model gives no finite score to a normal row.
            InputError: x cannot be used as it arrived.
        """
        if isinstance(model, Detector):
            require_fitted(model)
        inputs = schema_from_dict(model.inputs) if inputs is None else inputs
        if kind is None:
            dependent = steps is not None or len(model.shape) == 2
            kind = "none" if dependent and delta is None else "marginal" if delta is None else "pac"
        if isinstance(steps, str):
            steps = StepRule(model.shape[0], steps)  # type: ignore[arg-type] # the rule checks itself
        require_fit(model.shape, steps, inputs)
        _require_promise(kind, _dependence(steps, inputs))
        if steps is None:
            scores, calibration_rows = score_samples(model, x, inputs)
        else:
            scores, calibration_rows = score_stretches(model, x, inputs, steps)
        fit_rows = model.fit_rows
        calibration = Calibration.fit(
            scores,
            tie_rtol=TIE_RTOL if isinstance(model, Detector) else 1e-9,
            scorer_id=model_id(model),
        )
        provenance = {
            "calibration": {"n": len(calibration_rows), "digest": digest_of(calibration_rows)},
            "fit": None if fit_rows is None else {"n": len(fit_rows), "digest": digest_of(fit_rows)},
        }
        return cls(model, calibration, alpha, kind, delta, provenance, steps, inputs)

    @classmethod
    def from_checkpoint(cls, path: str | Path, x: Any, **decision: Any) -> "Scorer":
        """Calibrate the detector of a Lightning checkpoint; `x` and `decision` as in `calibrate`."""
        return cls.calibrate(Detector.from_checkpoint(str(path)), x, **decision)

    # ---- using it ----------------------------------------------------------------------------------------------

    def __call__(
        self, x: Any, *, alpha: float | None = None, kind: str | None = None, delta: float | None = None
    ) -> Verdict:
        """Judge raw samples (N, *shape), or an iterable of batches of them; with `steps`, the steps (N, C) of a series.

        Args:
            x: samples, in the units the model was trained on, or a data frame with the columns of `inputs`. With
                `steps`, an array (N, C), a list of unbroken stretches, or a data frame of a recording: the verdict has
                one entry a step, for a data frame one a row.
            alpha: false-alarm rate for this call.
            kind: guarantee for this call; if not given, the scorer's own, or `"pac"` if delta is given.
            delta: for `"pac"`.

        Raises:
            InputError: x cannot be used as it arrived.
            InsufficientCalibrationError: `alpha` cannot be guaranteed.
        """
        threshold = self._threshold_for(alpha, kind, delta)
        if self.steps is not None:
            stretches, step_of_row = as_series(x, self.model.shape[1], self.inputs)
            return self._judge(score_rows(self.model, self.steps, stretches, step_of_row), threshold)
        blocks = [score_block(self.model, block) for block in self._blocks(x)]
        if not blocks:
            raise InputError("got no samples to judge")
        return self._judge(np.concatenate(blocks), threshold)

    def stream(
        self, x: Any, *, alpha: float | None = None, kind: str | None = None, delta: float | None = None
    ) -> Iterator[Verdict]:
        """Judge as the input comes, in bounded memory; arguments as in a call.

        Samples are judged block by block. With `steps`, x is an iterable of arrays (n, C), the next steps of one
        unbroken series each, or none yet: a verdict covers the steps they decide, and all verdicts together are that of
        a call.
        """
        threshold = self._threshold_for(alpha, kind, delta)
        if self.steps is None:
            for block in self._blocks(x):
                yield self._judge(score_block(self.model, block), threshold)
            return
        scorer = StepScorer(self.model, self.steps)
        for chunk in x:
            if as_frame(chunk) is not None:
                raise InputError("a stream takes arrays (n, C): a data frame is put in order of time as a whole")
            yield self._judge(scorer.push(as_samples(chunk, self.model.shape[1:])), threshold)
        yield self._judge(scorer.close(), threshold)

    def judge(
        self, score: Any, *, alpha: float | None = None, kind: str | None = None, delta: float | None = None
    ) -> Verdict:
        """Judge scores (N,) that this scorer gave before, say at another level; other arguments as in a call."""
        return self._judge(as_scores(score), self._threshold_for(alpha, kind, delta))

    def _blocks(self, x: Any) -> Iterator[NDArray[Any]]:
        table = self.inputs if isinstance(self.inputs, TableSchema) else None
        return in_blocks(x, self.model.shape, BLOCK, table=table)

    def _threshold_for(self, alpha: float | None, kind: str | None, delta: float | None) -> Threshold:
        """The threshold of one call."""
        if kind is None:
            kind, delta = (self.kind, self.delta) if delta is None else ("pac", delta)
        without = "this scorer was calibrated without one" if self.kind == "none" else None
        _require_promise(kind, _dependence(self.steps, self.inputs) or without)
        return self.calibration.threshold(self.alpha if alpha is None else alpha, kind=kind, delta=delta)

    def _judge(self, score: Scores, threshold: Threshold) -> Verdict:
        """The verdict on scores (N,), some at a time: ranks and roundings of all at once would outweigh the scores."""
        p_value, flagged = np.empty(len(score)), np.empty(len(score), bool)
        for start in range(0, len(score), CHUNK):
            some = slice(start, start + CHUNK)
            ranks = self.calibration.ranks(score[some])
            p_value[some], flagged[some] = self.calibration.p_of_ranks(ranks), ranks <= threshold.k  # 0 is a NaN score
        unscored = None if self.steps is None else np.isnan(score)
        return Verdict(
            score=score,
            p_value=p_value,
            flagged=flagged if unscored is None else flagged & ~unscored,
            alpha=threshold.guarantee.alpha,
            threshold=threshold.value,
            guarantee=threshold.guarantee,
            unscored=unscored,
        )

    # ---- keeping it --------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Digest of everything that makes a score: class, arguments, weights and scaling."""
        return model_id(self.model)

    @property
    def threshold(self) -> Threshold:
        """The scorer's own threshold with its guarantee."""
        return self.calibration.threshold(self.alpha, kind=self.kind, delta=self.delta)

    def describe(self) -> dict[str, Any]:
        """What this scorer is, as plain values: id, model, calibration, decision and where the data came from."""
        return {
            "id": self.id,
            "model": describe(self.model),
            "calibration": self.calibration.to_dict(),
            "decision": {"alpha": self.alpha, "kind": self.kind, "delta": self.delta},
            "steps": None if self.steps is None else vars(self.steps),
            "inputs": None if self.inputs is None else self.inputs.to_dict(),
            "data": self.provenance,
        }

    def save(self, folder: str | Path) -> None:
        """Save into a folder as JSON and safetensors, atomically; what was there before is replaced.

        Raises:
            CalibrationMismatchError: the model was trained further since it was calibrated.
            InputError: the folder cannot be written, or the model is of a class that `load` would not find.
        """
        self._require_pair()
        description = self.describe()
        room, tag = description["model"]["room"], description["model"]["tag"]
        if members(room, CONTRACTS[room]).get(tag) is not type(self.model):
            raise InputError(
                f"{tag} is not one of deepad's {room}, so what is saved could not be loaded: "
                f"add it to deepad/{room} as one file"
            )
        document = {
            "format": FORMAT,
            "deepad": deepad.__version__,
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            **description,
        }
        arrays = {"model": self.model.state_arrays(), "calibration": {"scores": self.calibration.scores}}
        write_artifact(folder, MANIFEST, document, arrays)

    @classmethod
    def load(cls, folder: str | Path) -> "Scorer":
        """Load what `save` wrote. Nothing is unpickled and nothing is imported by a name from the file.

        Raises:
            ArtifactError: missing, altered, cut short, from a newer schema, or not a deepad artifact.
            CalibrationMismatchError: model and calibration do not belong together.
        """
        document, arrays = read_artifact(
            folder, MANIFEST, format=FORMAT, keys=_KEYS, added=_ADDED, groups=frozenset({"model", "calibration"})
        )
        try:
            model = rebuild(document["model"], arrays["model"])
            held = document["calibration"]
            scores = arrays["calibration"]["scores"]
            if scores.dtype != np.float64 or type(held["n"]) is not int or scores.shape != (held["n"],):
                raise ValueError("calibration scores of another size or type")
            if (np.diff(scores) < 0).any():
                raise ValueError("calibration scores are not sorted")
            calibration = Calibration.fit(scores, tie_rtol=held["tie_rtol"], scorer_id=held["scorer_id"])
            decision = document["decision"]
            if held.keys() != {"n", "tie_rtol", "scorer_id"} or decision.keys() != {"alpha", "kind", "delta"}:
                raise ValueError("unknown keys")
            if document["id"] != model_id(model):
                raise ValueError("the model is not the one the manifest names")
            steps = None if document["steps"] is None else StepRule(**document["steps"])
            inputs = schema_from_dict(document["inputs"])
            alpha, kind, delta = decision["alpha"], decision["kind"], decision["delta"]
            return cls(model, calibration, alpha, kind, delta, document["data"], steps, inputs)
        except CalibrationMismatchError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ArtifactCorruptError(f"{folder} does not describe a scorer: {str(error)[:160]}") from None


def _dependence(steps: StepRule | None, inputs: Schema | None) -> str | None:
    """Why nothing can be promised, None if it can be."""
    if steps is not None:
        return DEPENDENT
    return OVERLAPPING if isinstance(inputs, SeriesSchema) else None


def _require_promise(kind: str, without: str | None) -> None:
    """Refuse a promise where there is a reason to be without one."""
    if kind != "none" and without is not None:
        raise ValueError(f"kind={kind!r} cannot be promised: {without}; use kind='none', whose level is nominal")
