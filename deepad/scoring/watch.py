"""A series that is judged as it comes, and goes on after a crash as if nothing had been.

Each step has an id that grows: a number, or its time in nanoseconds. A step whose id is not above the last one was seen
before, or comes from a clock that was set back: it is left out and counted, so that a stream may be sent again from
anywhere after a restart. Where an id is more than `gap` above the last, steps are missing: no window reaches over that,
a new stretch begins, with its warm-up.

`save` writes what is remembered (a window of raw steps, and the scores that standardisation and persistence look back
on), atomically, under the id of the scorer: after a crash it is that of some earlier moment, from which the same steps
give the same verdicts, bit for bit.

Steps are values as the model takes them: what a schema does to recordings (missing values held, columns by name) is
done before. A single id far in the future leaves out all that follow: look at `repeated`.
"""

import threading
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import CalibrationMismatchError, InputError
from deepad.frames import as_frame
from deepad.scoring.artifact import canonical_json, read_artifact, sha256, write_artifact
from deepad.scoring.inputs import as_samples
from deepad.scoring.manifest import describing
from deepad.scoring.scorer import Scorer
from deepad.scoring.steps import StepScorer
from deepad.scoring.verdict import Verdict

FORMAT, MANIFEST = "deepad.watch", "watch.json"
_COUNTS = ("judged", "repeated", "stretches")


class Watch:
    """Judges the steps of one series as they come. Threads may share it: one at a time is served.

    Args:
        scorer: of the steps of a series, with a causal rule, pooled.
        gap: largest difference between the ids of steps that follow each other, in their unit: with times in
            nanoseconds that is more than the sampling interval.

    Attributes:
        last: id of the last step that was judged; None before the first.
        judged: steps that were judged.
        repeated: steps that were left out because their id was not above the last.
        stretches: unbroken stretches so far.

    Raises:
        InputError: a scorer of samples, by groups, or with a rule that waits for the future of a step.
    """

    def __init__(self, scorer: Scorer, *, gap: int = 1) -> None:
        if scorer.steps is None or not scorer.steps.causal or scorer.groups is not None:
            raise InputError(
                "a watch judges each step of a series when it comes: calibrate with steps='last' or 'window', without "
                "groups"
            )
        if type(gap) is not int or gap < 1:
            raise ValueError(f"gap must be a whole number of at least 1, got {gap!r}")
        self.scorer, self.gap = scorer, gap
        self.last: int | None = None
        self.judged = self.repeated = self.stretches = 0
        self._stretch = self._begin()
        self._lock = threading.Lock()

    def push(self, steps: Any, ids: ArrayLike | None = None) -> tuple[Verdict, NDArray[np.bool_]]:
        """Judge the next steps.

        Args:
            steps: array or tensor (n, C), raw units, finite, channels in the order of the training; n may be 0.
            ids: (n,) whole numbers; those that follow the last if not given, which notices no repetition.

        Returns:
            The verdict on the steps that are new, and which of the n these are.

        Raises:
            InputError: steps or ids that cannot be used.

        Whatever is raised, nothing has changed then: the same steps can be pushed again.
        """
        if as_frame(steps) is not None:
            raise InputError("a watch takes arrays (n, C): take the channels of a data frame in their order")
        x = np.asarray(as_samples(steps, self.scorer.model.shape[1:]), np.float64)
        with self._lock:
            numbers = self._numbered(x, ids)
            new = self._new(numbers)
            stretch, scores, begun = self._scores(x[new], numbers[new])
            verdict = self.scorer.judge(scores)
            self._stretch, self.stretches = stretch, self.stretches + begun
            self.judged, self.repeated = self.judged + int(new.sum()), self.repeated + int((~new).sum())
            self.last = int(numbers[new][-1]) if new.any() else self.last
            return verdict, new

    def _numbered(self, x: NDArray[np.float64], ids: ArrayLike | None) -> NDArray[np.int64]:
        """The ids (n,) of steps, as they were given or as they follow the last."""
        begin = 0 if self.last is None else self.last + 1
        numbers = np.arange(begin, begin + len(x)) if ids is None else np.asarray(ids)
        whole = numbers.dtype.kind in "iu" and (numbers <= np.iinfo(np.int64).max).all()
        if numbers.shape != (len(x),) or (len(x) and not whole):
            raise InputError(
                f"ids must be one whole number of 64 bits a step, ({len(x)},), got {numbers.dtype} {numbers.shape}"
            )
        return numbers.astype(np.int64)

    def _new(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which ids are above all before them."""
        highest = np.maximum.accumulate(ids)
        new = np.append(True, ids[1:] > highest[:-1])[: len(ids)]
        return new if self.last is None else new & (ids > self.last)

    def _scores(self, x: NDArray[np.float64], ids: NDArray[np.int64]) -> tuple[StepScorer, NDArray[np.float64], int]:
        """The stretch after new steps, their scores, and how many stretches begin with them."""
        if not len(x):
            return self._stretch, np.empty(0), 0
        before = np.append(ids[0] if self.last is None else self.last, ids[:-1])
        apart = ids.astype(np.uint64) - before.astype(np.uint64)  # they grow: right beyond int64, too
        first, *others = np.split(x, np.flatnonzero(apart > self.gap))
        stretch = copy(self._stretch)  # one that fails leaves it as it was
        scores = [stretch.push(first)]
        for part in others:
            stretch = self._begin()
            scores.append(stretch.push(part))
        return stretch, np.concatenate(scores), len(others) + (self.last is None)

    def _begin(self) -> StepScorer:
        return StepScorer(self.scorer.model, self.scorer.steps, self.scorer.events)  # type: ignore[arg-type]

    # ---- keeping it --------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Save what is remembered into a folder, atomically; what was there before is replaced.

        Raises:
            InputError: the folder cannot be written.
        """
        with self._lock:
            counts = {name: getattr(self, name) for name in _COUNTS}
            document = {"format": FORMAT, "scorer": _name(self.scorer), "gap": self.gap, "last": self.last, **counts}
            write_artifact(folder, MANIFEST, document, {"state": self._stretch.to_state()})

    @classmethod
    def load(cls, folder: str | Path, scorer: Scorer) -> "Watch":
        """Go on where `save` was called.

        Raises:
            ArtifactError: missing, altered, cut short, or of another kind.
            CalibrationMismatchError: the state of another scorer, or of one with other rules for its steps.
        """
        keys = frozenset({"scorer", "gap", "last", *_COUNTS})
        document, arrays = read_artifact(folder, MANIFEST, format=FORMAT, keys=keys, groups=frozenset({"state"}))
        if document["scorer"] != _name(scorer):
            raise CalibrationMismatchError(
                f"{folder} remembers the steps of another scorer: begin a new watch, or use the scorer it was made with"
            )
        with describing(folder):
            watch = cls(scorer, gap=document["gap"])
            numbers = [document[name] for name in _COUNTS]
            last = document["last"]
            if any(type(n) is not int or n < 0 for n in numbers) or type(last) not in (int, type(None)):
                raise ValueError("counts and ids are whole numbers")
            if last is not None and abs(last) >= 1 << 63:
                raise ValueError("an id has 64 bits")
            watch.last, (watch.judged, watch.repeated, watch.stretches) = last, numbers
            watch._stretch = StepScorer.from_state(scorer.model, scorer.steps, scorer.events, arrays["state"])  # type: ignore[arg-type]
        return watch


def _name(scorer: Scorer) -> str:
    """Digest of what scores steps: the model, and the rules."""
    events = None if scorer.events is None else scorer.events.to_dict()
    return sha256(canonical_json([scorer.id, vars(scorer.steps), events]))
