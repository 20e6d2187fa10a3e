"""Feed generated near-valid input and damaged files to every command: each must end well or in one clear line.

    python -m tests.fuzz --examples 10000
    python -m tests.fuzz --only studies commands --examples 500 --seed 3

Everything happens in temporary folders, and nothing is trained but networks of a second. Exit code 1 where something was
found: each kind of finding once, with its smallest example. 10,000 examples take about twenty minutes on one core.
"""

import multiprocessing
import sys

from benchmark.errors import Parser, WorkError, exit_code
from benchmark.machine import positive

from .search import alone

KINDS = {"studies": 0.30, "profiles": 0.15, "claims": 0.15, "published": 0.15, "commands": 0.21, "files": 0.04}
"""Modules of this folder, each with `kind(folder)` -> strategy and check, and their shares of the examples."""


def main() -> int:
    parser = Parser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=positive, default=10_000, help="of all kinds together (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other examples (default: 0)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    arguments = parser.parse_args()
    shares = {name: KINDS[name] for name in arguments.only}
    failed = []
    for name, share in shares.items():
        num_examples = max(1, round(arguments.examples * share / sum(shares.values())))
        # Each in a process of its own: what would train is replaced in it.
        process = multiprocessing.get_context("spawn").Process(target=alone, args=(name, num_examples, arguments.seed))
        process.start()
        process.join()
        failed += [name] if process.exitcode else []
    if failed:
        raise WorkError(f"something was found: {', '.join(failed)}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
