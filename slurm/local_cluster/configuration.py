"""Settings of a cluster on one machine, and the files that its daemons read."""

import hashlib
import os
import pwd
import random
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError

LONGEST_SOCKET = "/spool/n99/n99_4294967295.4294967295"
MOST_SOCKET_BYTES = 107
"""Of a unix socket's path on Linux."""


@dataclass(frozen=True)
class Settings:
    """What `start` was asked for; remembered for later starts."""

    nodes: int = 2
    cpus: int = 4
    gpus: int = 2
    memory_mb: int = 16000
    accounting: str = "slurmdbd"
    slurmd_timeout: int = 20
    """Seconds until a silent node counts as down."""
    extra: tuple[str, ...] = ()
    """Further lines of slurm.conf."""

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    def check(self) -> None:
        """Raises UserError."""
        for name, least, most in (
            *(("nodes", 1, 99), ("cpus", 1, 1024), ("gpus", 0, 64)),
            *(("memory_mb", 100, 10**7), ("slurmd_timeout", 2, 3600)),
        ):
            if not least <= getattr(self, name) <= most:
                raise UserError(f"--{name.replace('_', '-')} must be {least} to {most}, not {getattr(self, name)}")
        for line in self.extra:
            if not re.fullmatch(r"[A-Za-z]+=[^\n]+", line):
                raise UserError(f"--set takes a line of slurm.conf, KEY=VALUE, not {line!r}")


@dataclass(frozen=True)
class Network:
    """Where the daemons listen: on this machine alone."""

    address: str
    flags: str
    ports: tuple[int, ...]
    """slurmctld's, slurmdbd's, then one per node."""


def check_folder(folder: Path) -> None:
    """Raises UserError for a path that SLURM's files and sockets can't hold."""
    if re.search(r"[\s#,\"'%\[\]=]", str(folder)):
        raise UserError(f"{folder}: a cluster's folder may hold no blanks and none of # , \" ' % [ ] =")
    room = MOST_SOCKET_BYTES - len(LONGEST_SOCKET)
    if len(os.fsencode(folder)) > room:
        raise UserError(f"{folder}: a cluster's folder may have {room} bytes, for the paths of unix sockets are short")


def cluster_name(folder: Path) -> str:
    """Of this folder alone: jobs carry it as SLURM_CLUSTER_NAME."""
    return "tutti" + hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:10]


def choose_network(num_ports: int) -> Network:
    """An address that the host's own name agrees with, else answers to srun go where it does not listen."""
    try:
        named = socket.gethostbyname(socket.gethostname())
    except OSError:
        named = ""
    if named == "127.0.0.1":
        address, flags = named, "NoCtldInAddrAny,NoInAddrAny"
    elif named.startswith("127."):  # Debian's 127.0.1.1
        address, flags = "127.0.0.1", "NoCtldInAddrAny"
    elif named and _can_bind(named, 0):
        address, flags = named, "NoCtldInAddrAny,NoInAddrAny"
    else:
        address, flags = "127.0.0.1", ""
    return Network(address, flags, _free_ports(address, num_ports))


def ports_are_free(network: Network) -> bool:
    return all(_can_bind(network.address, port) for port in network.ports)


def _free_ports(address: str, number: int) -> tuple[int, ...]:
    """Below the range from which outgoing connections draw theirs."""
    candidates = random.SystemRandom().sample(range(20000, 32000), 500)
    free = []
    for port in candidates:
        if _can_bind(address, port):
            free.append(port)
        if len(free) == number:
            return tuple(free)
    raise UserError(f"no {number} free ports between 20000 and 32000 on {address}")


