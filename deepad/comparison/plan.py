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
    trainer: {max_epochs: 50}                 # of all detectors; on the CPU unless it says otherwise
    calibration: {alpha: 0.05}                # kind, delta; for a series the rule of its steps
    whole_series: false                       # VUS of all steps of a series as well, those that trained among them

The floors that no model may be shown without are added (`deepad.protocol`). A cell is one model on one data set with
one seed. It is named `data/model/seed`, and its digest is one of all that the plan says of it: the data set, the models
that it is made of with the arguments of their Trainer, the seed, the calibration, and for a series how its steps are
scored. So a folder never mixes cells of two plans, and a plan that grows keeps its cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepad.baselines.base import Baseline
from deepad.comparison.settings import calibration_of, require_plain, seeds_of, trainer_of
from deepad.comparison.spec import (
    class_of,
    data_of,
    each_of,
    in_types,
    model_of,
    named,
    read_yaml,
    require_references,
)
from deepad.data.base import DataModule
from deepad.detectors.base import Detector
from deepad.errors import InputError
from deepad.protocol import FLOORS
from deepad.scoring.artifact import canonical_json, sha256

KINDS = ("floor", "classical", "deep", "hybrid", "ensemble")
_SECTIONS = {"data", "models", "seeds", "trainer", "calibration", "whole_series"}


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
        entries: data sets as in the file, patterns replaced by the files that they found.
        data: what they became: a data set for each value of `each`.
        models: by name, with the floors; those of detectors with all arguments of their Trainer.
        seeds, calibration, whole_series: as in the file.
        floors: names of the models that are floors, and their classes.
        series: by data set whether it is a series.
    """

    entries: Mapping[str, dict[str, Any]]
    data: Mapping[str, dict[str, Any]]
    models: Mapping[str, dict[str, Any]]
    seeds: tuple[int, ...]
    calibration: Mapping[str, Any]
    whole_series: bool
    floors: Mapping[str, str]
    series: Mapping[str, bool]

    @classmethod
    def read(cls, path: str | Path) -> "Plan":
        """The plan of a YAML file.

        Raises:
            InputError: no such file, or a plan that cannot be run, with the entry that is at fault.
        """
        return cls.of(read_yaml(path))

    @classmethod
    def of(cls, document: Any, *, kept: bool = False) -> "Plan":
        """The plan of a document as `yaml` reads it; see `read`.

        Args:
            document: plain values.
            kept: it is the `part` of a cell, in a file that others may have written: no class but ours is taken,
                nothing is imported, arguments are taken as they are, and no floors are added.
        """
        if not isinstance(document, dict) or not {"data", "models"} <= document.keys() <= _SECTIONS:
            odd = sorted(map(str, set(document) ^ {"data", "models"} if isinstance(document, dict) else []))
            raise InputError(
                f"a comparison has data and models, and may have {', '.join(sorted(_SECTIONS - {'data', 'models'}))}; "
                f"got {', '.join(odd) or 'nothing of the kind'}"
            )
        require_plain(document)
        entries = {name: data_of(name, spec, kept) for name, spec in named(document["data"], "data")}
        data = _data_sets(entries)
        trainer = trainer_of(document.get("trainer"), "trainer")
        models = {name: model_of(name, spec, trainer, kept) for name, spec in named(document["models"], "models")}
        floors = {} if kept else _floors(models)
        models = {**{name: {"class_path": tag} for name, tag in floors.items() if name not in models}, **models}
        require_references(models)
        if not kept:
            data = {name: in_types(DataModule, spec, f"data {name!r}") for name, spec in data.items()}
            models = {name: _in_types(name, spec) for name, spec in models.items()}
        series = {name: bool(class_of(DataModule, spec).sequential) for name, spec in data.items()}
        whole = document.get("whole_series", False)
        if not isinstance(whole, bool) or (whole and not all(series.values())):
            raise InputError(f"whole_series is true or false, and true for series alone, got {whole!r}")
        calibration = calibration_of(document.get("calibration"), series)
        return cls(entries, data, models, seeds_of(document.get("seeds", [0])), calibration, whole, floors, series)

    @property
    def document(self) -> dict[str, Any]:
        """All that was asked for as plain values, from which `of` makes the same plan again."""
        return {
            "data": dict(self.entries),
            "models": dict(self.models),
            "seeds": list(self.seeds),
            "calibration": dict(self.calibration),
            "whole_series": self.whole_series,
        }

    @property
    def groups(self) -> dict[str, list[str]]:
        """Entries of the file with the data sets they became."""
        return {name: [label for label, _ in each_of(name, spec)] for name, spec in self.entries.items()}

    def kind(self, model: str) -> str:
        """What a model is, one of `KINDS`."""
        spec = self.models[model]
        if model in self.floors:
            return "floor"
        if "members" in spec:
            return "ensemble"
        if "features_of" in spec:
            return "hybrid"
        return "deep" if "trainer" in spec else "classical"

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
        """All that the plan says of a cell, as plain values from which `of` makes a plan of that cell."""
        series = self.series[data]
        decision = {"rule": "last", **self.calibration} if series else {**self.calibration, "rule": None}
        return {
            "data": {data: self.data[data]},
            "models": {name: self.models[name] for name in self.needs(model)},
            "seeds": [seed],
            "calibration": {key: value for key, value in decision.items() if value is not None},
            **({"whole_series": self.whole_series} if series else {}),
        }

    def _digest(self, data: str, model: str, seed: int) -> str:
        return sha256(canonical_json(self.part(data, model, seed)))[:32]


def _data_sets(entries: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = [one for name, spec in entries.items() for one in each_of(name, spec)]
    if len(dict(found)) < len(found):
        raise InputError("two data sets have the same name: rename an entry of data")
    return dict(found)


def _floors(models: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The floors by the names that they have or get in a table of models."""
    floors = {}
    for name, tag in FLOORS.items():
        same = next((known for known, spec in models.items() if spec == {"class_path": tag}), None)
        if same is None and name in models:
            raise InputError(f"the model {name!r} is not the floor of that name, {tag} with its defaults: rename it")
        floors[same or name] = tag
    return floors


def _in_types(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    if "members" in spec:
        return spec
    return in_types(Detector if "trainer" in spec else Baseline, spec, f"model {name!r}")
