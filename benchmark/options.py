"""Methods and networks are dataclasses whose fields are their options; here a study's values are checked against them."""

import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from benchmark.config import MethodEntry, Study, TaskConfig, deviate
from benchmark.errors import UserError, unknown
from benchmark.strict import describe

LARGEST_GRID = 1000
"""Of one method entry: ten lists of ten values would never end."""


def build(what: str, registry: Mapping[str, type], name: object, options: Mapping[str, Any]) -> Any:
    """The registered dataclass made from options.

    Raises ValueError with one line for an unknown name or option, a wrong type, or a value that is not allowed.
    """
    if not isinstance(name, str) or name not in registry:
        raise ValueError(unknown(what, name, registry))
    made = registry[str(name)]
    hints = typing.get_type_hints(made, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(made)}
    for option in options:
        if option not in fields:
            raise ValueError(unknown(f"option of {name}", option, fields))
    required = dataclasses.MISSING
    definitions: dict[str, Any] = {
        key: (hints[key], ... if field.default is required else field.default) for key, field in fields.items()
    }
    strict = create_model(made.__name__, __config__=ConfigDict(strict=True, allow_inf_nan=False), **definitions)
    try:
        checked = strict.model_validate(dict(options))
    except ValidationError as error:
        raise ValueError(f"{name}: {describe(error)}") from None
    return made(**{key: getattr(checked, key) for key in fields})


def resolve(study: Study, methods: Mapping[str, type], networks: Mapping[str, type]) -> Study:
    """The study with every option of every method and network checked and filled in, and lists of values multiplied out.

    Raises UserError, naming the study and the entry.
    """
    return study.model_copy(
        update={
            "tasks": [_resolve_task(study, i, task, networks) for i, task in enumerate(study.tasks)],
            "methods": [
                resolved
                for i, entry in enumerate(study.methods)
                for resolved in _resolve_entry(study, f"methods[{i}]", entry, methods)
            ],
        }
    )


def _resolve_task(study: Study, index: int, task: TaskConfig, networks: Mapping[str, type]) -> TaskConfig:
    where = f"{study.name}: tasks[{index}].network"
    options = {key: value for key, value in task.network.items() if key != "name"}
    if "name" not in task.network:
        raise UserError(f"{where}.name: is missing (allowed: {', '.join(sorted(networks))})")
    try:
        network = build("network", networks, task.network["name"], options)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return task.model_copy(update={"network": {"name": task.network["name"], **dataclasses.asdict(network)}})


def _resolve_entry(study: Study, where: str, entry: MethodEntry, methods: Mapping[str, type]) -> list[MethodEntry]:
    grid = [value if isinstance(value, list) else [value] for value in entry.options.values()]
    for option, tried in zip(entry.options, grid, strict=True):
        if not tried:
            raise UserError(f"{study.name}: {where}.{option}: a list of values to try holds at least one")
    if (size := math.prod(map(len, grid))) > LARGEST_GRID:
        raise UserError(f"{study.name}: {where}: its lists make a grid of {size:,}, larger than {LARGEST_GRID:,}")
    resolved = []
    for values in itertools.product(*grid):
        try:
            method = build("method", methods, entry.method, dict(zip(entry.options, values, strict=True)))
            method.check(deviate(study.recipe, entry.recipe))
        except ValidationError as error:
            raise UserError(f"{study.name}: {where}.recipe: {describe(error)}") from None
        except ValueError as error:
            raise UserError(f"{study.name}: {where}: {error}") from None
        resolved.append(entry.model_copy(update={"options": dataclasses.asdict(method)}))
    return resolved
