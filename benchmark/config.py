"""Study files: strict YAML in, a list of runs out. No torch.

    load_study("quickstart")     the file, its shape and types checked
    options.resolve(study, …)    every option of every method and network checked and filled in
    expand(study)                the grid: one Run per task, method entry and seed

A run's key is a hash of everything that changes its numbers and of nothing else: data paths, devices, workers and
cluster settings stay out of it.
"""

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from benchmark.data.catalogue import CORRUPTION_KINDS, DATASETS
from benchmark.errors import UserError, unknown
from benchmark.recipe import Augmentation as Augmentation
from benchmark.recipe import Recipe, deviate
from benchmark.strict import Strict, describe, read_yaml

CONTRACT_VERSION = 1
"""Part of every key. Raise it with any change of shared code that changes a run's numbers."""

STUDIES = Path(__file__).parent / "studies"

LATER_SETTINGS = {
    "recipe.last_batch": "drop",
    "recipe.budget": "epochs",
    "task.watch_test": False,
    "task.network.shortcut_from": "activated",
    "task.network.conv_bias": False,
    "task.network.last_norm_momentum": 0.1,
    "task.network.initialisation": "kaiming_fan_out",
    "task.network.final_norm": True,
    "task.network.classifier_std": None,
    "options.variant": "paper",
    "options.pairing_images": None,
    "options.box_side": None,
    "options.parent_is_member": None,
    "options.tuning_schedule": "one_cycle",
    "options.tuning_momentum": None,
}
"""Settings younger than the first results, with what those were trained with: left out of keys while they hold that, so
that no result is lost to a new setting."""

_SEED = "\0seed"
"""Stands for the seed in text that all seeds share; no option holds it."""


class Shift(Strict):
    """Corrupted copies of the test images, in the manner of CIFAR-10-C (Hendrycks & Dietterich 2019)."""

    kinds: list[str] = Field(default=list(CORRUPTION_KINDS), min_length=1)
    severities: list[int] = Field(default=[1, 2, 3, 4, 5], min_length=1)

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: list[str]) -> list[str]:
        for kind in kinds:
            if kind not in CORRUPTION_KINDS:
                raise ValueError(unknown("corruption", kind, CORRUPTION_KINDS))
        return _distinct(kinds)

    @field_validator("severities")
    @classmethod
    def _in_range(cls, severities: list[int]) -> list[int]:
        if not all(1 <= severity <= 5 for severity in severities):
            raise ValueError(f"severities are 1 to 5, not {severities}")
        return _distinct(severities)


class TaskConfig(Strict):
    """What is learnt and on which images a run is scored."""

    dataset: str
    network: dict[str, Any] = Field(description="a name and its options: {name: wide_resnet, depth: 28, width: 10}")
    folder: str | None = Field(default=None, description="dataset folder: its name below the data directory")
    image_size: int | None = Field(
        default=None, ge=4, le=1024, description="dataset folder: images are resized to this square"
    )
    train_on: Literal["split", "full"] = Field(default="split", description="full: no validation images are held out")
    train_images: int | None = Field(default=None, ge=1, description="a stratified subset; default all")
    validation_images: int | None = Field(
        default=None, ge=1, description="carved from the training set; default a tenth"
    )
    test_images: int | None = Field(default=None, ge=1, description="a stratified subset; default all")
    watch_test: bool = Field(
        default=False,
        description="also record test accuracy after each epoch, to tell what picking the best would gain; the model stays "
        "that of the last epoch",
    )
    shifted: Shift | None = None
    out_of_distribution: list[str] = Field(default=[], description="data sets whose test images are resized and scored")

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        if name not in DATASETS:
            raise ValueError(unknown("data set", name, DATASETS))
        return name

    @field_validator("out_of_distribution")
    @classmethod
    def _known_sets(cls, names: list[str]) -> list[str]:
        allowed = [name for name in DATASETS if name != "folder"]
        for name in names:
            if name not in allowed:
                raise ValueError(unknown("data set", name, allowed))
        return _distinct(names)

    @model_validator(mode="after")
    def _fits_together(self) -> "TaskConfig":
        of_folder = self.dataset == "folder"
        if of_folder != (self.folder is not None) or of_folder != (self.image_size is not None):
            raise ValueError("folder and image_size go with dataset: folder, and it needs both")
        if self.folder is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.folder):
            raise ValueError(f"folder is a name below the data directory, not a path: {self.folder!r}")
        if self.train_on == "full" and self.validation_images is not None:
            raise ValueError("train_on: full holds no images out; drop validation_images")
        if self.dataset in self.out_of_distribution:
            raise ValueError(f"{self.dataset} can't be out of distribution for itself")
        return self

    @property
    def network_slug(self) -> str:
        """`wideresnet28x10`: the network's name and its numbers."""
        numbers = "x".join(str(v) for k, v in self.network.items() if k != "name" and type(v) is int)
        return str(self.network.get("name", "")).replace("_", "") + numbers


class MethodEntry(Strict):
    """One entry under `methods:`: a name, its options (a list of values is a grid), deviations from the recipe."""

    method: str
    options: dict[str, Any] = Field(default={})
    recipe: dict[str, Any] = Field(default={}, description="deviations from the study's recipe, printed with results")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, entry: Any) -> Any:
        """`nfe`, or `{method: nfe, num_members: 3, …}`: whatever is no field of an entry is an option."""
        if isinstance(entry, str):
            return {"method": entry}
        if not isinstance(entry, dict) or "options" in entry:
            return entry
        own = {key: value for key, value in entry.items() if key in ("method", "recipe")}
        return own | {"options": {key: value for key, value in entry.items() if key not in own}}

    def written(self) -> dict[str, Any]:
        """As it stands in a study file."""
        return {"method": self.method, **self.options, **({"recipe": self.recipe} if self.recipe else {})}


