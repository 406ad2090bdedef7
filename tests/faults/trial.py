"""What must hold of a saved scorer that somebody has changed: it is refused, or it judges."""

import math

import numpy as np

from deepad import Scorer
from deepad.channels import SeriesSchema
from deepad.errors import ArtifactError, CalibrationMismatchError, DeepadError
from deepad.schema import TableSchema
from deepad.scoring.grouping import GIVEN

LARGEST = 1000
"""Most values of a sample that is made up here: 256 of them are scored at once."""


def inputs_of(scorer, rows=3):
    """Something for a scorer to judge that is in its shape: a table or recording by name where it has a schema."""
    import pyarrow as pa

    steps, shape = scorer.steps, scorer.model.shape
    if isinstance(scorer.inputs, TableSchema):
        return pa.table({c.name: [0.5] * rows if c.kind == "number" else ["a"] * rows for c in scorer.inputs.columns})
    if isinstance(scorer.inputs, SeriesSchema):
        rows = max(rows, min(2 * shape[0], 200))
        clock = {} if scorer.inputs.time is None else {scorer.inputs.time: np.arange(rows) * 60.0}
        return pa.table({**{name: np.linspace(0, 1, rows) for name in scorer.inputs.channels}, **clock})
    if steps is not None:
        return np.linspace(-1, 1, max(rows, 2 * shape[0]) * shape[1]).reshape(-1, shape[1])
    return np.linspace(-1, 1, rows * int(np.prod(shape))).reshape(rows, *shape)


def outcome(folder):
    """`"refused"` or `"judged"`; anything else that happens is an error of the loader or of what was loaded."""
    try:
        scorer = Scorer.load(folder)
    except (ArtifactError, CalibrationMismatchError) as error:
        require_one_line(error)
        return "refused"
    if math.prod(scorer.model.shape) > LARGEST:
        return "judged"  # nobody has such a sample
    try:
        x = inputs_of(scorer)
        verdict = scorer(x, groups=["a", "b", "c"][: len(x)] if scorer.groups == GIVEN else None)
    except DeepadError as error:
        require_one_line(error)
        return "judged"
    judged = verdict.score[~np.isnan(verdict.score)]  # steps without a window have no score
    assert scorer.steps is not None or len(judged) == len(verdict.score)
    assert (judged > -np.inf).all()
    p_value = verdict.p_value[~np.isnan(verdict.p_value)]
    assert ((p_value > 0) & (p_value <= 1)).all()
    return "judged"


def require_one_line(error):
    """An error is one line that a terminal can show."""
    text = str(error)
    assert len(text) < 2000, f"{len(text)} characters"
    assert "\n" not in text
    text.encode()
