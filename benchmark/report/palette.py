"""One colour and marker per method, the same in every plot and page; variants of a method differ in marker and line."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

METHOD_STYLES = {
    "single": ("#4D4D4D", "o"),
    "deep_ensemble": ("#0072B2", "s"),
    "batch_ensemble": ("#E69F00", "D"),
    "mimo": ("#009E73", "^"),
    "mixmo": ("#CC79A7", "v"),
    "prune_and_tune": ("#56B4E9", "P"),
    "nfe": ("#D55E00", "X"),
}
"""Colours of Okabe & Ito (2008), apart from one another for colour-blind readers and in print."""

FURTHER_COLOURS = ("#332288", "#117733", "#882255", "#999933", "#44AA99", "#AA4499", "#661100", "#88A0CC")
"""After Paul Tol's muted scheme, for methods that came later."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "*")
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    line: str


def choose_styles(methods_by_label: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """The style of each label, from pairs (label, method)."""
    pairs = list(dict.fromkeys(methods_by_label))
    chosen = dict(METHOD_STYLES)
    for method in sorted({method for _, method in pairs} - METHOD_STYLES.keys()):
        first = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4]) % len(FURTHER_COLOURS)
        wheel = FURTHER_COLOURS[first:] + FURTHER_COLOURS[:first]
        taken = {colour for colour, _ in chosen.values()}
        colour = next((colour for colour in wheel if colour not in taken), wheel[0])
        chosen[method] = (colour, MARKERS[7 + first % 5])
    styles: dict[str, Style] = {}
    variants: dict[str, int] = {}
    for label, method in pairs:
        colour, marker = chosen[method]
        variant = variants.get(method, 0)
        variants[method] = variant + 1
        marker = MARKERS[(MARKERS.index(marker) + variant) % len(MARKERS)]
        styles[label] = Style(colour, marker, LINES[variant % len(LINES)])
    return styles
