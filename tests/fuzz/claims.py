"""results/published/claims.yaml: read, and a verdict given on every claim by runs that it fits."""

from pathlib import Path
from typing import Any

import yaml

from benchmark.report import formats
from benchmark.report.claims import claims_table
from benchmark.report.published import CHECKOUT, load_claims

from .judge import accepted_or_refused
from .near_valid import Way, near_valid
from .published import published_beside_runs
from .studies import parsed

CLAIMS_IN_A_FILE = 3


def kind(folder: Path) -> tuple[Any, Any]:
    claims = parsed((CHECKOUT / "claims.yaml").read_text(), folder)["claims"]
    starts = range(0, len(claims), CLAIMS_IN_A_FILE)
    texts = [yaml.safe_dump({"claims": claims[start : start + CLAIMS_IN_A_FILE]}, sort_keys=False) for start in starts]
    results, gathered = published_beside_runs(folder)
    path = results.root / "published" / "claims.yaml"

    def judge() -> int:
        table = claims_table(gathered, load_claims(results))
        for text in (formats.markdown(table), formats.comma_separated(table), formats.latex(table, "claims")):
            print(text)
        return 0

    return near_valid(texts, lambda text: parsed(text, folder), _is_free), (
        lambda near: accepted_or_refused(path, near, judge)
    )


def _is_free(way: Way) -> bool:
    return "options" in way[:-1]
