"""A real SLURM cluster in one folder of this machine: its daemons, started in order and ended without a trace."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, WorkError
from slurm.local_cluster import daemons, processes
from slurm.local_cluster.configuration import (
    Network,
    Settings,
    check_folder,
    choose_network,
    cluster_name,
    ports_are_free,
    write_files,
)
from slurm.local_cluster.processes import Process


class Cluster:
    """The cluster of a folder. Every method finds out from the folder what runs."""

    def __init__(self, folder: Path):
        self.folder = folder.expanduser().absolute()
        self.conf = self.folder / "etc" / "slurm.conf"
        self._known = self.folder / "etc" / "cluster.json"
        self._daemons = self.folder / "run" / "daemons.json"

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands need to find the cluster."""
        return {"SLURM_CONF": str(self.conf)}

    @property
    def settings(self) -> Settings | None:
        """Of the last start; None where there was none."""
        known = _read_json(self._known)
        try:
            return Settings(**(known["settings"] | {"extra": tuple(known["settings"]["extra"])})) if known else None
        except (KeyError, TypeError):
            raise UserError(f"{self._known}: is damaged; stop what runs of the cluster and remove the folder") from None

    def pids(self) -> dict[str, int | None]:
        """Every daemon's process, None of those that don't live."""
        settings = self.settings
        running = self._running()
        return {name: running[name].pid if name in running else None for name in _names(settings)} if settings else {}

    def start(self, settings: Settings | None = None, wait_seconds: float = 60.0) -> None:
        """Start what doesn't run. Raises UserError, and WorkError where a daemon doesn't come up."""
        check_folder(self.folder)
        wanted = settings or self.settings or Settings()
        wanted.check()
        if missing := daemons.missing_packages(wanted.accounting):
            raise UserError(
                f"not installed here; on Debian: apt-get install --no-install-recommends {' '.join(missing)}"
            )
        with self._alone():
            running = self._running()
            if running and wanted != self.settings:
                raise UserError(f"{self.folder}: the cluster runs with other settings; stop it first")
            if not running:
                self._end_strays()
                self._configure(wanted)
            try:
                self._start_missing(wanted, running, time.monotonic() + wait_seconds)
            except BaseException:
                if not running:
                    self._stop()
                raise

    def stop(self) -> None:
        """End all of this cluster's processes, its jobs' included, and no others."""
        if not self.folder.is_dir():
            self._end_strays()
            return
        with self._alone():
            self._stop()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a daemon a signal, for tests; one that kills has killed when this returns."""
        process = self._running()[name]
        process.signal(number)
        if number == signal.SIGKILL:
            processes.wait_for_end([process], 10.0)

    # What runs

    def _running(self) -> dict[str, Process]:
        recorded = {name: Process(*entry) for name, entry in (_read_json(self._daemons) or {}).items()}
        return {name: process for name, process in recorded.items() if process.lives}

    def _strays(self) -> list[Process]:
        """What belongs to this cluster by its marks: daemons without a record, steps, jobs and what these started."""
        name, spared = cluster_name(self.folder), processes.ancestors()
        jobs = processes.with_variable("SLURM_CLUSTER_NAME", name) + processes.steps_of(self.folder / "log")
        found = processes.with_variable(daemons.MARK, name) + processes.descendants(jobs)
        return [process for process in found if process.pid not in spared]

    def _end_strays(self) -> None:
        """Steps first ask their jobs to end; none gets much time for it."""
        for _ in range(5):  # a daemon may start something while it ends
            strays = self._strays()
            if not strays:
                return
            processes.end(strays, patience=1.0)

    # Starting

    def _configure(self, settings: Settings) -> None:
        for part in ("etc", "run", "log", "spool", "state", "database"):
            (self.folder / part).mkdir(exist_ok=True)
        stamp = self.folder / "state" / "clustername"
        if stamp.exists() and stamp.read_text().strip() != cluster_name(self.folder):
            stamp.unlink()  # the folder was moved; slurmctld would refuse it
        network = _network(_read_json(self._known))
        if network is None or len(network.ports) != settings.nodes + 2 or not ports_are_free(network):
            network = choose_network(settings.nodes + 2)
        self._known.write_text(json.dumps({"settings": asdict(settings), "network": asdict(network)}, indent=1))
        write_files(self.folder, settings, network)

    def _start_missing(self, settings: Settings, running: dict[str, Process], deadline: float) -> None:
        nodes = [name for name in settings.node_names if f"slurmd-{name}" not in running]
        cut_off = [name for name in nodes if running and self._is_cut_off(name)]
        for name, is_up in self._answers(settings).items():
            process = running.get(name) or self._start_daemon(name)
            for attempts_left in (2, 1, 0):  # one that seemed to run was dying, or what it needs wasn't quite up
                try:
                    self._await(name, process, is_up, deadline)
                    break
                except WorkError:
                    if process.lives or not attempts_left:
                        raise
                time.sleep(0.5)
                process = self._start_daemon(name)
        self._await_nodes(settings, cut_off, deadline)

    def _start_daemon(self, name: str) -> Process:
        child = daemons.start(name, self.folder, self.environment)
        process = Process(child.pid, processes.start_of(child.pid) or 0)
        recorded = _read_json(self._daemons) or {}
        recorded[name] = (process.pid, process.started)
        fresh = self._daemons.with_suffix(".new")
        fresh.write_text(json.dumps(recorded))
        fresh.replace(self._daemons)
        return process

    def _answers(self, settings: Settings) -> dict[str, Callable[[], bool]]:
        """For each daemon, in the order in which they start, whether it answers."""
        network = _network(_read_json(self._known))
        assert network is not None, "written before anything starts"
        controller, database, *node_ports = network.ports
        ports = {"slurmctld": controller, "slurmdbd": database}
        ports |= {f"slurmd-{name}": port for name, port in zip(settings.node_names, node_ports, strict=True)}
        sockets = {"munged": self.folder / "run" / "munge.sock", "mariadbd": self.folder / "run" / "mariadb.sock"}
        return {
            name: partial(daemons.socket_answers, sockets[name])
            if name in sockets
            else partial(daemons.port_answers, network.address, ports[name])
            for name in _names(settings)
        }

    def _await(self, name: str, process: Process, is_up: Callable[[], bool], deadline: float) -> None:
        while not (process.lives and is_up()):
            if not process.lives:
                raise WorkError(f"{name} ended while it started: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise WorkError(f"{name} does not answer: {self._last_words(name)}")
            time.sleep(0.05)

    def _await_nodes(self, settings: Settings, cut_off: list[str], deadline: float) -> None:
        """Until all nodes take jobs. Nodes that SLURM thinks lost are brought back."""
        resumed: dict[str, float] = {}
        while True:
            states = dict(line.split() for line in self._ask("sinfo", "-h", "-N", "-o", "%N %T").splitlines())
            if len(states) == settings.nodes and all(
                state in ("idle", "mixed", "allocated", "completing") for state in states.values()
            ):
                if not cut_off:
                    return
                # Left alone, SLURM believes for minutes that jobs run on which ended with their node.
                nodes, cut_off = ",".join(cut_off), []
                self._ask("scontrol", "update", f"NodeName={nodes}", "State=DOWN", "Reason=restarted")
                self._ask("scontrol", "update", f"NodeName={nodes}", "State=RESUME")
            for node, state in states.items():
                lost = state.strip("*$~#!%@^-").startswith(("down", "drain"))
                if lost and time.monotonic() - resumed.get(node, 0) > 2:
                    resumed[node] = time.monotonic()
                    self._ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
            if time.monotonic() > deadline:
                raise WorkError(f"the nodes don't come up ({states}): {self._last_words('slurmctld')}")
            time.sleep(0.1)

    def _is_cut_off(self, node: str) -> bool:
        """Whether SLURM believes in jobs on a node on which nothing of them lives."""
        believed = self._ask("squeue", "-h", "-a", "-w", node, "-t", "RUNNING,COMPLETING,SUSPENDED", "-o", "%A")
        return bool(believed.split()) and not processes.steps_of(self.folder / "log", node)

    # Stopping

    def _stop(self) -> None:
        settings = self.settings
        running = self._running()
        if settings and {"munged", "slurmctld"} <= running.keys():
            # By array: tasks that a controller recovered after a crash don't answer to numbers of their own.
            jobs = sorted(set(self._ask("squeue", "-h", "-a", "-o", "%F").split()))
            if jobs:
                self._ask("scancel", "--quiet", *jobs)
                processes.wait_for_end(processes.steps_of(self.folder / "log"), 3.0)
        # From the last started to the first, so that each can still say goodbye.
        for name in reversed(_names(settings) if settings else list(running)):
            if name in running and processes.end([running[name]], patience=10.0):
                raise WorkError(f"{name} (process {running[name].pid}) does not end")
        self._end_strays()
        self._daemons.unlink(missing_ok=True)

    # Everything else

    def _ask(self, *command: str) -> str:
        """What a command of SLURM's prints; nothing where it fails, as while a daemon starts or ends."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            return subprocess.run(
                [daemons.program(command[0]), *command[1:]],
                capture_output=True, text=True, timeout=10, env=os.environ | self.environment,
            ).stdout  # fmt: skip
        return ""

    def _last_words(self, name: str) -> str:
        """The end of a daemon's logs, in one line."""
        words = []
        for path in (self.folder / "log" / f"{name}.log", self.folder / "log" / f"{name}.out"):
            with contextlib.suppress(OSError):
                words += path.read_text(errors="replace").splitlines()[-3:]
        return "; ".join(" ".join(line.split()) for line in words if line.strip()) or "it said nothing"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One start or stop of a folder at a time."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / ".lock", "w")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{self.folder}: can't be written ({error.strerror})") from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def changed(settings: Settings, **asked: Any) -> Settings:
    """The settings with what was asked for."""
    return replace(settings, **{name: value for name, value in asked.items() if value is not None})


def _names(settings: Settings) -> list[str]:
    """Every daemon in the order in which they start."""
    accounting = ["mariadbd", "slurmdbd"] if settings.accounting == "slurmdbd" else []
    return ["munged", *accounting, "slurmctld", *(f"slurmd-{name}" for name in settings.node_names)]


def _network(known: dict[str, Any] | None) -> Network | None:
    try:
        return Network(**(known["network"] | {"ports": tuple(known["network"]["ports"])})) if known else None
    except (KeyError, TypeError):
        return None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
