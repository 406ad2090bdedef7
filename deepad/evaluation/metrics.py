"""What labels can say about a verdict.

Threshold-free numbers and numbers at the calibrated threshold are kept apart. No threshold here has seen a test label.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepad.evaluation.ranking import ranking
from deepad.evaluation.spans import steps_of
from deepad.scoring.verdict import Verdict

LAW_LEVEL = 0.99


def evaluate(verdict: Verdict, y: ArrayLike) -> dict[str, Any]:
    """Metrics of a verdict on N labelled samples.

    Args:
        verdict: of the samples.
        y: labels (N,), 1 = anomaly, 0 = normal.

    Returns:
        `n`, `n_anomalies`, `n_invalid` and `n_unscored` (rows that could not be judged, and steps that no window
        scores: they are in no other number);
        `ranking`: what `deepad.evaluation.ranking.ranking` says of the scores, whatever the threshold;
        `at_threshold`: `alpha`, `threshold`, `false_alarms` of `n_normal`, `false_alarm_rate`, the range `law_99` of
        false alarms that the exact law gives 99 % (BetaBinomial), whether they lie `inside_law_99` (both None where
        nothing is promised), `hits` of `n_anomalies`, `recall`, `precision` and `f1`, None where nothing can be
        divided by.

    Raises:
        InputError: labels that are not 0 or 1, or another number of them.
    """
    labels, _, _ = steps_of(y, verdict.score)
    valid = ~np.isnan(verdict.p_value)
    score, flagged, anomaly = verdict.score[valid], verdict.flagged[valid], labels[valid]
    false_alarms, hits = int((flagged & ~anomaly).sum()), int((flagged & anomaly).sum())
    normals, anomalies = int((~anomaly).sum()), int(anomaly.sum())
    law = verdict.future_alarms(~labels, level=LAW_LEVEL)
    return {
        "n": len(labels),
        "n_anomalies": int(labels.sum()),
        "n_invalid": int(verdict.invalid.sum()),
        "n_unscored": verdict.n_unscored,
        "ranking": ranking(anomaly, score),
        "at_threshold": {
            "alpha": verdict.alpha,
            "threshold": verdict.threshold if isinstance(verdict.threshold, float) else None,
            "n_normal": normals,
            "false_alarms": false_alarms,
            "false_alarm_rate": false_alarms / normals if normals else None,
            "law_99": list(law) if law else None,
            "inside_law_99": law[0] <= false_alarms <= law[1] if law else None,
            "n_anomalies": anomalies,
            "hits": hits,
            "recall": hits / anomalies if anomalies else None,
            "precision": hits / (hits + false_alarms) if hits + false_alarms else None,
            "f1": 2 * hits / (hits + false_alarms + anomalies) if anomalies else None,
        },
    }
