"""deepad: deep anomaly detection with calibrated false-alarm rates.

One arrow, six nouns::

    file -> DataModule -x-> Detector | Baseline -score-> Calibration -p_value-> Verdict
                            `------------- Scorer = model + calibration ------------'

Legend of shape letters used in every docstring: `N` samples, `B` a batch, `D` features, `C` channels, `H` height,
`W` width, `T` time steps of a window, `*shape` the shape of one sample: `(D,)`, `(C, H, W)` or `(T, C)`.

Everywhere: a higher score is more anomalous, and label 1 means anomaly.

Importing `deepad` imports nothing heavy; each noun brings what it needs on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepad.baselines.base import Baseline
    from deepad.data.base import DataModule
    from deepad.detectors.base import Detector
    from deepad.scoring.conformal import Calibration
    from deepad.scoring.scorer import Scorer
    from deepad.scoring.verdict import Verdict

__version__ = "0.1.0"

__all__ = ["Baseline", "Calibration", "DataModule", "Detector", "Scorer", "Verdict", "__version__"]

_HOME = {
    "Baseline": "deepad.baselines.base",
    "Calibration": "deepad.scoring.conformal",
    "DataModule": "deepad.data.base",
    "Detector": "deepad.detectors.base",
    "Scorer": "deepad.scoring.scorer",
    "Verdict": "deepad.scoring.verdict",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'deepad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
