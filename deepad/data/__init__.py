"""Data modules: what reads files and deals rows into four disjoint splits. Contract in `base.py`, one member a file."""

from typing import Any

from deepad.rooms import members
from deepad.versions import require_matching_torchvision

require_matching_torchvision()


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    found = members("data", "DataModule")
    if name in found:
        return found[name]
    raise AttributeError(f"deepad.data has no {name!r}; it has {', '.join(found)}")


def __dir__() -> list[str]:
    return list(members("data", "DataModule"))