class Study(Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="the folder below results/; default the file's name")
    title: str = ""
    tasks: list[TaskConfig] = Field(min_length=1)
    recipe: Recipe
    methods: list[MethodEntry] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _has_a_folder_of_its_own(cls, name: str) -> str:
        if name in ("runs", "published"):
            raise ValueError(f"results/{name} is taken; call the study something else")
        return name

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if min(seeds) < 0:
            raise ValueError(f"seeds are 0 or more, not {min(seeds)}")
        return _distinct(seeds)

    def written(self) -> dict[str, Any]:
        """As it stands in a study file, every default filled in."""
        return self.model_dump() | {"methods": [entry.written() for entry in self.methods]}


@dataclass(frozen=True)
class Run:
    """One cell of the grid for one seed: everything that changes its numbers, and how a report calls it."""

    label: str
    method: str
    options: dict[str, Any]
    task: TaskConfig
    recipe: Recipe
    seed: int
    deviations: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What the key is a hash of but for LATER_SETTINGS, and what a row repeats."""
        return {
            "contract_version": CONTRACT_VERSION,
            "method": self.method,
            "options": self.options,
            "task": self.task.model_dump(),
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
        }

    @property
    def hashed(self) -> dict[str, Any]:
        """The identity without LATER_SETTINGS that are as they always were."""
        kept = copy.deepcopy(self.identity)
        for path, value in LATER_SETTINGS.items():
            *parents, name = path.split(".")
            part = kept
            for parent in parents:
                part = part[parent]
            if name in part and part[name] == value:
                del part[name]
        return kept

    @cached_property
    def key(self) -> str:
        """Such as `cifar100-wideresnet28x10-nfe3-s0-1f3a9c02`."""
        return self.key_of(json.dumps(self.hashed, sort_keys=True))

    def key_of(self, hashed: str) -> str:
        digest = hashlib.sha256(hashed.encode()).hexdigest()
        members = self.options.get("num_members", "")
        dataset = self.task.folder or self.task.dataset
        key = f"{dataset}-{self.task.network_slug}-{self.method}{members}-s{self.seed}-{digest[:8]}"
        if not re.fullmatch(r"\w[\w.-]*", key):  # a folder's name: a path would lead out of the results
            raise UserError(
                f"a run can't be called {key!r}: names of methods and networks hold letters, digits, _ . and -"
            )
        return key


def load_study(name_or_path: str) -> Study:
    """A packaged study by name, or any YAML file by path."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        packaged = {str(file.relative_to(STUDIES).with_suffix("")): file for file in STUDIES.rglob("*.yaml")}
        if name_or_path not in packaged:
            raise UserError(f"{unknown('study', name_or_path, packaged)}; a file of your own ends in .yaml")
        path = packaged[name_or_path]
    return read_study(path)


def read_study(path: Path) -> Study:
    content = read_yaml(path, f"a study is a mapping with the keys {', '.join(Study.model_fields)}")
    try:
        return Study.model_validate({"name": path.stem} | content)
    except ValidationError as error:
        raise UserError(f"{path.name}: {describe(error)}") from None


def expand(study: Study) -> list[Run]:
    """The grid in order of what teaches most: every task and method of one seed before the next seed.

    Takes a resolved study, whose method entries hold all options and no lists. Equal runs appear once.
    """
    labels = _labels(study.methods)
    recipes = [deviate(study.recipe, entry.recipe) for entry in study.methods]
    cells = [
        Run(label, entry.method, entry.options, task, recipe, 0, entry.recipe)
        for task in study.tasks
        for entry, label, recipe in zip(study.methods, labels, recipes, strict=True)
    ]
    texts = [json.dumps(cell.hashed | {"seed": _SEED}, sort_keys=True).split(json.dumps(_SEED)) for cell in cells]
    runs: dict[str, Run] = {}
    for seed in study.seeds:
        for cell, text in zip(cells, texts, strict=True):
            run = Run(cell.label, cell.method, cell.options, cell.task, cell.recipe, seed, cell.deviations)
            # What `key` would compute: of large grids, writing the same settings for each seed takes longest.
            run.__dict__["key"] = run.key_of(str(seed).join(text))
            runs.setdefault(run.key, run)
    return list(runs.values())


def _labels(entries: list[MethodEntry]) -> list[str]:
    """`nfe-3`, and where a study holds several of a method, what tells them apart: `mixmo-2 mixing=patch`."""
    settings = [entry.options | {f"recipe.{k}": v for k, v in entry.recipe.items()} for entry in entries]
    labels = []
    for entry, setting in zip(entries, settings, strict=True):
        rivals = [s for other, s in zip(entries, settings, strict=True) if other.method == entry.method]
        differing = [key for key in setting if key != "num_members" and any(s.get(key) != setting[key] for s in rivals)]
        members = f"-{setting['num_members']}" if "num_members" in setting else ""
        labels.append(" ".join([entry.method + members, *(f"{key}={setting[key]}" for key in differing)]))
    return labels


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError(f"has a value twice: {values}")
    return values
