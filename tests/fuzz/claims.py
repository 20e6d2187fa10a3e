"""results/published/claims.yaml: read, and a verdict given on every claim by runs that it fits."""

from pathlib import Path
from typing import Any

import yaml

from benchmark.report import formats
from benchmark.report.claims import claims_table
from benchmark.report.published import CHECKOUT, load_claims
from benchmark.report.write import read_finished
from tests.simulated_study import simulate, small_study, small_task

from .judge import Finding, answer
from .near_valid import NearValid, Way, near_valid
from .studies import parsed

CLAIMS_IN_A_FILE = 3


def kind(folder: Path) -> tuple[Any, Any]:
    claims = parsed((CHECKOUT / "claims.yaml").read_text(), folder)["claims"]
    starts = range(0, len(claims), CLAIMS_IN_A_FILE)
    texts = [yaml.safe_dump({"claims": claims[start : start + CLAIMS_IN_A_FILE]}, sort_keys=False) for start in starts]
    network = {"name": "wide_resnet", "depth": 28, "width": 10}
    tasks = [small_task(dataset=name, network=network) for name in ("cifar10", "cifar100")]
    methods = ["single", *({"method": name, "num_members": 4} for name in ("batch_ensemble", "deep_ensemble"))]
    study = small_study(methods, seeds=2, tasks=tasks)
    results = simulate(folder / "results", study, images=50, with_examples=False)
    gathered = read_finished(results, study, "prob_mean", allow_mixed=False)
    path = results.root / "published" / "claims.yaml"
    path.parent.mkdir()

    def judge() -> int:
        table = claims_table(gathered, load_claims(results))
        for text in (formats.markdown(table), formats.comma_separated(table), formats.latex(table, "claims")):
            print(text)
        return 0

    def check(near: NearValid) -> str:
        path.write_bytes(near.content)
        given = answer(judge)
        if given.code == 0 and near.must_fail:
            raise Finding(f"silently taken: {near.change.split()[0]}", near.change)
        return "refused" if given.code else "accepted"

    return near_valid(texts, lambda text: parsed(text, folder), _is_free), check


def _is_free(way: Way) -> bool:
    return "options" in way[:-1]
