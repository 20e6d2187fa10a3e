"""Train a small study undisturbed, then again and again under random faults, and compare what is left.

python -m tests.soak --minutes 30
python -m tests.soak --minutes 60 --seed 1 --faults 200

It ends after that many minutes or faults, whichever is first, with a count per kind of fault on standard output; with
exit code 1 at the first difference, which it names. For Linux; the full disk needs root.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .faults import FAULTS, choose, small_disk
from .outcome import compare, expect_nothing_stray, left_by
from .sweeps import SHRUNK_QUICKSTART, Difference, Sweep, marked, report, say, start, workers_of, write_study

SECONDS_TO_END = 300.0
"""No sweep here takes longer, however slow the machine."""
FAULTS_IN_A_ROUND = 25
PHASES = ("while runs were trained", "while it started or reported", "too late")


@dataclass
class Round:
    """One results folder, and the sweeps at work on it."""

    study: Path
    results: Path
    temporary: Path
    draw: random.Random
    sweeps: list[Sweep] = field(default_factory=list)

    def working(self) -> list[Sweep]:
        return [sweep for sweep in self.sweeps if sweep.works]

    def start(self) -> None:
        seconds = self.draw.choice((0, 0.2, 120))
        options = ("--workers", 2, "--checkpoint-seconds", seconds)
        self.sweeps.append(start(self.study, self.results, self.temporary, *options))

    def suffer(self, kinds: list[str], counts: Counter[tuple[str, str]], until: float) -> None:
        """Starts the sweep again whenever it was ended, until it finished or enough was done to it."""
        for kind in kinds:
            while not self.working():
                if self.finished or time.monotonic() > until:
                    return
                self.start()
            self._wait_a_moment()
            trains = any(map(workers_of, self.working()))
            met = FAULTS[kind](self)
            counts[kind, PHASES[2 if not met else 0 if trains else 1]] += 1

    @property
    def finished(self) -> bool:
        return any(sweep.process.poll() == 0 for sweep in self.sweeps)

    def recover(self) -> None:
        """The same command, without a fault from now on, goes on to the end."""
        for sweep in self.sweeps:
            sweep.wait(SECONDS_TO_END)
            sweep.judge()
        self.start()
        self.sweeps[-1].wait(SECONDS_TO_END)
        if self.sweeps[-1].process.returncode != 0:
            raise Difference(f"the last sweep did not finish:\n{self.sweeps[-1].said()}")

    def end(self) -> None:
        """For a soak that breaks off."""
        for sweep in self.working():
            sweep.process.kill()
            sweep.process.wait()
        give_up_at = time.monotonic() + 30
        while marked(self.temporary) and time.monotonic() < give_up_at:
            time.sleep(0.1)

    def _wait_a_moment(self) -> None:
        """Any moment of a sweep, and those in which it trains more often."""
        if self.draw.random() < 0.2:
            time.sleep(self.draw.uniform(0.0, 6.0))
            return
        give_up_at = time.monotonic() + 30
        while self.working() and not any(map(workers_of, self.working())) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        time.sleep(self.draw.uniform(0.0, 1.5))


def soak(folder: Path, minutes: float, num_faults: int, seed: int) -> Counter[tuple[str, str]]:
    """The number of faults by kind and phase. Raises Difference."""
    counts: Counter[tuple[str, str]] = Counter()
    ends_at = time.monotonic() + 60 * minutes
    study = write_study(folder, SHRUNK_QUICKSTART)
    alone = Round(study, folder / "alone", folder / "temporary" / "alone", random.Random(seed))
    alone.recover()
    undisturbed = left_by(alone.results)
    index = 0
    while time.monotonic() < ends_at and num_met(counts) < num_faults:
        disk, draw = folder / f"disk-{index}", random.Random(f"{seed} {index}")
        with small_disk(disk) as can_be_filled:
            if index == 0 and not can_be_filled:
                say("skipped: full disk (only root may mount a small file system)")
            attacked = Round(study, disk / "results", folder / "temporary" / str(index), draw)
            try:
                attacked.suffer(choose(draw, min(FAULTS_IN_A_ROUND, num_faults), can_be_filled), counts, ends_at)
                attacked.recover()
                compare(undisturbed, left_by(attacked.results))
                report(study, attacked.results, attacked.temporary)
                expect_nothing_stray(attacked.results, attacked.temporary, attacked.sweeps)
            except Difference as difference:
                attacked.end()
                kept = shutil.copytree(attacked.results, folder / "results")
                raise Difference(f"seed {seed}, round {index}: {difference}\n{kept}\n\n{table(counts)}") from None
            finally:
                attacked.end()
        index += 1
        say(f"round {index}: {len(attacked.sweeps)} sweeps; as undisturbed; {num_met(counts)} faults met so far")
    return counts


def num_met(counts: Counter[tuple[str, str]]) -> int:
    return sum(number for (_, phase), number in counts.items() if phase != PHASES[2])


def table(counts: Counter[tuple[str, str]]) -> str:
    """A line per kind of fault."""
    lines: list[tuple[str, ...]] = [("fault", *PHASES)]
    lines += [(kind, *(str(counts[kind, phase]) for phase in PHASES)) for kind in FAULTS]
    lines += [("all", *(str(sum(counts[kind, phase] for kind in FAULTS)) for phase in PHASES))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ("---", *["---:"] * 3), *lines[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True, help="after which no further fault is made")
    parser.add_argument("--faults", type=int, default=200, help="that have to meet the program (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments (default: 0)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clears up, as Ctrl-C does
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        counts = soak(folder, arguments.minutes, arguments.faults, arguments.seed)
    except Difference as difference:
        print(f"different: {difference}")
        return 1
    shutil.rmtree(folder)
    print(table(counts))
    print(f"{num_met(counts)} faults met the program at work; all rows are as undisturbed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
