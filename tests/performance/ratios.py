"""The ratios of docs/speed.md measured again, beside those recorded there, so that a regression is seen.

    OMP_NUM_THREADS=1 python tests/performance/ratios.py
    tox -e speed -- --rounds 25 --mixmo ~/mixmo-pytorch --nfe ~/NFE

Takes about five minutes. Nothing fails: who reads it judges, by the middle halves in brackets. Options are passed on to
peers.py; peers that are not there are left out.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SPEED = [sys.executable, "-m", "benchmark.speed", "--clock", "cpu", "--threads", "1", "--json"]
PEERS = [sys.executable, str(Path(__file__).parent / "peers.py"), "--clock", "cpu", "--threads", "1", "--json"]
RECORDED = re.compile(r"^\| `(?P<name>[^`]+)` \| (?P<asked>[^|]*) \| (?P<recorded>[^|]*) \|", re.MULTILINE)


def recorded() -> dict[str, tuple[str, str]]:
    """Name of a ratio -> what is asked for and what docs/speed.md records."""
    found = RECORDED.finditer((ROOT / "docs" / "speed.md").read_text())
    return {match["name"]: (match["asked"].strip(), match["recorded"].strip()) for match in found}


def measured(options: list[str]) -> Iterator[tuple[str, str]]:
    rounds = options[options.index("--rounds") :][:2] if "--rounds" in options else []
    tables = _json([*SPEED, *rounds, "--sections", "steps", "loop", "pipeline"])
    for row in tables["steps"]:
        if row["name"] != "bare loop" and "time_by_flops" in row:
            yield f"{_without_members(row['name'])}: time by FLOPs", _spread(row["time_by_flops"])
    yield "Trainer.fit by bare loop", _spread(tables["loop"][1]["time_of_bare"])
    for row in tables["pipeline"][1:]:
        yield f"stream over {row['name']}", _spread(row["time_of_stream"])
    for row in _json([*PEERS, *options]):
        yield _without_members(row["name"]), _spread(row["times_as_fast"])
        if row["name"].startswith("batch_ensemble"):
            yield "batch_ensemble by single, same rows", _spread(row["ours_by_single"])


def _json(command: list[str]) -> Any:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # it has said why
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _spread(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def _without_members(name: str) -> str:
    return re.sub(r"-\d+", "", name)


def main() -> None:
    """Prints a line per ratio as soon as it is there."""
    known = recorded()
    print(f"{'ratio':<44}  {'asked':<12}  {'recorded':<20}  now")
    for name, now in measured(sys.argv[1:]):
        asked, before = known.get(name, ("", "not recorded"))
        print(f"{name:<44}  {asked:<12}  {before:<20}  {now}", flush=True)


if __name__ == "__main__":
    main()
