"""results/published/results.csv: read, and held against runs that it fits. One cell, line or byte is changed."""

import csv
import io
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmark.report import formats
from benchmark.report.against_papers import paper_against_ours
from benchmark.report.gather import Gathered
from benchmark.report.published import CHECKOUT
from benchmark.report.write import read_finished
from benchmark.store import Results
from tests.simulated_study import simulate, small_study, small_task

from .judge import accepted_or_refused
from .near_valid import NUMBERS, TEXTS, NearValid

NUMERIC = ("num_members", "value", "std", "runs", "epochs")


@st.composite
def changed_tables(draw: st.DrawFn, cells: list[list[str]]) -> NearValid:
    first = draw(st.integers(1, len(cells) - 4))
    cells = [list(line) for line in [cells[0], *cells[first : first + 4]]]
    row, column = draw(st.integers(0, 4)), draw(st.integers(0, len(cells[0]) - 1))
    change, must_fail = (
        draw(st.sampled_from(["cell", "cell", "cell", "cut cell", "add cell", "byte", "cut", "twice"])),
        False,
    )
    if change == "cell":
        new = draw(st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS).map(repr_of), st.text(max_size=9)))
        must_fail = row == 0 and new != cells[0][column]
        must_fail |= cells[0][column] in NUMERIC and bool(new.strip()) and not is_number(new)
        cells[row][column] = new
    elif change == "cut cell":
        del cells[row][column]
        must_fail = True
    elif change == "add cell":
        cells[row].insert(column, "")
        must_fail = True
    elif change == "twice":
        cells.insert(row, cells[row])
        must_fail = row == 0
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    content = bytearray(text.getvalue().encode())
    at = draw(st.integers(0, len(content) - 1))
    if change == "byte":
        content[at] = draw(st.integers(0, 255))
    elif change == "cut":
        content = content[:at]
    return NearValid(f"{change} {row} {column} {at}", bytes(content), must_fail)


def kind(folder: Path) -> tuple[Any, Any]:
    with (CHECKOUT / "results.csv").open(newline="") as file:
        cells = [*csv.reader(file)]
    results, gathered = published_beside_runs(folder)
    path = results.root / "published" / "results.csv"

    def judge() -> int:
        for task in gathered.tasks:
            table = paper_against_ours(task)
            if table is not None:
                for text in (formats.markdown(table), formats.comma_separated(table), formats.latex(table, "papers")):
                    print(text)
        return 0

    return changed_tables(cells), lambda near: accepted_or_refused(path, near, judge)


def published_beside_runs(folder: Path) -> tuple[Results, Gathered]:
    """Simulated runs that published claims and numbers are about, and a folder for those."""
    network = {"name": "wide_resnet", "depth": 28, "width": 10}
    tasks = [small_task(dataset=name, network=network) for name in ("cifar10", "cifar100")]
    methods = ["single", *({"method": name, "num_members": 4} for name in ("batch_ensemble", "deep_ensemble"))]
    study = small_study(methods, seeds=2, tasks=tasks)
    results = simulate(folder / "results", study, images=50, with_examples=False)
    gathered = read_finished(results, study, "prob_mean", allow_mixed=False)
    (results.root / "published").mkdir()
    return results, gathered


def repr_of(number: float) -> str:
    try:
        return repr(number)
    except ValueError:  # of more digits than Python writes
        return "9" * 5000


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
