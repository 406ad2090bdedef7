"""Entries of a comparison's YAML: how they are read and checked, and the classes that they name."""

import json
import os
import re
from abc import ABCMeta
from collections.abc import Mapping
from functools import cache
from glob import glob
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from deepad.baselines.base import Baseline
from deepad.comparison.settings import TRAINER, ensemble_of, table_of, trainer_of
from deepad.data.base import DataModule
from deepad.detectors.base import Detector
from deepad.errors import InputError
from deepad.fit import plain_reason
from deepad.rooms import members
from deepad.scoring.composed import NAME

DATA_NAME = re.compile(r"\w[\w .+()=-]{0,99}")
NAMES = {
    "data": (DATA_NAME, "letters, digits, spaces and .+()=-, at most 100"),
    "models": (NAME, "letters, digits, spaces and +()=-, at most 64"),
}
ROOMS: dict[ABCMeta, str] = {Detector: "detectors", Baseline: "baselines", DataModule: "data"}


def read_yaml(path: str | Path) -> Any:
    """The document of a YAML file, of plain values.

    Raises:
        InputError: no such file, no YAML, or a key given twice, of which the second would replace the first.
    """
    try:
        return yaml.load(Path(path).read_text(), _UniqueKeys)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not the YAML of a comparison: {' '.join(str(error).split())[:200]}") from None


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc] # it has no types
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_UniqueKeys.add_implicit_resolver(  # 1e-3 is a number, as in JSON
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


@cache
def _tags() -> dict[str, str]:
    """The tag of each of our classes by every path that names it."""
    return {
        f"{place}{tag}": tag
        for contract, room in ROOMS.items()
        for tag, kind in members(room, contract.__name__).items()
        for place in ("", f"deepad.{room}.", f"{kind.__module__}.")
    }


def class_of(contract: ABCMeta, spec: Mapping[str, Any]) -> Any:
    """The class that an entry names: one of ours by its tag, or one of the user's own, which is imported.

    Raises:
        InputError: a tag that is none of this contract.
    """
    ours = members(ROOMS[contract], contract.__name__)
    module, _, name = spec["class_path"].rpartition(".")
    if not module and name not in ours:
        raise InputError(f"{name} is none of our {ROOMS[contract]}: {', '.join(ours)}")
    return getattr(import_module(module), name) if module else ours[name]


def in_types(contract: ABCMeta, spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """An entry with its arguments in the types that its class takes, as plain values.

    The parser imports what an entry names, wherever it stands: only for what the user wrote.

    Raises:
        InputError: no such class, or arguments that it does not take.
    """
    known = members(ROOMS[contract], contract.__name__)  # imported, so that it can be named without its module
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(contract, "it", skip={"shape"} if contract is Detector else set())
    given = {key: spec[key] for key in ("class_path", "init_args") if key in spec}
    try:
        found = parser.parse_object({"it": given})["it"].as_dict()
        arguments = {name: found["init_args"][name] for name in spec.get("init_args", {})}
        return {**spec, **({"init_args": json.loads(json.dumps(arguments, allow_nan=False))} if arguments else {})}
    except Exception as error:  # the parser raises what it likes
        reason = plain_reason(str(error))
        if "import path" in reason.lower():
            reason += f" (ours: {', '.join(known)})"
        raise InputError(f"{where}: {reason}") from None


def named(section: Any, what: str) -> list[tuple[str, Any]]:
    """The entries of a section by name.

    Raises:
        InputError: no table, or a name that could be none of a file.
    """
    if not isinstance(section, dict) or not section:
        raise InputError(f"{what} must be a table of entries by name, got {type(section).__name__}")
    for name in section:
        pattern, words = NAMES[what]
        if not isinstance(name, str) or not pattern.fullmatch(name):
            raise InputError(f"{what}: the name {name!r} must be {words}")
    return list(section.items())


def _entry(given: Any, where: str, known: set[str], kept: bool) -> dict[str, Any]:
    """An entry as a table, whose class is the tag if it is one of ours, without what says nothing."""
    given = table_of({"class_path": given} if isinstance(given, str) else given, where, known)
    spec = {key: value for key, value in given.items() if value is not None and value != {}}
    for key in spec.keys() & {"init_args", "trainer"}:
        if not isinstance(spec[key], dict):
            raise InputError(f"{where}: {key} is a table of arguments, got {spec[key]!r}")
    path = spec.get("class_path")
    if path is not None and not isinstance(path, str):
        raise InputError(f"{where}: class_path is the name of a class, got {path!r}")
    if kept and path not in _tags():
        raise InputError(
            f"{where}: {path!r} is not one of our classes, and a kept file imports nothing: give the --config of the "
            "comparison too"
        )
    return spec if path is None else {**spec, "class_path": _tags().get(path, path)}


def data_of(name: str, given: Any, kept: bool = False) -> dict[str, Any]:
    """The entry of a data set, the values of `each` as lists.

    Args:
        name: of the data set.
        given: as in the file.
        kept: it is of a file that others may have written: no class but ours is taken.

    Raises:
        InputError: it is none.
    """
    where = f"data {name!r}"
    spec = _entry(given, where, {"class_path", "init_args", "each"}, kept)
    if "class_path" not in spec:
        raise InputError(f"{where} names no class_path")
    each = given.get("each") if isinstance(given, dict) else None
    if each is not None:
        if not isinstance(each, dict) or not each:
            raise InputError(f"{where}: each is a table of arguments and their values")
        spec["each"] = {argument: _values(name, argument, values) for argument, values in each.items()}
    if "seed" in {**spec.get("init_args", {}), **spec.get("each", {})}:
        raise InputError(f"{where}: its seed is the one of the cell, give seeds")
    return spec


def each_of(name: str, spec: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The data sets of an entry: one, or one for each combination of the values in `each`.

    Raises:
        InputError: two have the same name, or one has none.
    """
    fixed = {key: value for key, value in spec.items() if key != "each"}
    axes = [[(argument, place, value) for place, value in enumerate(values)]
            for argument, values in spec.get("each", {}).items()]  # fmt: skip
    found = {}
    for chosen in product(*axes):
        label = "-".join([name, *(_label(value, place) for _, place, value in chosen)])
        if label in found or not DATA_NAME.fullmatch(label):
            raise InputError(f"data {name!r}: two values of each are called {label!r}, or that is no name")
        given = {argument: value for argument, _, value in chosen}
        found[label] = {**fixed, "init_args": {**spec.get("init_args", {}), **given}} if given else fixed
    return list(found.items())


def _values(name: str, argument: str, values: Any) -> list[Any]:
    """A list as it is; a text is a pattern of files, looked for here and below `$DEEPAD_DATA`."""
    if isinstance(values, list) and values:
        return values
    if not isinstance(values, str):
        raise InputError(f"data {name!r}: each {argument} is a list of values, or a pattern of files")
    for root in ("", os.environ.get("DEEPAD_DATA", "")):
        found = sorted(glob(values, root_dir=root or None, recursive=True))
        if found:
            return sorted(found, key=_natural)
    raise InputError(f"data {name!r}: no file is called {values}, here or below $DEEPAD_DATA")


def _natural(path: str) -> list[tuple[int, int, str]]:
    """A key by which 2_a comes before 10_a."""
    parts = [part for part in re.split(r"(\d+)", path) if part]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _label(value: Any, place: int) -> str:
    """What a value is called in the name of a data set: a file by its name, a table or list by its place."""
    if isinstance(value, str):
        return Path(value).stem
    return str(place if isinstance(value, dict | list) else value)


def model_of(name: str, given: Any, trainer: Mapping[str, Any], kept: bool = False) -> dict[str, Any]:
    """The entry of a model: that of a detector has all arguments of its Trainer, and no other has any.

    Args:
        name: of the model.
        given: as in the file.
        trainer: arguments for all detectors.
        kept: it is of a file that others may have written: no class but ours is taken.

    Raises:
        InputError: it is none, or has keys that do not go together.
    """
    where = f"model {name!r}"
    if isinstance(given, dict) and "members" in given:
        return ensemble_of(where, given)
    spec = _entry(given, where, {"class_path", "init_args", "trainer", "features_of"}, kept)
    if "class_path" not in spec:
        raise InputError(f"{where} has neither a class_path nor members")
    if not _is_detector(spec["class_path"]):
        if "trainer" in spec:
            raise InputError(f"{where}: {spec['class_path']} is no detector and has no trainer")
        return spec
    if "features_of" in spec:
        raise InputError(f"{where}: {spec['class_path']} is no baseline and cannot be fitted on features")
    return {**spec, "trainer": {**TRAINER, **trainer, **trainer_of(spec.get("trainer"), f"{where}: trainer")}}


def _is_detector(path: str) -> bool:
    """Whether a class is trained by a Trainer."""
    ours = _tags().get(path)
    if ours is not None:
        return ours in members("detectors", "Detector")
    module, _, name = path.rpartition(".")
    try:  # a class of the user's own may be a baseline
        kind = getattr(import_module(module), name) if module else None
    except (ImportError, AttributeError):
        return True  # and is refused as a detector
    return not (isinstance(kind, type) and issubclass(kind, Baseline))


def require_references(models: Mapping[str, dict[str, Any]]) -> None:
    """Refuse parts that are no models of the table, or of themselves."""
    done: set[str] = set()
    waiting = dict(models)
    while waiting:
        ready = []
        for name, spec in waiting.items():
            parts = [spec["features_of"]] if "features_of" in spec else spec.get("members", [])
            if any(not isinstance(part, str) or part not in models for part in parts):
                raise InputError(f"model {name!r} is made of {parts}, of which not all are models of this table")
            if "features_of" in spec and "trainer" not in models[parts[0]]:
                raise InputError(f"model {name!r}: {parts[0]!r} is no detector and has no features")
            if set(parts) <= done:
                ready.append(name)
        if not ready:
            raise InputError(f"the models {', '.join(waiting)} are made of each other")
        done.update(ready)
        waiting = {name: spec for name, spec in waiting.items() if name not in done}
