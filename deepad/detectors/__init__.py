"""Detectors: LightningModules trained on normal data only. Contract in `base.py`, one member a file."""

from typing import Any

from deepad.rooms import members
from deepad.versions import require_matching_torchvision

require_matching_torchvision()


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    found = members("detectors", "Detector")
    if name in found:
        return found[name]
    raise AttributeError(f"deepad.detectors has no {name!r}; it has {', '.join(found)}")


def __dir__() -> list[str]:
    return list(members("detectors", "Detector"))
