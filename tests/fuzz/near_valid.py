"""Files that are valid but for one change: a key, a type, a value, a nesting, a line or a byte."""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from benchmark.strict import yaml_text

Way = tuple[str | int, ...]
"""Keys and indices from the top of a file to one of its parts."""

TEXTS = [
    *("", " ", "\t", "\n", "a\nb", "\0", "\x1b[31m", "\x7f", "\u202e", "\ufeff", "é", "日本", "🙂", "1", "1e-4", "true"),
    *("null", "~", "nan", ".inf", "../up", "../../etc/passwd", "/etc/passwd", "a/b", "~/x", ".", "..", "-", "--help", "*"),
    *("<script>", "=1+1", "$(id)", "`id`", "; id", "%s", "{}", "{0}", "\\", '"', "'", "x" * 300, "x" * 70_000, "9" * 5000),
]  # fmt: skip
NUMBERS = [
    *(0, -1, 1, 2, 3, 7, 12, 64, 10**6, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**400)),
    *(0.0, -0.0, -1.0, 0.5, 1.0, 1.5, 1e-300, 5e-324, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
]
LINES = [
    *("{}", "[]", "- 1", "? a", "a: b", "<<: {a: 1}", "<<: *x", "&x a: b", "%YAML 1.2", "---", "...", "!!set {a, b}"),
    *("\tx: 1", "x: !!binary aGk=", "x: !!timestamp 2026-01-01", "x: 2026-01-01", "1: 2", "null: 1", "? [a]\n: 1"),
    *("x: !!python/object/apply:os.system [id]", "x: !!python/name:os.system", "x: !tag 1", "x: *x", "x: &x [*x]"),
]
UNSAFE = "!!python"

LAUGHTER: list[Any] = ["x"]
"""Written with aliases a few lines long, and a trillion values when told."""
for _ in range(25):
    LAUGHTER = [LAUGHTER] * 3

odd_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS),
    st.sampled_from([None, True, False, [], {}, [[]], [{}], {"a": 1}, {"name": "x"}, [1, "a", None], LAUGHTER]),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=8),
    st.lists(st.one_of(st.integers(-2, 9), st.text(max_size=3)), max_size=4),
)


@dataclass(frozen=True)
class NearValid:
    """A file's bytes."""

    change: str
    content: bytes
    must_fail: bool = False
    """Whether to take it would be a silent default: it holds a key that nothing knows, or a number as text."""


def near_valid(texts: Sequence[str], parse: Callable[[str], Any], is_free: Callable[[Way], bool]) -> Any:
    """A strategy. `is_free` tells where keys and types may be any."""

    @st.composite
    def changed(draw: st.DrawFn) -> NearValid:
        text = draw(st.sampled_from(texts))
        if draw(st.integers(0, 9)) < 7:
            return _changed_tree(draw, parse(text), is_free)
        return _changed_text(draw, text)

    return changed()


def _changed_tree(draw: st.DrawFn, tree: Any, is_free: Callable[[Way], bool]) -> NearValid:
    tree = copy.deepcopy(tree)
    way = draw(st.sampled_from([*_ways(tree)]))
    parent, last = _at(tree, way[:-1]), way[-1]
    old = parent[last]
    changes = ["value", "value", "value", "remove", "nest", "unnest", "twice"]
    changes += ["rename", "add"] if isinstance(parent, dict) else []
    change, must_fail = draw(st.sampled_from(changes)), False
    if change == "value":
        new = parent[last] = draw(odd_values)
        was_number = type(old) in (int, float)
        must_fail = (was_number and type(new) in (str, bool)) or (type(new) is float and new != new)
    elif change == "remove":
        del parent[last]
    elif change == "nest":
        parent[last] = draw(st.sampled_from([[old], {"name": old}, {str(last): old}, [old, old], [[old]]]))
    elif change == "unnest":
        parent[last] = next(iter(old.values() if isinstance(old, dict) else old), None) if _holds(old) else old
    elif change == "twice":
        parent[last] = [*old, *old] if isinstance(old, list) else old
    else:
        new_key = (
            _misspelt(draw, str(last)) if change == "rename" else draw(st.sampled_from(["unknown", "x", "", "Name"]))
        )
        must_fail = new_key not in parent
        parent[new_key] = parent.pop(last) if change == "rename" else draw(odd_values)
    shown = ".".join(map(str, way))
    return NearValid(f"{change} {shown}", yaml_text(tree).encode(), must_fail and not is_free(way))


def _changed_text(draw: st.DrawFn, text: str) -> NearValid:
    lines = text.splitlines(keepends=True)
    change = draw(st.sampled_from(["line", "line", "double", "cut", "byte", "indent", "encoding", "deep", "aliases"]))
    place = draw(st.integers(0, len(lines) - 1))
    if change == "line":
        new = draw(st.sampled_from(LINES))
        indent = re.match(r"\s*", lines[place])[0]  # type: ignore[index]
        lines.insert(place, f"{indent}{new}\n")
        return NearValid(f"line {place}: {new}", "".join(lines).encode(), UNSAFE in new)
    if change == "double":
        keys = [i for i, line in enumerate(lines) if re.match(r"\s*\w+:", line)]
        place = draw(st.sampled_from(keys))
        lines.insert(place, re.match(r"\s*\w+:", lines[place])[0] + " 1\n")  # type: ignore[index]
        return NearValid(f"double {lines[place].strip()}", "".join(lines).encode(), True)
    if change == "indent":
        lines[place] = draw(st.sampled_from([" ", "    ", "- "])) + lines[place]
        return NearValid(f"indent {place}", "".join(lines).encode())
    if change == "encoding":
        name = draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "cp037"]))
        return NearValid(name, text.encode(name))
    if change == "deep":
        depth = draw(st.sampled_from([50, 900, 5000]))
        return NearValid(f"depth {depth}", text.encode() + b"\nx: " + b"[" * depth + b"]" * depth + b"\n", True)
    if change == "aliases":  # a billion laughs
        doubled = "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}, *a{i}]\n" for i in range(draw(st.sampled_from([3, 30]))))
        return NearValid("aliases", text.encode() + f"\na0: &a0 [x]\n{doubled}".encode(), True)
    content = bytearray(text.encode())
    at = draw(st.integers(0, len(content) - 1))
    if change == "cut":
        return NearValid(f"cut at {at}", bytes(content[:at]))
    content[at] = draw(st.integers(0, 255))
    return NearValid(f"byte {at}", bytes(content))


def _misspelt(draw: st.DrawFn, key: str) -> str:
    place = draw(st.integers(0, max(0, len(key) - 1)))
    ways = [key + "s", key.upper(), f" {key}", f"{key} ", key[:place] + key[place + 1 :], key[:place] + key[place:] * 2]
    return draw(st.sampled_from([new for new in ways if new != key]))


def _ways(tree: Any, way: Way = ()) -> Iterator[Way]:
    for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*way, key)
        yield from _ways(part, (*way, key))


def _at(tree: Any, way: Way) -> Any:
    for key in way:
        tree = tree[key]
    return tree


def _holds(part: Any) -> bool:
    return isinstance(part, dict | list) and bool(part)
