"""Where a paper and its released code differ: `variant` takes one side in every option that a study leaves open.

    variant: Variant = "paper"
    pruned_weights: Annotated[Literal["zero", "decaying"] | None, Differs("zero", "decaying", "paper …; code …")] = None

An option set by a study holds whatever the variant; `chosen(method, "pruned_weights")` is what the method goes by.
"""

import functools
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from benchmark.method import Method

Variant = Annotated[
    Literal["paper", "released"],
    Field(description="whose side the options take that are not set: the paper's, or its released code's"),
]


@dataclass(frozen=True)
class Differs:
    """Marks an option, None by default, whose value is the paper's or the released code's."""

    paper: Any
    released: Any
    source: str
    """Where the one says so and the other does so."""


@dataclass(frozen=True)
class Source:
    """Says where an option comes from on which paper and released code agree, or that one of them alone has."""

    source: str


def chosen(method: Method, option: str) -> Any:
    """The option's value: the study's where it sets one, else that of the method's variant."""
    value = getattr(method, option)
    return getattr(differences(type(method))[option], vars(method)["variant"]) if value is None else value


@functools.cache
def differences(method: type[Method]) -> dict[str, Differs]:
    """The options of a method in which its paper and the released code differ."""
    return {option: mark for option, mark in _marks(method) if isinstance(mark, Differs)}


def sources(method: type[Method]) -> dict[str, str]:
    """Where the options of a method come from, of those that say it."""
    return {option: mark.source for option, mark in _marks(method) if isinstance(mark, Differs | Source)}


def _marks(method: type[Method]) -> Iterator[tuple[str, Any]]:
    for option, hint in typing.get_type_hints(method, include_extras=True).items():
        yield from ((option, mark) for mark in getattr(hint, "__metadata__", ()))
