"""Scores of the steps of a series, as they come or all at once, with the same bits either way.

Windows are cut from the steps with the context each needs, scored in blocks, and what falls on each step is put
together by a rule (`deepad.data.windows`). Memory is the series, its scores and one block, whatever the overlap.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.base import BLOCK
from deepad.data.windows import StepRule, StepWindows
from deepad.scoring.blocks import Model, score_block, score_steps_of_block
from deepad.scoring.conformal import Scores
from deepad.scoring.eventrule import EventRule

CHUNK = 16 * BLOCK
"""Most steps that are taken at once."""


class StepScorer:
    """Scores the steps of one unbroken stretch of a series as they come.

    Args:
        model: takes windows (T, C).
        rule: how windows score steps.
        events: what is done to these scores, in their order; None: nothing.
    """

    def __init__(self, model: Model, rule: StepRule, events: EventRule | None = None) -> None:
        self.model, self.rule = model, rule
        self._transforms = [] if events is None else events.transforms()
        self.told = 0
        """Steps whose score has been given."""
        self._windows = StepWindows(rule)
        self._errors = np.empty((0, 1 if rule.causal else rule.window_size))
        self._first = 0  # number of the window that the first of these errors belongs to

    def push(self, steps: NDArray[np.generic]) -> Scores:
        """Scores (m,) of the steps that the next steps (n, C) decide, in order: NaN for a step that no window scores.

        A causal rule decides each step at once, the others T - 1 steps later.
        """
        starts = range(0, max(len(steps), 1), CHUNK)
        return np.concatenate([self._take(steps[start : start + CHUNK]) for start in starts])

    def _take(self, steps: NDArray[np.generic]) -> Scores:
        made = self._windows.take(steps)
        if made is not None:
            scored = [self._score(made[start : start + BLOCK]) for start in range(0, len(made), BLOCK)]
            self._errors = np.concatenate([self._errors, *scored])
        seen, rule = self._windows.seen, self.rule
        # all windows that start at or before a step must have been seen
        return self._tell(seen if rule.causal else max(self.told, self._windows.made * rule.stride))

    def close(self) -> Scores:
        """Scores of the steps that were still waiting for their future; nothing may be pushed after."""
        return self._tell(self._windows.seen)

    def __copy__(self) -> "StepScorer":
        other = object.__new__(StepScorer)
        vars(other).update(vars(self))
        other._windows, other._transforms = copy(self._windows), [copy(part) for part in self._transforms]
        return other

    def to_state(self) -> dict[str, NDArray[Any]]:
        """What is remembered of the steps so far, as arrays; `from_state` goes on from them with the same bits."""
        windows = self._windows
        held = np.empty((0, *self.model.shape[1:])) if windows.context is None else windows.context
        counts = np.array([windows.seen, windows.made, self.told, self._first], np.int64)
        state = {"context": held, "errors": self._errors, "counts": counts}
        for place, transform in enumerate(self._transforms):
            state |= {f"transform{place}.{name}": array for name, array in transform.to_state().items()}
        return state

    @classmethod
    def from_state(
        cls, model: Model, rule: StepRule, events: EventRule | None, state: Mapping[str, NDArray[Any]]
    ) -> "StepScorer":
        """Go on where `to_state` was called.

        Raises:
            ValueError: no state of this model and these rules.
        """
        scorer = cls(model, rule, events)
        arrays, kinds = dict(state), {"context": 2, "errors": 2, "counts": 1}
        if any(name not in arrays or arrays[name].ndim != ndim for name, ndim in kinds.items()):
            raise ValueError(f"this is no state of a stream: it has the arrays {', '.join(kinds)}")
        context, errors, counts = (arrays.pop(name) for name in kinds)
        if counts.shape != (4,) or counts.dtype.kind != "i" or (counts < 0).any():
            raise ValueError("the counts of a stream are four whole numbers")
        if context.dtype.kind != "f" or errors.dtype != np.float64:
            raise ValueError("steps and errors of a stream are floats")
        seen, made, told, first = counts.tolist()
        begun = len(context) == seen - made * rule.stride < rule.window_size
        if context.shape[1:] != model.shape[1:] or not begun or errors.shape[1:] != scorer._errors.shape[1:]:
            raise ValueError("this is the state of a stream of other steps, or of another rule")
        gone = min(max(0, -(-(told - rule.window_size + 1) // rule.stride)), made)
        behind = told == seen if rule.causal else seen - told <= rule.window_size + rule.stride
        if (first, len(errors)) != (gone, made - gone) or not 0 <= told <= seen or not behind:
            raise ValueError("the counts of the state do not belong together")
        if not np.isfinite(context).all() or np.isnan(errors).any() or np.isneginf(errors).any():
            raise ValueError("the steps or errors of the state are not finite")
        scorer._windows.resume(context.copy(), seen, made)
        scorer._errors, scorer._first, scorer.told = errors.copy(), first, told
        for place, part in enumerate([] if events is None else events.parts()):
            prefix = f"transform{place}."
            own = [name for name in arrays if name.startswith(prefix)]
            scorer._transforms[place] = part.from_state({name.removeprefix(prefix): arrays.pop(name) for name in own})
        if arrays:
            raise ValueError(f"the state has arrays that no stream has: {', '.join(sorted(arrays))[:80]}")
        return scorer

    def _score(self, block: NDArray[np.generic]) -> Scores:
        """What the rule needs of windows; +inf where the model fails, so that NaN means that no window scores."""
        if self.rule.whole:
            errors = np.repeat(score_block(self.model, block)[:, None], self._errors.shape[1], axis=1)
        else:
            errors = score_steps_of_block(self.model, block, last=self.rule.causal)
        return np.where(np.isnan(errors), np.inf, errors)

    def _tell(self, until: int) -> Scores:
        until = min(until, self._windows.seen)
        scores = self.rule.gather(self._errors, self._first, range(self.told, until))
        for transform in self._transforms:
            scores = transform.push(scores)
        self.told = until
        # windows that end before the next step to tell are not needed again
        size, stride = self.rule.window_size, self.rule.stride
        needed = max(0, -(-(until - size + 1) // stride))
        gone = min(needed - self._first, len(self._errors))
        if gone > 0:
            self._errors, self._first = self._errors[gone:].copy(), self._first + gone
        return scores


def score_rows(scores: Sequence[Scores], step_of_row: NDArray[np.int64] | None) -> Scores:
    """Scores (R,) of rows from those of the steps of all stretches; NaN for a row that became no step."""
    joined = scores[0] if len(scores) == 1 else np.concatenate(scores)
    return joined if step_of_row is None else np.where(step_of_row < 0, np.nan, joined[step_of_row])


def score_series(model: Model, rule: StepRule, series: NDArray[np.generic], events: EventRule | None = None) -> Scores:
    """Scores (N,) of the steps of an unbroken series (N, C), NaN where no window scores a step."""
    scorer = StepScorer(model, rule, events)
    return np.concatenate([scorer.push(series), scorer.close()])
