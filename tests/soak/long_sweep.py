"""Many short runs in one sweep: memory, open files, temporary files and logs, from its first runs to its last.

python -m tests.soak.long_sweep --runs 200

It prints a line at each tenth of the runs and exits with 1 where something grows. For Linux.
"""

import argparse
import contextlib
import copy
import shutil
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from .sweeps import SHRUNK_QUICKSTART, Difference, marked, server_of, start, write_study

SECONDS_BETWEEN_LOOKS = 0.2
GROWTH = {"sweep_mib": 16, "server_mib": 4, "sweep_files": 2, "server_files": 2, "temporary_files": 2, "log_bytes": 100}
"""No more than this from the first half to the second, at the least of each: a run that is being started opens some files
for a moment. A page here and there is touched late."""


@dataclass(frozen=True)
class Sample:
    runs: int
    seconds: float
    sweep_mib: float
    """Resident memory."""
    server_mib: float
    sweep_files: int
    """Open, sockets and pipes included."""
    server_files: int
    temporary_files: int
    processes: int
    log_bytes: int
    """Of the run that ended last."""


def look(sweep: int, server: int, temporary: Path, logs: list[Path], begun: float) -> Sample:
    return Sample(
        len(logs),
        round(time.monotonic() - begun, 1),
        _resident_mib(sweep),
        _resident_mib(server),
        _num_open_files(sweep),
        _num_open_files(server),
        len(list(temporary.rglob("*"))),
        len(marked(temporary)),
        max(logs, key=lambda path: path.stat().st_mtime).stat().st_size,
    )


def follow(folder: Path, num_runs: int) -> list[Sample]:
    """A sample at each tenth of the runs. Raises Difference where the sweep fails."""
    study = write_study(folder, many_short_runs(num_runs))
    results, temporary = folder / "results", folder / "temporary"
    begun, samples = time.monotonic(), list[Sample]()
    sweep = start(study, results, temporary, "--workers", 2)
    try:
        while sweep.works:
            logs = [row.with_name("log") for row in results.glob("runs/*/row.json")]
            servers = server_of(sweep)
            if len(logs) >= num_runs * (len(samples) + 1) / 10 and servers and len(samples) < 10:
                with contextlib.suppress(FileNotFoundError):  # one of them ended while it was looked at
                    samples.append(look(sweep.pid, servers[0], temporary, logs, begun))
                    print("  ".join(f"{value:>{len(name)}}" for name, value in _named(samples[-1])), flush=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        sweep.process.kill()  # does nothing where it has ended
        sweep.process.wait()
    if sweep.process.returncode != 0:
        raise Difference(f"the sweep ended with {sweep.process.returncode}:\n{sweep.said()}")
    if left := [*temporary.glob("pymp-*"), *results.rglob("*.tmp")]:
        raise Difference(f"it left {left}")
    return samples


def many_short_runs(number: int) -> dict[str, Any]:
    study = copy.deepcopy(SHRUNK_QUICKSTART)
    study["tasks"][0] |= {"train_images": 64, "validation_images": 32, "test_images": 32}
    del study["tasks"][0]["shifted"]
    study["recipe"]["epochs"] = 1
    return study | {"methods": ["single"], "seeds": list(range(number))}


def grown(samples: list[Sample]) -> list[str]:
    """What is not flat."""
    half, found = len(samples) // 2, []
    for name, allowed in GROWTH.items():
        was = min(getattr(sample, name) for sample in samples[:half])
        became = min(getattr(sample, name) for sample in samples[half:])
        if became - was > allowed:
            found.append(f"{name}: {was} to {became}")
    return found


def _named(sample: Sample) -> list[tuple[str, Any]]:
    return list(zip((field.name for field in fields(Sample)), astuple(sample), strict=True))


def _resident_mib(pid: int) -> float:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)


def _num_open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.long_sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=200, help="of one epoch each (default: 200)")
    arguments = parser.parse_args()
    print("  ".join(field.name for field in fields(Sample)))
    folder = Path(tempfile.mkdtemp(prefix="long-sweep-"))
    try:
        samples = follow(folder, arguments.runs)
    except Difference as difference:
        print(difference)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if found := grown(samples):
        print("grown: " + "; ".join(found))
        return 1
    print(f"flat over {arguments.runs} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
