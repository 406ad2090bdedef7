"""Entries of a comparison's YAML: how they are read, checked, and turned into classes and arguments."""

import os
import re
from abc import ABCMeta
from collections.abc import Mapping
from glob import glob
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from deepad.baselines.base import Baseline
from deepad.data.base import DataModule
from deepad.detectors.base import Detector
from deepad.errors import InputError
from deepad.fit import plain_reason
from deepad.rooms import members
from deepad.scoring.composed import NAME

DATA_NAME = re.compile(r"\w[\w .+()=-]{0,99}")
ROOMS: dict[ABCMeta, str] = {Detector: "detectors", Baseline: "baselines", DataModule: "data"}
ENSEMBLE = {"members", "weights", "transform", "level"}


def read_yaml(path: str | Path) -> Any:
    """The document of a YAML file, of plain values.

    Raises:
        InputError: no such file, no YAML, or a key given twice, of which the second would replace the first.
    """
    try:
        return yaml.load(Path(path).read_text(), _UniqueKeys)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not the YAML of a comparison: {' '.join(str(error).split())[:200]}") from None


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc] # it has no types
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def checked(contract: ABCMeta, spec: Mapping[str, Any], where: str) -> tuple[type, dict[str, Any]]:
    """The class that an entry names and its arguments in their types, the missing ones filled in.

    Raises:
        InputError: no such class, or arguments that it does not take.
    """
    known = members(ROOMS[contract], contract.__name__)  # imported, so that it can be named without its module
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(contract, "it", skip={"shape"} if contract is Detector else set())
    given = {key: spec[key] for key in ("class_path", "init_args") if key in spec}
    try:
        found = parser.parse_object({"it": given})["it"]
    except Exception as error:  # the parser raises what it likes
        reason = plain_reason(str(error))
        if "import path" in reason.lower():
            reason += f" (ours: {', '.join(known)})"
        raise InputError(f"{where}: {reason}") from None
    tag = found["class_path"].rpartition(".")[2]
    kind = getattr(import_module(found["class_path"].rpartition(".")[0]), tag)  # ours, or one of the user's own
    arguments = found.get("init_args")
    return kind, {} if arguments is None else dict(arguments.as_dict())


def named(section: Any, what: str) -> list[tuple[str, Any]]:
    """The entries of a section by name.

    Raises:
        InputError: no table, or a name that could be none of a file.
    """
    if not isinstance(section, dict) or not section:
        raise InputError(f"{what} must be a table of entries by name, got {type(section).__name__}")
    for name in section:
        if not isinstance(name, str) or not (NAME if what == "models" else DATA_NAME).fullmatch(name):
            raise InputError(f"{what}: the name {name!r} must be letters, digits, spaces and +()=-, at most 64")
    return list(section.items())


def table_of(given: Any, where: str, known: set[str]) -> dict[str, Any]:
    """What was given, if it is a table of known keys; `InputError` if not."""
    if not isinstance(given, dict) or not given.keys() <= known:
        odd = sorted(map(str, given.keys() - known)) if isinstance(given, dict) else [type(given).__name__]
        raise InputError(f"{where} takes {', '.join(sorted(known))}, got {', '.join(odd)}")
    return given


def tag_of(spec: Mapping[str, Any]) -> str:
    """Name of the class of an entry."""
    return str(spec["class_path"]).rpartition(".")[2]


def each_of(name: str, spec: Any) -> list[tuple[str, dict[str, Any]]]:
    """The data sets of an entry: one, or one for each combination of the values in `each`; `InputError` if none."""
    spec = table_of({"class_path": spec} if isinstance(spec, str) else spec, f"data {name!r}",
                  {"class_path", "init_args", "each"})  # fmt: skip
    if "class_path" not in spec:
        raise InputError(f"data {name!r} names no class_path")
    each = spec.get("each")
    if each is None:
        return [(name, dict(spec))]
    if not isinstance(each, dict) or not each:
        raise InputError(f"data {name!r}: each is a table of arguments and their values")
    axes = [[(argument, place, value) for place, value in enumerate(_values(name, argument, values))]
            for argument, values in each.items()]  # fmt: skip
    found = {}
    for chosen in product(*axes):
        label = "-".join([name, *(_label(value, place) for _, place, value in chosen)])
        if label in found or not DATA_NAME.fullmatch(label):
            raise InputError(f"data {name!r}: two values of each are called {label!r}, or that is no name")
        given = {argument: value for argument, _, value in chosen}
        found[label] = {"class_path": spec["class_path"], "init_args": {**spec.get("init_args", {}), **given}}
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


def model_of(name: str, spec: Any) -> dict[str, Any]:
    """The entry of a model with its class spelled out; `InputError` for keys that do not go together."""
    spec = {"class_path": spec} if isinstance(spec, str) else spec
    if isinstance(spec, dict) and "members" in spec:
        return table_of(spec, f"model {name!r}", ENSEMBLE)
    spec = table_of(spec, f"model {name!r}", {"class_path", "init_args", "trainer", "features_of"})
    if "class_path" not in spec:
        raise InputError(f"model {name!r} has neither a class_path nor members")
    baseline = not is_detector(spec)
    if baseline and "trainer" in spec:
        raise InputError(f"model {name!r}: {tag_of(spec)} is no detector and has no trainer")
    if not baseline and "features_of" in spec:
        raise InputError(f"model {name!r}: {tag_of(spec)} is no baseline and cannot be fitted on features")
    return dict(spec)


def is_detector(spec: Mapping[str, Any]) -> bool:
    """Whether the model of an entry is trained by a Trainer."""
    if "class_path" not in spec or tag_of(spec) in members("baselines", "Baseline"):
        return False
    module = str(spec["class_path"]).rpartition(".")[0]
    try:  # a class of the user's own may be a baseline
        kind = getattr(import_module(module), tag_of(spec)) if module else None
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
            if not isinstance(parts, list) or any(part not in models for part in parts):
                raise InputError(f"model {name!r} is made of {parts}, of which not all are models of this table")
            if "features_of" in spec and not is_detector(models[parts[0]]):
                raise InputError(f"model {name!r}: {parts[0]!r} is no detector and has no features")
            if set(parts) <= done:
                ready.append(name)
        if not ready:
            raise InputError(f"the models {', '.join(waiting)} are made of each other")
        done.update(ready)
        waiting = {name: spec for name, spec in waiting.items() if name not in done}
