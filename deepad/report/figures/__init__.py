"""Figures, each a function that returns a matplotlib `Figure` and is usable alone in a notebook.

| module       | figures                                                                       |
|--------------|-------------------------------------------------------------------------------|
| `scores`     | `score_histogram`, `score_boxes`, `severity_tiers`                            |
| `p_values`   | `p_value_histogram`, `p_value_qq`, `calibration_curve`                        |
| `ranking`    | `roc_curve`, `precision_recall_curve`, `confusion_matrix`                     |
| `dial`       | `alarm_dial`                                                                  |
| `images`     | `reconstructions`, `worst_normals`                                            |
| `explained`  | `image_explained`, `window_explained`                                         |
| `latent`     | `latent_space`                                                                |
| `boundary`   | `decision_boundary`, `decision_boundaries`                                    |
| `series`     | `series_scores`, `channel_contributions`                                      |
| `training`   | `training_curves`                                                             |
| `comparison` | `critical_difference`, `leaderboard_bars`                                     |

`base` has what they share: `canvas`, the colours, and `as_svg` for pages. pyplot is never touched: nothing is shown or
kept unless the caller does so.
"""

from deepad.report.figures.base import ANOMALY, LINE, NORMAL, OTHER, as_svg, canvas
from deepad.report.figures.boundary import decision_boundaries, decision_boundary
from deepad.report.figures.comparison import critical_difference, leaderboard_bars
from deepad.report.figures.dial import alarm_dial
from deepad.report.figures.explained import image_explained, window_explained
from deepad.report.figures.images import reconstructions, worst_normals
from deepad.report.figures.latent import latent_space
from deepad.report.figures.p_values import calibration_curve, p_value_histogram, p_value_qq
from deepad.report.figures.ranking import confusion_matrix, precision_recall_curve, roc_curve
from deepad.report.figures.scores import score_boxes, score_histogram, severity_tiers
from deepad.report.figures.series import channel_contributions, series_scores
from deepad.report.figures.training import training_curves

__all__ = [
    "ANOMALY",
    "LINE",
    "NORMAL",
    "OTHER",
    "alarm_dial",
    "as_svg",
    "calibration_curve",
    "canvas",
    "channel_contributions",
    "confusion_matrix",
    "critical_difference",
    "decision_boundaries",
    "decision_boundary",
    "image_explained",
    "latent_space",
    "leaderboard_bars",
    "p_value_histogram",
    "p_value_qq",
    "precision_recall_curve",
    "reconstructions",
    "roc_curve",
    "score_boxes",
    "score_histogram",
    "series_scores",
    "severity_tiers",
    "training_curves",
    "window_explained",
    "worst_normals",
]
