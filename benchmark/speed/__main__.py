"""How fast every method trains on this machine, beside a bare loop of one network and beside its own arithmetic.

examples:
    python -m benchmark.speed
    python -m benchmark.speed cifar100-resnet18 --device cuda
    python -m benchmark.speed --methods single mimo '{method: nfe, num_members: 2}' --sections steps memory
    OMP_NUM_THREADS=1 python -m benchmark.speed --clock cpu --rounds 25 --json

Random images in the shape of a study's first data set are trained on for a few steps; nothing is downloaded. All ways of
a section are measured in turns, A B C, C B A. What is printed is a median and, in brackets, between which values the
middle half of the measurements lies; ratios are taken round by round. The bare loop is the limit: one network, written by
hand, with nothing of the bench (benchmark/speed/bare_loop.py). On a machine that others use, `--clock cpu` with one thread
counts processor time, which they hardly change.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from benchmark import options
from benchmark.allocator import keep_freed_memory
from benchmark.config import Study, load_study
from benchmark.data.catalogue import DATASETS
from benchmark.errors import Parser, UserError, exit_code, unknown
from benchmark.machine import check_device, named_path, positive
from benchmark.networks import NETWORKS
from benchmark.run import device_name, torch_device
from benchmark.speed import records
from benchmark.speed.around import checkpoints, prediction, scoring, start_up
from benchmark.speed.bench import Bench, Row
from benchmark.speed.pipeline import pipeline
from benchmark.speed.subject import subjects
from benchmark.speed.training import loop, memory, runs, steps
from benchmark.strict import describe, parse_yaml
from benchmark.timing import Spread, short
from methods import METHODS

SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "steps": steps,
    "loop": loop,
    "memory": memory,
    "pipeline": pipeline,
    "prediction": prediction,
    "checkpoints": checkpoints,
    "scoring": scoring,
    "start_up": start_up,
}
SMALL: dict[str, Any] = {
    "tasks": [{"dataset": "cifar100", "network": {"name": "wide_resnet", "depth": 10, "width": 2}}],
    "recipe": {"epochs": 200, "batch_size": 128, "learning_rate": 0.1},
    "methods": list(METHODS),
    "seeds": [0],
}
"""What is measured where no study is named: a network that two CPU cores train in a quarter of a second a step."""


def main() -> int:
    arguments = _parser().parse_args()
    study = _study(arguments)
    check_device(arguments.device)
    device = torch_device(arguments.device)
    if arguments.clock == "cpu" and device.type != "cpu":
        raise UserError(f"--clock cpu: does not tell the time of {device} (allowed: wall)")
    if device.type == "cpu":
        keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    named = set(arguments.sections)
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        bench = Bench(
            subjects(study, Path(folder), device),
            device,
            arguments.rounds,
            arguments.steps or (1 if device.type == "cpu" else 20),
            arguments.clock,
        )
        tables: dict[str, list[Row]] = {}
        for name in (name for name in SECTIONS if name in named):
            tables[name] = _shown(name, SECTIONS[name](bench), arguments.json)
            if name == "steps":
                tables["runs"] = _shown("runs", runs(tables[name], bench), arguments.json)
                _keep(arguments.results, tables["runs"], bench)
    if arguments.json:
        print(json.dumps(_about(bench) | tables, indent=1, default=asdict))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmark.speed", description=__doc__)
    parser.add_argument("study", nargs="?", help="a packaged study or a YAML file (default: a small one, built in)")
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, metavar="SECTION", default=list(SECTIONS),
        help=f"of {', '.join(SECTIONS)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="as in a study file (default: the study's)")
    parser.add_argument("--network", help="as in a study file, such as '{name: wide_resnet, depth: 28, width: 10}'")
    parser.add_argument("--dataset", help="whose shape and number of classes are taken")
    parser.add_argument("--batch-size", type=positive)
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--compile", choices=("off", "graphs", "on", "auto"), help="as in a study's recipe")
    parser.add_argument("--rounds", type=positive, default=11, help="measurements of each way (default: 11)")
    parser.add_argument("--steps", type=positive, help="training steps of a measurement (default: 1, on a GPU 20)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="default: wall")
    parser.add_argument(
        "--results",
        type=named_path,
        help="results folder that keeps the rates, for the cost that a sweep's plan predicts",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _study(arguments: argparse.Namespace) -> Study:
    """The study that is named, with what the options replace. Raises UserError."""
    study = (
        load_study(arguments.study) if arguments.study is not None else Study.model_validate({"name": "small"} | SMALL)
    )
    content = study.written()
    task, recipe = content["tasks"][0], content["recipe"]
    if arguments.dataset is not None:
        if arguments.dataset not in DATASETS:
            raise UserError(f"--dataset: {unknown('data set', arguments.dataset, DATASETS)}")
        task |= {"dataset": arguments.dataset, "folder": None, "image_size": None, "out_of_distribution": []}
    if arguments.network is not None:
        task["network"] = _yaml("--network", arguments.network)
    if arguments.methods:
        content["methods"] = [_yaml("--methods", text) for text in arguments.methods]
    for option in ("batch_size", "precision", "compile"):
        value = getattr(arguments, option)
        if value is not None:
            recipe[option] = {"on": True, "off": False}.get(value, value)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{study.name}: {describe(error)}") from None
    return options.resolve(study, METHODS, NETWORKS)


def _yaml(option: str, text: str) -> Any:
    return parse_yaml(text, f"{option} {text!r}")


def _shown(section: str, rows: Iterator[Row], quietly: bool) -> list[Row]:
    """The rows; printed as a table when all are there, unless `quietly`."""
    found = list(rows)
    if not quietly:
        columns = list(dict.fromkeys(key for row in found for key in row))
        cells = [[section if key == "name" else key for key in columns]]
        cells += [[_text(row.get(key, "")) for key in columns] for row in found]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        for line in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        print(flush=True)
    return found


def _text(value: Spread | float | str) -> str:
    return short(value) if isinstance(value, float | int) else str(value)


def _about(bench: Bench) -> dict[str, Any]:
    first = bench.subjects[0].run
    return {
        "device": device_name(bench.device),
        "threads": torch.get_num_threads(),
        "clock": bench.clock,
        "dataset": first.task.dataset,
        "network": first.task.network,
        "recipe": first.recipe.model_dump(),
    }


def _keep(results: Path | None, rows: list[Row], bench: Bench) -> None:
    if results is not None:
        about = device_name(bench.device), torch.get_num_threads()
        pairs = zip(bench.subjects, rows, strict=True)
        records.append(
            results, [records.record_of(subject.run, *about, row["flops"] / row["seconds"]) for subject, row in pairs]
        )


if __name__ == "__main__":
    sys.exit(exit_code(main))
