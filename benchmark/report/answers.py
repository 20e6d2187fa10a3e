"""What `python -m benchmark.report` prints when it is asked something: selected tables, verdicts on claims, a budget."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from benchmark.config import Study
from benchmark.errors import UserError
from benchmark.report.budget import parse_budget, within_budget
from benchmark.report.claims import claims_table, parse_claim
from benchmark.report.gather import Gathered
from benchmark.report.published import load_claims
from benchmark.report.quantities import quantity_of
from benchmark.report.selection import as_text, check_held, selected_tables, with_methods
from benchmark.report.sources import source_of
from benchmark.report.table import Table
from benchmark.report.write import read_finished
from benchmark.store import Results


def answer(results: Results, study: Study, arguments: argparse.Namespace) -> str:
    """Text in the format asked for. Raises UserError."""
    gathered = read_finished(results, study, arguments.pooling, arguments.allow_mixed)
    tables = _tables(gathered, results, arguments)
    noted = [replace(table, notes=[*table.notes, *gathered.warnings]) for table in tables]
    return as_text(noted, arguments.format or "markdown", study.name)


def _tables(gathered: Gathered, results: Results, arguments: argparse.Namespace) -> Sequence[Table]:
    if arguments.claims:
        return [claims_table(gathered, load_claims(results))]
    if arguments.claim is not None:
        return [claims_table(gathered, [parse_claim(arguments.claim, gathered)])]
    if arguments.methods:
        gathered = with_methods(gathered, arguments.methods)
    if arguments.budget is not None:
        metric = arguments.metric[0] if arguments.metric else "accuracy"
        source = source_of(metric, arguments.pooling)
        if quantity_of(source).better is None:
            raise UserError(f"--budget: {metric} ranks nothing: neither more nor less of it is better")
        check_held(gathered, [source])
        return [within_budget(task, parse_budget(arguments.budget), source) for task in gathered.tasks]
    return selected_tables(gathered, arguments.metric or [], arguments.group_by or "task", arguments.pooling)
