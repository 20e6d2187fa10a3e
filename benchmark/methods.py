"""List the methods with their options: defaults, allowed values, what they mean, and where paper and released code differ.

python -m benchmark.methods
python -m benchmark.methods nfe
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.errors import Parser, UserError, exit_code, unknown
from benchmark.method import Method
from methods import METHODS
from methods.variants import differences, sources

BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
SHARED = {"num_members": "M, what predicts and is pooled"}
"""What options mean where a method need not explain them again."""


@dataclass(frozen=True)
class Option:
    """An option as people read it."""

    name: str
    default: str
    allowed: str
    meaning: str
    source: str
    """Where it comes from: of an option in which paper and released code differ, both."""


def options_of(method: type[Method]) -> list[Option]:
    hints = typing.get_type_hints(method, include_extras=True)
    differing, said = differences(method), sources(method)
    described = []
    for field in dataclasses.fields(typing.cast(Any, method)):
        meaning = next((info.description for info in _field_infos(hints[field.name]) if info.description), "")
        default = _shown(field.default)
        if field.name in differing:
            mark = differing[field.name]
            default = f"{_shown(mark.paper)} (paper), {_shown(mark.released)} (released)"
        allowed = " or ".join(dict.fromkeys(_allowed(hints[field.name], optional=field.name not in differing)))
        described.append(
            Option(field.name, default, allowed, meaning or SHARED.get(field.name, ""), said.get(field.name, ""))
        )
    return described


def summary_of(method: type[Method]) -> str:
    """The first paragraph of its file, which names the paper, in one line."""
    return " ".join((sys.modules[method.__module__].__doc__ or "").strip().split("\n\n")[0].split())


def _field_infos(hint: Any) -> Iterator[FieldInfo]:
    yield from (mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, FieldInfo))


def _allowed(hint: Any, optional: bool) -> Iterator[str]:
    """What a type hint takes: `integer ≥ 1, ≤ 100`, `"snip"`; None only where it is more than the variant's choice."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        bounds = [
            f"{sign} {_shown(value)}"
            for info in _field_infos(hint)
            for mark in info.metadata
            for bound, sign in BOUNDS.items()
            if (value := getattr(mark, bound, None)) is not None
        ]
        inner = [*_allowed(hint.__origin__, optional)]
        yield " ".join([inner[0], ", ".join(bounds)]).strip()
        yield from inner[1:]
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _allowed(part, optional)
    elif origin is typing.Literal:
        yield from map(_shown, typing.get_args(hint))
    elif hint is types.NoneType:
        if optional:
            yield "null"
    else:
        yield {int: "integer", float: "number", bool: "true or false", str: "text"}.get(hint, str(hint))


def _shown(value: object) -> str:
    """A value as a study file has it."""
    if value is dataclasses.MISSING:
        return "none, has to be given"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plain_lines(name: str, method: type[Method]) -> Iterator[str]:
    """For pipes and logs: nothing cut, one fact a line."""
    yield f"{name}: {summary_of(method)}"
    for option in options_of(method):
        yield f"  {option.name}: {option.default}"
        for what, text in (("allowed", option.allowed), ("meaning", option.meaning), ("source", option.source)):
            if text:
                yield f"    {what}: {text}"


def table(name: str, method: type[Method]) -> Table:
    """For a terminal."""
    shown = Table(
        title=Text(f"{name}: {summary_of(method)}", "bold"), title_justify="left", box=box.SIMPLE, expand=True
    )
    for header, ratio in (("option", 2), ("default", 2), ("allowed", 3), ("meaning and source", 5)):
        shown.add_column(header, ratio=ratio, overflow="fold")
    for option in options_of(method):
        text = Text(option.meaning)
        if option.source:
            text.append(f"\n{option.source}", "dim")
        shown.add_row(Text(option.name), Text(option.default), Text(option.allowed), text)
    return shown


def main() -> int:
    parser = Parser(prog="python -m benchmark.methods", description=__doc__)
    parser.add_argument("method", nargs="?", help="one method; default all")
    asked = parser.parse_args().method
    if asked is not None and asked not in METHODS:
        raise UserError(unknown("method", asked, METHODS))
    chosen = {asked: METHODS[asked]} if asked else METHODS
    console = Console()
    for index, (name, method) in enumerate(chosen.items()):
        if console.is_terminal:
            console.print(table(name, method))
        else:
            print(*([""] if index else []), *plain_lines(name, method), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
