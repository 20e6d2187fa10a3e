"""Study files, the grid they make, and the key of a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.config import LATER_SETTINGS, Run, Study, expand, load_study, read_study
from benchmark.networks import NETWORKS
from benchmark.options import resolve
from benchmark.store import Results
from methods import METHODS


def grid(path: Path) -> list[Run]:
    return expand(resolve(load_study(str(path)), METHODS, NETWORKS))


def packaged() -> list[str]:
    from benchmark.config import STUDIES

    return sorted(str(path.relative_to(STUDIES).with_suffix("")) for path in STUDIES.rglob("*.yaml"))


@pytest.mark.parametrize("name", packaged())
def test_packaged_studies_are_valid(name: str) -> None:
    assert expand(resolve(load_study(name), METHODS, NETWORKS))


@pytest.mark.parametrize("name", packaged())
def test_resolved_study_reads_back_as_the_same_grid(name: str, tmp_path: Path) -> None:
    """What lies beside the rows gives the very keys of the study that was swept."""
    study, results = resolve(load_study(name), METHODS, NETWORKS), Results(tmp_path)
    results.write_study(study)
    assert expand(results.read_study(study.name)) == expand(study)


def test_a_list_of_values_is_a_grid(tiny_study: Callable[..., Path]) -> None:
    entry = {"method": "nfe", "num_members": [2, 3], "sparsity": [0.0, 0.5]}
    runs = grid(tiny_study(methods=["single", entry], seeds=[0, 7]))
    assert len(runs) == 10
    assert [run.seed for run in runs] == [0] * 5 + [7] * 5  # all of one seed before the next
    assert [run.label for run in runs[:5]] == [
        "single",
        "nfe-2 sparsity=0.0",
        "nfe-2 sparsity=0.5",
        "nfe-3 sparsity=0.0",
        "nfe-3 sparsity=0.5",
    ]


def test_equal_entries_are_one_run(tiny_study: Callable[..., Path]) -> None:
    assert len(grid(tiny_study(methods=["mimo", {"method": "mimo", "num_members": 3}]))) == 1


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seeds": [1]},
    "option": {"methods": [{"method": "nfe", "temperature": 4.0}]},
    "recipe": {"recipe": {"weight_decay": 1e-4}},
    "deviation": {"methods": [{"method": "nfe", "recipe": {"weight_decay": 1e-4}}]},
    "task": {"task": {"test_images": 59}},
    "network": {"task": {"network": {"name": "wide_resnet", "depth": 16, "width": 1}}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_key_depends_on_what_changes_the_numbers(change: str, tiny_study: Callable[..., Path]) -> None:
    [run] = grid(tiny_study(methods=["nfe"]))
    [changed] = grid(tiny_study(**{"methods": ["nfe"]} | CHANGES[change]))
    assert run.key != changed.key


def test_key_depends_on_nothing_else(tiny_study: Callable[..., Path]) -> None:
    """Names, titles, order of entries, and defaults that are written out."""
    [run] = grid(tiny_study(methods=["nfe"]))
    written_out = {"method": "nfe", "num_members": 3, "sparsity": 0.0}
    other = grid(tiny_study("other", title="Another", methods=["single", written_out], recipe={"momentum": 0.9}))
    assert run.key == other[1].key
    assert run.key.startswith("digits-wideresnet10x1-nfe3-s0-")


def test_deviation_from_the_recipe_is_on_the_run(tiny_study: Callable[..., Path]) -> None:
    [_, run] = grid(tiny_study(methods=["single", {"method": "mimo", "recipe": {"batch_size": 16}}]))
    assert run.recipe.batch_size == 16
    assert run.deviations == {"batch_size": 16}


def test_deviation_keeps_what_it_does_not_name(tiny_study: Callable[..., Path]) -> None:
    [run] = grid(tiny_study(methods=[{"method": "mimo", "recipe": {"augmentation": {"cutout": 2}}}]))
    assert run.recipe.augmentation.model_dump() == {
        "crop_padding": 1,
        "flip": False,
        "cutout": 2,
        "mixup": 0,
        "cutmix": 0,
    }


def test_numbers_are_read_as_yaml_1_2_reads_them(tiny_study: Callable[..., Path]) -> None:
    path = tiny_study()
    path.write_text(path.read_text() + "\n")
    content = yaml.safe_load(path.read_text())
    text = yaml.safe_dump(content).replace("learning_rate: 0.05", "learning_rate: 5e-2")
    path.write_text(text)
    assert read_study(path).recipe.learning_rate == 0.05


def test_study_round_trips_through_its_written_form() -> None:
    study = load_study("quickstart")
    assert Study.model_validate(study.written()) == study


@pytest.mark.parametrize(
    "text", ["1e-4", "1e5", "017", "72:00:00", "true", "~", "<<", "", "a: b", "\x1b", "é", " x\n\ny "]
)
def test_a_text_that_looks_like_something_else_stays_text(
    text: str, tiny_study: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_study(stem="1e4")  # the name of the study, too
    path.write_text(path.read_text() + f"title: {json.dumps(text)}\n")
    study, results = load_study(str(path)), Results(tmp_path)
    results.write_study(study)
    assert results.read_study("1e4") == study
    assert (study.name, study.title) == ("1e4", text)


def test_settings_younger_than_the_results_leave_keys_alone() -> None:
    """Keys of rows that were trained before there were such settings, as they were written then."""
    runs = {run.label: run.key for run in expand(resolve(load_study("cifar10-small"), METHODS, NETWORKS))}
    assert runs["single"] == "cifar10-wideresnet10x1-single-s0-1a3d8e89"
    assert runs["deep_ensemble-3"] == "cifar10-wideresnet10x1-deep_ensemble3-s0-6b5a542f"
    assert runs["prune_and_tune-4"] == "cifar10-wideresnet10x1-prune_and_tune4-s0-381576e5"


METHOD_OF = {"pairing_images": "mimo", "box_side": "mixmo"}
OTHER_VALUES = {
    "last_batch": "keep",
    "budget": "training_flops",
    "shortcut_from": "input",
    "last_norm_momentum": 0.9,
    "initialisation": "truncated_he",
    "classifier_std": 0.01,
    "variant": "released",
    "pairing_images": 16,
    "box_side": "even",
    "parent_is_member": True,
    "tuning_schedule": "constant",
    "tuning_momentum": "cycled",
}


@pytest.mark.parametrize("path", LATER_SETTINGS)
def test_another_value_of_a_younger_setting_is_another_run(path: str, tiny_study: Callable[..., Path]) -> None:
    section, *_, name = path.split(".")
    method = METHOD_OF.get(name, "prune_and_tune") if section == "options" else "single"
    is_of_preact = name in ("final_norm", "classifier_std")
    network = {"name": "preact_resnet"} if is_of_preact else {"name": "wide_resnet", "depth": 10, "width": 1}
    change = {name: OTHER_VALUES.get(name, not LATER_SETTINGS[path])}
    same: dict[str, Any] = {"methods": [{"method": method}], "task": {"network": network}}
    changed: dict[str, Any] = {
        "recipe": {"recipe": change},
        "options": {"methods": [{"method": method} | change]},
        "task": {"task": {"network": network} | change},
        "task.network": {"task": {"network": network | change}},
    }["task.network" if "network" in path else section]
    [run], [other] = grid(tiny_study(**same)), grid(tiny_study(**same | changed))
    assert run.key != other.key


def test_packaged_studies_have_folders_of_their_own() -> None:
    """A study's results lie in a folder of its name: no two may share it."""
    names = [load_study(name).name for name in packaged()]
    assert len(set(names)) == len(names)
    assert all(study.rpartition("/")[2] == name for study, name in zip(packaged(), names, strict=True))