def _can_bind(address: str, port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((address, port))
        except OSError:
            return False
    return True


def write_files(folder: Path, settings: Settings, network: Network) -> None:
    """slurm.conf, gres.conf, slurmdbd.conf, munge's key and the pretended GPUs."""
    etc, devices = folder / "etc", folder / "dev"
    devices.mkdir(exist_ok=True)
    for number in range(settings.gpus):
        device = devices / f"gpu{number}"
        if not device.is_symlink():
            device.symlink_to("/dev/null")  # SLURM takes character devices only
    key = etc / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
    (etc / "slurm.conf").write_text(slurm_conf(folder, settings, network))
    gpus = "".join(
        f"NodeName={name} Name=gpu File={devices}/gpu[0-{settings.gpus - 1}]\n" for name in settings.node_names
    )
    (etc / "gres.conf").write_text("AutoDetect=off\n" + (gpus if settings.gpus else ""))
    if settings.accounting == "slurmdbd":
        conf = etc / "slurmdbd.conf"
        conf.touch(mode=0o600)
        conf.chmod(0o600)  # slurmdbd refuses to read it otherwise
        conf.write_text(slurmdbd_conf(folder, network))


def slurm_conf(folder: Path, settings: Settings, network: Network) -> str:
    user, host = pwd.getpwuid(os.geteuid()).pw_name, socket.gethostname().partition(".")[0]
    controller, database, *node_ports = network.ports
    socket_path, names = folder / "run" / "munge.sock", ",".join(settings.node_names)
    gres = f" Gres=gpu:{settings.gpus}" if settings.gpus else ""
    accounting = [
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={network.address}",
        f"AccountingStoragePort={database}",
        f"AccountingStoragePass={socket_path}",
        "AccountingStorageTRES=gres/gpu",  # without slurmdbd this line is fatal
    ]
    lines = [
        f"ClusterName={cluster_name(folder)}",
        f"SlurmctldHost={host}({network.address})",
        f"SlurmctldPort={controller}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        *([f"CommunicationParameters={network.flags}"] if network.flags else []),
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # A requeued job waits until its old credential is no longer good: 2 minutes unless it is told otherwise.
        f"AuthInfo=socket={socket_path},cred_expire=6",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmdPidFile={folder}/run/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/slurmd-%n.log",
        "ProctrackType=proctrack/linuxproc",  # no control groups
        "TaskPlugin=task/none",
        "SwitchType=switch/none",
        "MpiDefault=none",
        "MailProg=/bin/true",
        "JobAcctGatherType=jobacct_gather/linux",
        "SlurmdParameters=config_overrides",  # nodes may be larger than the machine
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "DefMemPerCPU=100",
        "GresTypes=gpu",
        f"SlurmdTimeout={settings.slurmd_timeout}",
        "KillWait=2",
        "ReturnToService=2",
        "JobRequeue=1",
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=2",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "SlurmctldParameters=preempt_send_user_signal",
        *(accounting if settings.accounting == "slurmdbd" else []),
        *(
            f"NodeName={name} NodeHostname={host} NodeAddr={network.address} Port={port} CPUs={settings.cpus} "
            f"RealMemory={settings.memory_mb}{gres}"
            for name, port in zip(settings.node_names, node_ports, strict=True)
        ),
        f"PartitionName=main Nodes={names} Default=YES DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20",
        f"PartitionName=urgent Nodes={names} DefaultTime=60 PriorityTier=10 PreemptMode=OFF",
    ]
    named = {line.partition("=")[0] for line in settings.extra}
    return "\n".join([*(line for line in lines if line.partition("=")[0] not in named), *settings.extra]) + "\n"


def slurmdbd_conf(folder: Path, network: Network) -> str:
    user = pwd.getpwuid(os.geteuid()).pw_name
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/run/munge.sock",
        "DbdHost=localhost",
        f"DbdAddr={network.address}",
        f"DbdPort={network.ports[1]}",
        *(["CommunicationParameters=NoInAddrAny"] if network.flags else []),
        f"SlurmUser={user}",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",  # by its socket, which MYSQL_UNIX_PORT names
        f"StorageUser={user}",
        "StorageLoc=slurm_accounting",
        f"LogFile={folder}/log/slurmdbd.log",
        f"PidFile={folder}/run/slurmdbd.pid",
    ]
    return "\n".join(lines) + "\n"
