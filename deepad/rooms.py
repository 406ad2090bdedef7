"""The floor plan that every room shares: `base.py` holds the contract, every other file holds members.

Members are found by looking, so adding one is writing one file: there is no registry to keep in step.
A saved file names a member by its tag (the class name), which is looked up here and nowhere else: a file can
therefore choose among our own classes and never name something to import.
"""

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any


@cache
def members(room: str, contract: str) -> dict[str, type]:
    """Concrete classes of a room by name.

    Args:
        room: package name inside deepad, such as `"detectors"`.
        contract: name of the abstract class in the room's `base.py`, such as `"Detector"`.
    """
    package = import_module(f"deepad.{room}")
    base = getattr(import_module(f"deepad.{room}.base"), contract)
    found: dict[str, type] = {}
    for info in iter_modules(package.__path__):
        module = import_module(f"deepad.{room}.{info.name}")
        for name, item in vars(module).items():
            own = inspect.isclass(item) and item.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(item, base) and not inspect.isabstract(item):
                found[name] = item
    return dict(sorted(found.items()))


def doors(room: str, contract: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a room's package, through which its members are imported by name."""

    def getattribute(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = members(room, contract)
        if name not in found:
            raise AttributeError(f"deepad.{room} has no {name!r}; it has {', '.join(found)}")
        return found[name]

    return getattribute, lambda: list(members(room, contract))
