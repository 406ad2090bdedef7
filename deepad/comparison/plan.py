"""The plan of a comparison: what a YAML file asks for, resolved and checked before anything runs.

    data:                                     # data sets by name
      digits:
        class_path: Digits
        init_args: {test_size: 0.3}
        each: {held_out: [0, 1, 2]}           # one data set for each value; for a path also a pattern, nab/**/*.csv
    models:                                   # models by name
      forest: IsolationForest                 # a class with its defaults, or with init_args as above
      dense:
        class_path: DenseAutoencoder
        init_args: {latent_dim: 16}
        trainer: {max_epochs: 30}             # of this detector, over those below
      dense + k-NN:
        class_path: KNearestNeighbors         # a baseline ..
        features_of: dense                    # .. on the features of a detector of this table
      both:
        members: [dense, forest]              # an ensemble of models of this table; transform, level, weights
    seeds: [0, 1, 2]
    trainer: {max_epochs: 50}
    calibration: {alpha: 0.05}                # kind, delta; for a series the rule of its steps
    whole_series: false                       # VUS of all steps of a series as well, those that trained among them

The floors that no model may be shown without are added (`deepad.protocol`). A cell is one model on one data set with
one seed. It is named `data/model/seed`, and its digest is one of all that it depends on, so that a folder never mixes
cells of two plans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepad.baselines.base import Baseline
from deepad.comparison.spec import (
    checked,
    each_of,
    is_detector,
    model_of,
    named,
    read_yaml,
    require_references,
    table_of,
    tag_of,
)
from deepad.data.base import DataModule
from deepad.detectors.base import Detector
from deepad.errors import InputError
from deepad.protocol import FLOORS
from deepad.scoring.artifact import canonical_json, sha256

KINDS = ("floor", "classical", "deep", "hybrid", "ensemble")
_SECTIONS = {"data", "models", "seeds", "trainer", "calibration", "whole_series"}
_CALIBRATION = {"alpha", "kind", "delta", "rule"}


@dataclass(frozen=True)
class Cell:
    """One model on one data set with one seed.

    Attributes:
        data, model, seed: what it is of.
        kind: one of `KINDS`.
        needs: the models that it is made of, in the order in which they are fitted, itself the last.
        digest: of everything it depends on.
    """

    data: str
    model: str
    seed: int
    kind: str
    needs: tuple[str, ...]
    digest: str

    @property
    def name(self) -> str:
        """`data/model/seed`."""
        return f"{self.data}/{self.model}/{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A resolved comparison, as plain values; see the module docstring.

    Attributes:
        data, models: what was asked for, by name, with the floors.
        seeds, trainer, calibration, whole_series: as in the file.
        floors: names of the models that are floors, and their classes.
        groups: entries of the file with the data sets they became.
    """

    data: Mapping[str, dict[str, Any]]
    models: Mapping[str, dict[str, Any]]
    seeds: tuple[int, ...]
    trainer: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    whole_series: bool = False
    floors: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "Plan":
        """The plan of a YAML file.

        Raises:
            InputError: no such file, or a plan that cannot be run, with the entry that is at fault.
        """
        return cls.of(read_yaml(path))

    @classmethod
    def of(cls, document: Any) -> "Plan":
        """The plan of a document as `yaml` reads it; see `read`."""
        if not isinstance(document, dict) or not {"data", "models"} <= document.keys() <= _SECTIONS:
            odd = sorted(map(str, set(document) ^ {"data", "models"} if isinstance(document, dict) else []))
            raise InputError(
                f"a comparison has data and models, and may have {', '.join(sorted(_SECTIONS - {'data', 'models'}))}; "
                f"got {', '.join(odd) or 'nothing of the kind'}"
            )
        seeds = document.get("seeds", [0])
        if not isinstance(seeds, list) or not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
            raise InputError(f"seeds must be a list of whole numbers >= 0, got {seeds!r}")
        if len(set(seeds)) < len(seeds):
            raise InputError(f"seeds must differ, got {seeds}")
        calibration = table_of(document.get("calibration") or {}, "calibration", _CALIBRATION)
        entries = {name: each_of(name, spec) for name, spec in named(document["data"], "data")}
        data = {name: spec for found in entries.values() for name, spec in found}
        if len(data) < sum(map(len, entries.values())):
            raise InputError("two data sets have the same name: rename an entry of data")
        models = {name: model_of(name, spec) for name, spec in named(document["models"], "models")}
        floors = {}
        for name, tag in FLOORS.items():
            same = [known for known, spec in models.items() if spec.keys() == {"class_path"} and tag_of(spec) == tag]
            if not same and name in models:
                raise InputError(
                    f"the model {name!r} is not the floor of that name, {tag} with its defaults: rename it"
                )
            floors[same[0] if same else name] = tag
        models = {**{name: {"class_path": tag} for name, tag in floors.items() if name not in models}, **models}
        require_references(models)
        trainer, whole = document.get("trainer") or {}, document.get("whole_series", False)
        if not isinstance(trainer, dict) or not isinstance(whole, bool):
            raise InputError("trainer is a table of arguments, whole_series is true or false")
        plan = cls(data, models, tuple(seeds), trainer, {"alpha": 0.05, **calibration}, whole, floors,
                   {name: [label for label, _ in found] for name, found in entries.items()})  # fmt: skip
        for name, spec in plan.data.items():
            checked(DataModule, spec, f"data {name!r}")
        for name, spec in plan.models.items():
            if "members" not in spec:
                checked(Detector if plan.kind(name) == "deep" else Baseline, spec, f"model {name!r}")
        return plan

    def kind(self, model: str) -> str:
        """What a model is, one of `KINDS`."""
        spec = self.models[model]
        if model in self.floors:
            return "floor"
        if "members" in spec:
            return "ensemble"
        if "features_of" in spec:
            return "hybrid"
        return "deep" if is_detector(spec) else "classical"

    def needs(self, model: str) -> tuple[str, ...]:
        """The models that a model is made of, in the order in which they are fitted, itself the last."""
        spec = self.models[model]
        parts = [spec["features_of"]] if "features_of" in spec else spec.get("members", [])
        found = [name for part in parts for name in self.needs(part)]
        return tuple(dict.fromkeys([*found, model]))

    def cells(self) -> list[Cell]:
        """All cells, those of one data set and seed together."""
        return [
            Cell(data, model, seed, self.kind(model), self.needs(model), self._digest(data, model, seed))
            for data in self.data for seed in self.seeds for model in self.models
        ]  # fmt: skip

    def part(self, data: str, model: str, seed: int) -> dict[str, Any]:
        """All that a cell depends on, as plain values from which `of` makes a plan again."""
        return {
            "data": {data: self.data[data]},
            "models": {name: self.models[name] for name in self.needs(model)},
            "seeds": [seed],
            "trainer": dict(self.trainer),
            "calibration": dict(self.calibration),
            "whole_series": self.whole_series,
        }

    def _digest(self, data: str, model: str, seed: int) -> str:
        return sha256(canonical_json(self.part(data, model, seed)))[:32]
