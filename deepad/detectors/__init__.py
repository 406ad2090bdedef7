"""Detectors: LightningModules trained on normal data only. Contract in `base.py`, one member a file."""

from deepad.rooms import doors
from deepad.versions import require_matching_torchvision

require_matching_torchvision()
__getattr__, __dir__ = doors("detectors", "Detector")
