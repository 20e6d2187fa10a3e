"""Draws examples of one kind and keeps the smallest one of each kind of finding."""

import importlib
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis

from .judge import Finding

SHOWN = 2000
"""Characters of an example or a finding."""


def alone(name: str, num_examples: int, seed: int) -> None:
    """In an empty working folder; leaves with the number of findings."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        num_findings = search(name, Path(folder), num_examples, seed)
        os.chdir("/")
    sys.exit(min(num_findings, 100))


def search(name: str, folder: Path, num_examples: int, seed: int) -> int:
    """The number of findings, which are printed."""
    strategy, check = importlib.import_module(f".{name}", __package__).kind(folder)
    ended: Counter[str] = Counter()
    found: dict[str, tuple[int, Any, Finding]] = {}
    begun = time.monotonic()

    def keep(example: Any, finding: Finding) -> None:
        ended["found"] += 1
        what, size = str(finding.args[0]), len(repr(example))
        if what not in found:
            print(f"  found {what}", flush=True)
        if what not in found or size < found[what][0]:
            found[what] = (size, example, finding)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=num_examples,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def tried(example: Any) -> None:
        try:
            ended[check(example)] += 1
        except Finding as finding:
            keep(example, finding)
        except Exception as error:
            keep(example, Finding(f"the check itself failed: {error!r}", traceback.format_exc()))

    tried()
    counts = ", ".join(f"{count} {how}" for how, count in sorted(ended.items()))
    print(f"{name}: {ended.total()} examples in {time.monotonic() - begun:.0f} s: {counts}", flush=True)
    for what, (_, example, finding) in found.items():
        print(f"  {what}, such as:")
        for part in (repr(example), *finding.args[1:]):
            text = str(part)
            shown = text if len(text) < SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
            print("   ", shown, flush=True)
    return len(found)
