"""Tables, plots and one HTML page from a study's rows: results/<study>/report/. Trains nothing, needs no GPU.

examples:
    python -m benchmark.report quickstart
    python -m benchmark.report my-study.yaml --results /data/results --pooling logit_mean
"""

import argparse
import re
import sys
from pathlib import Path

from benchmark.errors import UserError, exit_code

# pandas, matplotlib and jinja are imported where they are needed, so that --help answers at once.


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", metavar="STUDY", help="the name of a study that was swept, or its YAML file")
    parser.add_argument("--results", metavar="DIR", type=Path, default=Path("results"), help="default: results")
    parser.add_argument(
        "--pooling", choices=["prob_mean", "logit_mean"], default="prob_mean",
        help="how members are pooled in headlines and plots; tables show both (default: prob_mean)",
    )  # fmt: skip
    arguments = parser.parse_args()

    from benchmark.config import load_study
    from benchmark.report.write import report_files, write_report
    from benchmark.store import Results

    results, name = Results(arguments.results), arguments.study
    if name.endswith((".yaml", ".yml")):
        name = load_study(name).name
    elif not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(f"{name!r} is no study's name: letters, digits, '_', '.' and '-', or a path that ends in .yaml")
    folder = write_report(results, results.read_study(name), arguments.pooling)
    for path in report_files(folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
