"""Strict YAML files: safe to load, no key unknown or twice, and one line that says what is wrong where. No torch."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from benchmark.errors import UserError, one_line, unknown

MOST_VALUES = 100_000
"""In a file, aliases followed: nine lines of nested ones would hold a billion."""


class Strict(BaseModel):
    """A part of a file: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(unknown("key", key, cls.model_fields))
        return values


def read_yaml(path: Path, shape: str) -> dict[str, Any]:
    """The mapping in a file; `shape` says what it should look like. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({one_line(error)})") from None
    content = parse_yaml(text, path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: {shape}")
    return content


def parse_yaml(text: str, where: object) -> Any:
    """What a text holds. Raises UserError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{where}: not valid YAML ({one_line(error)})") from None


def yaml_text(content: dict[str, Any]) -> str:
    """What parse_yaml reads as it was."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def describe(error: ValidationError) -> str:
    """The first problem of a validation error in one line: where, what, what is allowed."""
    problem = error.errors(include_url=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "missing":
        what = "is missing"
    elif problem["type"] == "union_tag_invalid":
        expected = re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])
        what = unknown("name", problem["ctx"]["tag"], expected)
    elif problem["type"] == "value_error":
        what = str(problem["ctx"]["error"])
    else:
        shown = repr(problem["input"])
        what = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, not {shown if len(shown) < 60 else shown[:57] + '…'}"
    return one_line(f"{where}: {what}" if where else what)


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-4 as a number, as YAML 1.2 does, takes no key twice and no text that is endless to tell."""

    def construct_document(self, node: yaml.Node) -> Any:
        if _count_values(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"holds more than {MOST_VALUES:,} values", node.start_mark
            )
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known = set[str]()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", node.start_mark)
            if key in known:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
            known.add(key)
        return super().construct_mapping(node, deep)


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Of a node and all below it, those of an alias as often as it stands; beyond measure where one refers to itself."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [each for pair in parts for each in pair] if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    return known[id(node)]


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that _Loader would take for numbers, and no others."""


# YAML 1.1 reads 72:00:00 as a number to the base of 60, and 1e-4 as text.
_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0b[01_]+|0x[\da-fA-F_]+|0[0-7_]*|[1-9][\d_]*)",
    "tag:yaml.org,2002:float": r"[-+]?((\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)",
}
for _reads_or_writes in (_Loader, _Dumper):
    _reads_or_writes.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, _pattern in _NUMBERS.items():
        _reads_or_writes.add_implicit_resolver(_tag, re.compile(f"^({_pattern})$"), list("-+.0123456789"))
