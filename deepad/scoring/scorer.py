"""The Scorer: a model and its calibration, in one thing that is saved, loaded and used.

Rows are scored in blocks of exactly `BLOCK` rows, the last one filled up. Matrix kernels choose their order of
summation by the size of a batch, so a fixed size gives a row the same bits alone, in any batch and in any order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import deepad
from deepad.baselines.base import Baseline
from deepad.detectors.base import Detector, plain_values, require_fitted
from deepad.errors import ArtifactCorruptError, CalibrationMismatchError, DataLeakError, InputError
from deepad.fingerprint import Fingerprints, digest_of, fingerprint_rows
from deepad.rooms import members
from deepad.scoring.artifact import canonical_json, read_artifact, sha256, write_artifact
from deepad.scoring.conformal import TIE_RTOL, Calibration, Scores, Threshold
from deepad.scoring.inputs import in_blocks
from deepad.scoring.verdict import Verdict

BLOCK = 256
MANIFEST = "scorer.json"
FORMAT = "deepad.scorer"
CONTRACTS = {"detectors": "Detector", "baselines": "Baseline"}
_KEYS = frozenset({"calibration", "created_utc", "data", "decision", "deepad", "id", "model"})


@dataclass(frozen=True, eq=False)
class Scorer:
    """A detector or baseline with its calibration: raw samples in, `Verdict` out.

    Attributes:
        model: the fitted detector or baseline.
        calibration: made from this model's scores of held-out normal samples.
        alpha: false-alarm rate used when a call asks for none, in (0, 1).
        kind: guarantee used when a call asks for none.
        delta: with `kind="pac"`, the allowed probability of an unlucky calibration draw.
        provenance: plain values that say where the data came from.

    Raises:
        CalibrationMismatchError: the calibration was made from another model.
        InsufficientCalibrationError: `alpha` cannot be guaranteed.
    """

    model: Detector | Baseline
    calibration: Calibration
    alpha: float = 0.05
    kind: str = "marginal"
    delta: float | None = None
    provenance: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._require_pair()
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
        model: Detector | Baseline,
        x: Any,
        *,
        alpha: float = 0.05,
        kind: str = "marginal",
        delta: float | None = None,
    ) -> "Scorer":
        """Calibrate a fitted model on held-out normal samples.

        Args:
            model: a trained detector or a fitted baseline.
            x: normal samples (N, *shape) that neither trained nor selected the model, or an iterable of batches.
            alpha: false-alarm rate, in (0, 1).
            kind: `"marginal"` or `"pac"`, see `deepad.scoring.guarantee`.
            delta: for `"pac"`, the allowed probability of an unlucky calibration draw.

        Raises:
            NotFittedError: the model has not been trained.
            DataLeakError: rows of x were used to fit or select the model.
            InsufficientCalibrationError: too few rows for `alpha`.
            NonFiniteScoreError: the model gives no finite score to a normal row.
            InputError: x cannot be used as it arrived.
        """
        if isinstance(model, Detector):
            require_fitted(model)
        seen: list[Fingerprints] = []
        scores = [_score(model, block) for block in _watched(in_blocks(x, model.shape, BLOCK, labelled=False), seen)]
        if not scores:
            raise InputError("calibration needs normal samples, got none")
        calibration_rows = np.concatenate(seen)
        fit_rows = model.fit_rows
        if fit_rows is not None:  # a model loaded from an artifact has only their digest
            check_disjoint(fit_rows, calibration_rows)
        calibration = Calibration.fit(
            np.concatenate(scores),
            tie_rtol=TIE_RTOL if isinstance(model, Detector) else 1e-9,
            scorer_id=model_id(model),
        )
        provenance = {
            "calibration": {"n": len(calibration_rows), "digest": digest_of(calibration_rows)},
            "fit": None if fit_rows is None else {"n": len(fit_rows), "digest": digest_of(fit_rows)},
        }
        return cls(model, calibration, alpha, kind, delta, provenance)

    @classmethod
    def from_checkpoint(cls, path: str | Path, x: Any, **decision: Any) -> "Scorer":
        """Calibrate the detector of a Lightning checkpoint; `x` and `decision` as in `calibrate`."""
        return cls.calibrate(Detector.from_checkpoint(str(path)), x, **decision)

    # ---- using it ----------------------------------------------------------------------------------------------

    def __call__(
        self, x: Any, *, alpha: float | None = None, kind: str | None = None, delta: float | None = None
    ) -> Verdict:
        """Judge raw samples (N, *shape), or an iterable of batches of them.

        Args:
            x: samples, in the units the model was trained on.
            alpha: false-alarm rate for this call.
            kind: guarantee for this call; if not given, the scorer's own, or `"pac"` if delta is given.
            delta: for `"pac"`.

        Raises:
            InputError: x cannot be used as it arrived.
            InsufficientCalibrationError: `alpha` cannot be guaranteed.
        """
        blocks = list(self.stream(x, alpha=alpha, kind=kind, delta=delta))
        if not blocks:
            raise InputError("got no samples to judge")
        return replace(
            blocks[0],
            score=np.concatenate([block.score for block in blocks]),
            p_value=np.concatenate([block.p_value for block in blocks]),
            flagged=np.concatenate([block.flagged for block in blocks]),
        )

    def stream(
        self, x: Any, *, alpha: float | None = None, kind: str | None = None, delta: float | None = None
    ) -> Iterator[Verdict]:
        """Judge block by block, in bounded memory; arguments as in a call."""
        if kind is None:
            kind, delta = (self.kind, self.delta) if delta is None else ("pac", delta)
        threshold = self.calibration.threshold(self.alpha if alpha is None else alpha, kind=kind, delta=delta)
        for block in in_blocks(x, self.model.shape, BLOCK):
            score = _score(self.model, block)
            ranks = self.calibration.ranks(score)
            yield Verdict(
                score=score,
                p_value=self.calibration.p_of_ranks(ranks),
                flagged=ranks <= threshold.k,  # rank 0 is a NaN score
                alpha=threshold.guarantee.alpha,
                threshold=threshold.value,
                guarantee=threshold.guarantee,
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
            "model": _describe(self.model),
            "calibration": self.calibration.to_dict(),
            "decision": {"alpha": self.alpha, "kind": self.kind, "delta": self.delta},
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
            folder, MANIFEST, format=FORMAT, keys=_KEYS, groups=frozenset({"model", "calibration"})
        )
        try:
            model = _rebuild(document["model"], arrays["model"])
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
            return cls(model, calibration, decision["alpha"], decision["kind"], decision["delta"], document["data"])
        except CalibrationMismatchError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ArtifactCorruptError(f"{folder} does not describe a scorer: {str(error)[:160]}") from None


def model_id(model: Detector | Baseline) -> str:
    """SHA-256 over class, arguments, shape and state arrays."""
    arrays = {
        name: [array.dtype.str, list(array.shape), sha256(array.tobytes())]
        for name, array in model.state_arrays().items()
    }
    return sha256(canonical_json([_describe(model), arrays]))


def check_disjoint(fit_rows: Fingerprints, calibration_rows: Fingerprints) -> None:
    """Raise `DataLeakError` if rows that fitted a model are among those that calibrate it."""
    shared = np.isin(calibration_rows, fit_rows)
    if shared.any():
        raise DataLeakError(
            f"{int(shared.sum())} of {len(calibration_rows)} calibration rows trained or selected this model (first at "
            f"row {int(np.argmax(shared))}): their scores are too low; calibrate on rows the model has not seen"
        )


def _watched(blocks: Iterable[NDArray[Any]], seen: list[Fingerprints]) -> Iterator[NDArray[Any]]:
    for block in blocks:
        seen.append(fingerprint_rows(block))
        yield block


def _score(model: Detector | Baseline, block: NDArray[Any]) -> Scores:
    """Scores (B,) of at most `BLOCK` samples (B, *shape)."""
    if isinstance(model, Baseline):
        return model.score(_filled(block, np.float64))[: len(block)]
    training = model.training
    if training:
        model.eval()
    with torch.inference_mode(), np.errstate(over="ignore"):  # a value too large for float32 scores +inf
        score = model.score(torch.from_numpy(_filled(block, np.float32)).to(model.device))
    if training:
        model.train()
    return score[: len(block)].double().cpu().numpy()


def _filled(block: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """The block with its last row repeated up to `BLOCK` rows."""
    filled = np.empty((BLOCK, *block.shape[1:]), dtype)
    filled[: len(block)] = block
    filled[len(block) :] = block[-1]
    return filled


def _describe(model: Detector | Baseline) -> dict[str, Any]:
    room, arguments = ("detectors", dict(model.hparams)) if isinstance(model, Detector) else ("baselines", model.params)
    return {"room": room, "tag": type(model).__name__, "arguments": plain_values(arguments), "shape": list(model.shape)}


def _rebuild(description: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Detector | Baseline:
    """The model a manifest describes: one of ours, by its tag."""
    if description.keys() != {"room", "tag", "arguments", "shape"}:
        raise ValueError("the model entry is malformed")
    tag, room = description["tag"], description["room"]
    known = members(room, CONTRACTS[room]) if room in CONTRACTS else {}
    if tag not in known:
        raise ValueError(f"no model called {str(tag)[:60]!r} in this version of deepad")
    model: Detector | Baseline = known[tag].from_state(description["arguments"], arrays)  # type: ignore[attr-defined]
    if isinstance(model, Baseline):
        model.shape = tuple(description["shape"])
    return model
