"""Tables, plots and one HTML page from a study's rows: results/<study>/report/. Trains nothing, needs no GPU.

With a selection, claims or a budget, the answer goes to standard output and no file is written.

examples:
    python -m benchmark.report quickstart
    python -m benchmark.report my-study.yaml --results /data/results --pooling logit_mean
    python -m benchmark.report quickstart --methods nfe,single --metric nll,ece --format latex
    python -m benchmark.report quickstart --claims
    python -m benchmark.report quickstart --claim "nfe-3 > deep_ensemble-3 : accuracy"
    python -m benchmark.report quickstart --budget train_hours=4,latency_ms=5 --metric nll
"""

import argparse
import re
import sys
from pathlib import Path

from benchmark.errors import Parser, UserError, exit_code
from benchmark.machine import named_path

# pandas, matplotlib and jinja are imported where they are needed, so that --help answers at once.

GROUPS = ("task", "method", "dataset", "network", "num_members")
FORMATS = ("markdown", "csv", "latex")


def main() -> int:
    arguments = _parser().parse_args()

    from benchmark.config import load_study
    from benchmark.store import Results

    results, name = Results(arguments.results), arguments.study
    if name.endswith((".yaml", ".yml")) or "/" in name:  # a packaged one, such as papers/nfe-cifar100
        name = load_study(name).name
    elif not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(f"{name!r} is no study's name: letters, digits, '_', '.' and '-', or a path that ends in .yaml")
    _check_combination(arguments)
    study = results.read_study(name)
    if _is_question(arguments):
        from benchmark.report.answers import answer

        print(answer(results, study, arguments), end="")
        return 0
    from benchmark.report.write import report_files, write_report

    for path in report_files(write_report(results, study, arguments.pooling, arguments.allow_mixed)):
        print(path)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmark.report", description=__doc__)
    parser.add_argument("study", metavar="STUDY", help="a study that was swept: its name, or that of its YAML file")
    parser.add_argument("--results", metavar="DIR", type=named_path, default=Path("results"), help="default: results")
    parser.add_argument(
        "--pooling", choices=["prob_mean", "logit_mean"], default="prob_mean",
        help="how members are pooled in headlines and plots; tables show both (default: prob_mean)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-mixed", action="store_true",
        help="report rows of several code versions or devices together; every table then says so",
    )  # fmt: skip
    selection = parser.add_argument_group("print tables instead of writing the report")
    selection.add_argument("--methods", metavar="A,B", type=_names, help="labels (nfe-3) or methods (nfe); default all")
    selection.add_argument("--metric", metavar="A,B", type=_names, help="such as nll, shifted/accuracy, training_flops")
    selection.add_argument("--group-by", choices=GROUPS, help="one table for each of these (default: task)")
    selection.add_argument("--format", choices=FORMATS, help="default: markdown")
    questions = parser.add_argument_group("answer a question instead").add_mutually_exclusive_group()
    questions.add_argument("--claims", action="store_true", help="a verdict on every published claim")
    questions.add_argument("--claim", metavar="CLAIM", help='a verdict on one: "nfe-3 > deep_ensemble-3 : accuracy"')
    questions.add_argument(
        "--budget", metavar="LIMITS", help="the methods that fit, best first: train_hours=4,latency_ms=5"
    )
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _is_question(arguments: argparse.Namespace) -> bool:
    asked = ("methods", "metric", "group_by", "format", "claims", "claim", "budget")
    return any(getattr(arguments, name) not in (None, False) for name in asked)


def _check_combination(arguments: argparse.Namespace) -> None:
    """Raises UserError."""
    for name in ("methods", "metric"):
        if getattr(arguments, name) == []:
            raise UserError(f"--{name} needs at least one name")
    asked = "--claims" if arguments.claims else "--claim" if arguments.claim is not None else None
    asked = "--budget" if arguments.budget is not None else asked
    if asked and arguments.group_by:
        raise UserError(f"--group-by chooses tables; it does not go with {asked}")
    if asked in ("--claims", "--claim") and arguments.metric:
        raise UserError(f"--metric does not go with {asked}: a claim names its own")
    if asked in ("--claims", "--claim") and arguments.methods:
        raise UserError(f"--methods does not go with {asked}: a claim names its own")
    if arguments.budget is not None and arguments.metric and len(arguments.metric) > 1:
        raise UserError("--budget ranks by one metric; name one with --metric")


if __name__ == "__main__":
    sys.exit(exit_code(main))
