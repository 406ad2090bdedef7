"""Data modules: what reads files and deals rows into four disjoint splits. Contract in `base.py`, one member a file."""

from deepad.rooms import doors
from deepad.versions import require_matching_torchvision

require_matching_torchvision()
__getattr__, __dir__ = doors("data", "DataModule")
