"""The Scorer: a model and its calibration, in one thing that is saved, loaded and used.

A scorer judges samples, or, with a rule for it, the steps of a series. It knows what its input looks like (columns of a
table, channels of a series) where the data it was trained on said so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.baselines.base import BLOCK
from deepad.data.windows import StepRule
from deepad.detectors.base import Detector, require_fitted
from deepad.errors import InputError
from deepad.frames import as_frame
from deepad.scoring import calibrating
from deepad.scoring.blocks import Model, score_block
from deepad.scoring.conformal import TIE_RTOL, Scores, as_scores
from deepad.scoring.decision import Decision
from deepad.scoring.direction import warn_if_upside_down
from deepad.scoring.eventrule import EventRule
from deepad.scoring.explaining import Explanation, explain_recording, explain_samples
from deepad.scoring.grouping import GIVEN, Grouping, grouped, regrouped
from deepad.scoring.groups import AnyCalibration, AnyThreshold
from deepad.scoring.heldout import REFERENCE, Reference, score_held_out
from deepad.scoring.inputs import as_samples, as_series, in_blocks
from deepad.scoring.judging import judge
from deepad.scoring.manifest import describing, read_scorer, write_scorer
from deepad.scoring.models import Schema, describe, in_float32, model_id, require_fit, require_pair, schema_from_dict
from deepad.scoring.steps import StepScorer, score_rows, score_series
from deepad.scoring.verdict import Verdict

_Decided = tuple[tuple[AnyThreshold, ...], Mapping[str, float] | None]


@dataclass(frozen=True, eq=False)
class Scorer:
    """A detector or baseline with its calibration: raw samples, or a raw series, in, `Verdict` out.

    Attributes:
        model: the fitted detector or baseline.
        calibration: made from this model's scores of held-out normal samples.
        decision: how alarms are decided when a call asks for nothing else.
        provenance: plain values that say where the data came from and what was asked for.
        steps: how the steps of a series are scored from windows; None for a scorer of samples.
        inputs: columns of the table or channels of the series that is taken; None if that was not known in training.
        events: what is done to the scores of steps before they are compared, and in which blocks they were calibrated.
        groups: where the groups of a grouped calibration come from: a column, a part of the clock, or `"(given)"`.
        reference: some of the calibration samples (n, *shape), to compare others with in explanations, if any are kept.

    Raises:
        CalibrationMismatchError: the calibration was made from another model.
        InsufficientCalibrationError: the level cannot be guaranteed.
        ValueError: a promise for steps of a series, or inputs or steps that do not fit the model.
    """

    model: Model
    calibration: AnyCalibration
    decision: Decision = field(default_factory=Decision)
    provenance: dict[str, Any] | None = None
    steps: StepRule | None = None
    inputs: Schema | None = None
    events: EventRule | None = None
    groups: str | None = None
    reference: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        require_pair(self.calibration.scorer_id, self.id)
        parts = {name: getattr(self, name) for name in ("steps", "inputs", "events", "groups", "reference")}
        calibrating.require_sound(self.model.shape, self.calibration, self.decision, **parts)

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
        tiers: Mapping[str, float] | None = None,
        threshold_rule: str | None = None,
        budget: str | None = None,
        volume: str | None = None,
        groups: str | ArrayLike | Grouping | None = None,
        min_group: int | None = None,
        steps: StepRule | str | None = None,
        events: EventRule | None = None,
        inputs: Schema | None = None,
        reference: int = REFERENCE,
        contamination: None = None,
    ) -> "Scorer":
        """Calibrate a fitted model on held-out normal samples, or on held-out normal stretches of a series.

        Args:
            model: a trained detector or a fitted baseline.
            x: normal samples (N, *shape) that neither trained nor selected the model, or an iterable of batches; with
                `steps`, normal steps (N, C) of a series, a list of unbroken stretches of it, or what `stretches` of the
                data module gives, of which only the steps that are `scored` calibrate.
            alpha: false-alarm rate, in (0, 1).
            kind: see `deepad.scoring.guarantee`. If not given, `"marginal"` for samples (`"pac"` with delta,
                `"simultaneous"` with tiers), `"block"` where `events` has blocks, and `"none"` for other steps and for
                windows (T, C): for those no promise is made, and to ask for one on windows of unknown origin is to
                assert that they are exchangeable, say independent sequences.
            delta: for `"pac"` and `"simultaneous"`, the allowed probability of an unlucky calibration draw.
            tiers: levels by name from mild to severe, in the place of alpha; see `deepad.scoring.severity`.
            threshold_rule: a classical rule in the place of alpha, such as `"sigma:3"`; see `deepad.scoring.rules`.
            budget: false alarms in a period, in the place of alpha, such as `"2 per week"`; see
                `deepad.scoring.budget`. For a series it is kept by blocks, of a day if `events` has none.
            volume: samples in a period, such as `"20000 per day"`, which a budget of samples needs; kept, to say how
                many false alarms a day will bring.
            groups: calibrate each group by itself: name of a column of the data frame x, `"hour"` or `"weekday"` of its
                times, or the groups (N,) themselves.
            min_group: merge groups with fewer samples into one.
            steps: how steps are scored, a rule of `deepad.data.windows` by name or with its stride; None for samples.
            events: what is done to the scores of steps, and their blocks; see `deepad.scoring.eventrule`.
            inputs: the schema of the raw input; that of the data the model was trained on if not given.
            reference: most calibration samples that are kept, and saved, to explain with; 0 to pass no raw sample on.
            contamination: refused, with what to give in its place.

        Raises:
            NotFittedError: the model has not been trained.
            DataLeakError: rows of x were used to fit or select the model.
            InsufficientCalibrationError: too few rows for the level.
            NonFiniteScoreError: the model gives no finite score to a normal row.
            InputError: x cannot be used as it arrived.
        """
        if isinstance(model, Detector):
            require_fitted(model)
        calibrating.require_one_way(tiers, threshold_rule, budget, volume, groups, min_group, contamination)
        inputs = schema_from_dict(model.inputs) if inputs is None else inputs
        if isinstance(steps, str):
            steps = StepRule(model.shape[0], steps)  # type: ignore[arg-type] # the rule checks itself
        require_fit(model.shape, steps, inputs)
        if budget is not None:
            events, alpha = calibrating.spend(budget, volume, events, steps, inputs)
        in_blocks = events is not None and events.block is not None
        if in_blocks and groups is not None:
            raise ValueError("blocks hold all hours and machines: give groups or blocks")
        usual = "block" if in_blocks else "none" if len(model.shape) == 2 else "marginal"
        decision = Decision.make(alpha, kind, delta, tiers, threshold_rule, usual=usual)
        calibrating.require_promise(decision, steps, inputs, events)
        grouping = None
        if groups is not None:
            x, grouping = grouped(x, groups, inputs, stepwise=steps is not None)
        kept = Reference(model.shape, reference)
        parts, rows = score_held_out(model, x, inputs, steps, events, kept)
        warn_if_upside_down(model, kept.samples)
        shared: dict[str, Any] = {"tie_rtol": TIE_RTOL if in_float32(model) else 1e-9, "scorer_id": model_id(model)}
        calibration = calibrating.calibrated(parts, events, grouping, min_group, steps is not None, shared)
        origin = calibrating.provenance_of(rows, model.fit_rows, budget, volume)
        name = grouping and grouping.name
        return cls(model, calibration, decision, origin, steps, inputs, events, name, kept.samples)

    @classmethod
    def from_checkpoint(cls, path: str | Path, x: Any, **decision: Any) -> "Scorer":
        """Calibrate the detector of a Lightning checkpoint; `x` and `decision` as in `calibrate`."""
        return cls.calibrate(Detector.from_checkpoint(str(path)), x, **decision)

    # ---- using it ----------------------------------------------------------------------------------------------

    def __call__(
        self,
        x: Any,
        *,
        alpha: float | None = None,
        kind: str | None = None,
        delta: float | None = None,
        groups: ArrayLike | Grouping | None = None,
    ) -> Verdict:
        """Judge raw samples (N, *shape), or an iterable of batches of them; with `steps`, the steps (N, C) of a series.

        Args:
            x: samples, in the units the model was trained on, or a data frame with the columns of `inputs`. With
                `steps`, an array (N, C), a list of unbroken stretches, or a data frame of a recording: the verdict has
                one entry a step, for a data frame one a row.
            alpha, kind, delta: level and guarantee of this call, without tiers; if not given, the scorer's own.
            groups: of the samples (N,), or of the steps of a series, where they cannot be read from x.

        Raises:
            InputError: x cannot be used as it arrived.
            InsufficientCalibrationError: `alpha` cannot be guaranteed.
        """
        decided = self._decided(alpha, kind, delta)
        x, names = self._grouped(x, groups)
        if self.steps is not None:
            stretches, step_of_row = as_series(x, self.model.shape[1], self.inputs)
            scores = [score_series(self.model, self.steps, stretch, self.events) for stretch in stretches]
            if names is not None and len(names) != (total := sum(map(len, stretches))):
                raise InputError(f"got {len(names)} groups for {total} steps: give one a step")
            if names is not None and step_of_row is not None:
                names = np.where(step_of_row < 0, "", names[step_of_row])
            return self._judge(score_rows(scores, step_of_row), decided, names)
        blocks = [score_block(self.model, block) for block in self._blocks(x)]
        if not blocks:
            raise InputError("got no samples to judge")
        return self._judge(np.concatenate(blocks), decided, names)

    def stream(
        self, x: Any, *, alpha: float | None = None, kind: str | None = None, delta: float | None = None
    ) -> Iterator[Verdict]:
        """Judge as the input comes, in bounded memory; arguments as in a call.

        Samples are judged block by block, with groups data frame by data frame. With `steps`, x is an iterable of
        arrays (n, C), the next steps of one unbroken series each, or none yet: a verdict covers the steps they decide,
        and all verdicts together are that of a call.
        """
        decided = self._decided(alpha, kind, delta)
        if self.groups is not None:
            if self.steps is not None:
                raise InputError("a stream of arrays has no times to group by: judge recordings, or calibrate pooled")
            if self.groups == GIVEN:
                raise InputError(
                    "a stream cannot be given groups by hand: call the scorer with each part and its groups"
                )
            chunks = x if as_frame(x) is None else [x]
            yield from (self(chunk, alpha=alpha, kind=kind, delta=delta) for chunk in chunks)
            return
        if self.steps is None:
            for block in self._blocks(x):
                yield self._judge(score_block(self.model, block), decided, None)
            return
        scorer = StepScorer(self.model, self.steps, self.events)
        for chunk in x:
            if as_frame(chunk) is not None:
                raise InputError("a stream takes arrays (n, C): a data frame is put in order of time as a whole")
            yield self._judge(scorer.push(as_samples(chunk, self.model.shape[1:])), decided, None)
        yield self._judge(scorer.close(), decided, None)

    def explain(self, x: Any, rows: Sequence[int]) -> list[Explanation]:
        """Say why some samples, steps, or rows of a recording, by number, have their scores; see `scoring.explaining`.

        Raises:
            InputError: x as in a call, rows that are not there, or steps that no window scores.
        """
        if self.steps is not None:
            return explain_recording(self.model, self.steps, x, rows, self.inputs, self.reference)
        return explain_samples(self.model, self._blocks(x), rows, self.inputs, self.reference)

    def judge(
        self,
        score: Any,
        *,
        alpha: float | None = None,
        kind: str | None = None,
        delta: float | None = None,
        groups: ArrayLike | Grouping | None = None,
    ) -> Verdict:
        """Judge scores (N,) that this scorer gave before, say at another level; other arguments as in a call."""
        decided = self._decided(alpha, kind, delta)
        _, names = self._grouped(None, groups)
        return self._judge(as_scores(score), decided, names)

    def _grouped(self, x: Any, groups: Any) -> tuple[Any, NDArray[np.str_] | None]:
        """The input as the model takes it, and the group of each sample or step."""
        return regrouped(x, groups, self.groups, self.inputs, stepwise=self.steps is not None)

    def _blocks(self, x: Any) -> Iterator[NDArray[Any]]:
        return in_blocks(x, self.model.shape, BLOCK, table=self.inputs)

    def _decided(self, alpha: float | None, kind: str | None, delta: float | None) -> _Decided:
        """The thresholds of a call, and the tiers they stand for."""
        decision = self.decision.at(alpha, kind, delta)
        self._require_promise(decision)
        return decision.thresholds(self.calibration), decision.tiers

    def _require_promise(self, decision: Decision) -> None:
        asked_none = self.decision.kind == "none"
        calibrating.require_promise(decision, self.steps, self.inputs, self.events, asked_none=asked_none)

    def _judge(self, score: Scores, decided: _Decided, groups: NDArray[np.str_] | None) -> Verdict:
        thresholds, tiers = decided
        return judge(self.calibration, thresholds, score, groups, tiers=tiers, stepwise=self.steps is not None)

    # ---- keeping it --------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Digest of everything that makes a score: class, arguments, weights and scaling."""
        return model_id(self.model)

    @property
    def thresholds(self) -> tuple[AnyThreshold, ...]:
        """The scorer's own thresholds with their guarantees, one for each tier, mild to severe."""
        return self.decision.thresholds(self.calibration)

    @property
    def threshold(self) -> AnyThreshold:
        """The scorer's own threshold with its guarantee; with tiers that of the mildest."""
        return self.thresholds[0]

    def describe(self) -> dict[str, Any]:
        """What this scorer is, as plain values: id, model, calibration, decision and where the data came from."""
        return {
            "id": self.id,
            "model": describe(self.model),
            "calibration": self.calibration.to_dict(),
            "decision": self.decision.to_dict(),
            "steps": None if self.steps is None else vars(self.steps),
            "events": None if self.events is None else self.events.to_dict(),
            "inputs": None if self.inputs is None else self.inputs.to_dict(),
            "groups": self.groups,
            "data": self.provenance,
        }

    def save(self, folder: str | Path) -> None:
        """Save into a folder as JSON and safetensors, atomically; what was there before is replaced.

        Raises:
            CalibrationMismatchError: the model was trained further since it was calibrated.
            InputError: the folder cannot be written, or the model is of a class that `load` would not find.
        """
        require_pair(self.calibration.scorer_id, self.id)
        write_scorer(folder, self.describe(), self.model, self.calibration, self.reference)

    @classmethod
    def load(cls, folder: str | Path) -> "Scorer":
        """Load what `save` wrote. Nothing is unpickled and nothing is imported by a name from the file.

        Raises:
            ArtifactError: missing, altered, cut short, from a newer schema, or not a deepad artifact.
            CalibrationMismatchError: model and calibration do not belong together.
        """
        fields = read_scorer(folder)
        with describing(folder):
            return cls(**fields)
