"""The programs that a cluster consists of: what they are called, how they start, and when they are up."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

from benchmark.errors import WorkError
from slurm.local_cluster.configuration import cluster_name

PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Debian keeps daemons in sbin, which a plain user's PATH often lacks."""
PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    **dict.fromkeys(("sinfo", "squeue", "scancel", "scontrol"), "slurm-client"),
}
PACKAGES_OF_ACCOUNTING = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
}
MARK = "TUTTI_LOCAL_CLUSTER"
"""Variable that names the cluster in its daemons' environment, for finding those that no record knows."""


def missing_packages(accounting: str = "slurmdbd") -> list[str]:
    """Debian's packages that this machine lacks for a cluster."""
    wanted = PACKAGES | (PACKAGES_OF_ACCOUNTING if accounting == "slurmdbd" else {})
    return sorted({package for name, package in wanted.items() if shutil.which(name, path=PATHS) is None})


def program(name: str) -> str:
    return shutil.which(name, path=PATHS) or name


def start(name: str, folder: Path, conf: dict[str, str]) -> subprocess.Popen[bytes]:
    """In the foreground and in a session of its own, so that this process may end."""
    if name == "mariadbd":
        _install_database(folder / "database")
    run, log, database = folder / "run", folder / "log", folder / "database"
    user = pwd.getpwuid(os.geteuid()).pw_name  # not $USER, which su leaves behind
    commands = {
        "munged": [
            *("--foreground", "--force", f"--socket={run}/munge.sock", f"--key-file={folder}/etc/munge.key"),
            *(f"--pid-file={run}/munged.pid", f"--log-file={log}/munged.log", f"--seed-file={run}/munged.seed"),
        ],
        "mariadbd": [
            *("--no-defaults", f"--datadir={database}/data", f"--socket={run}/mariadb.sock", "--skip-networking"),
            *(f"--pid-file={run}/mariadbd.pid", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=16M"),
            *(["--user=root"] if user == "root" else []),
        ],
        "slurmdbd": ["-D"],
        "slurmctld": ["-D"],
    }
    binary, _, node = name.partition("-")
    environment = (
        os.environ
        | conf
        | {
            MARK: cluster_name(folder),
            "MYSQL_UNIX_PORT": f"{run}/mariadb.sock",
        }
    )
    environment = {key: value for key, value in environment.items() if not key.startswith("SLURM_JOB")}
    with open(log / f"{name}.out", "ab") as output:
        return subprocess.Popen(
            [program(binary), *(commands[name] if not node else ["-D", "-N", node])],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=environment, cwd=folder, start_new_session=True,
        )  # fmt: skip


def _install_database(folder: Path) -> None:
    if (folder / "data" / "mysql").is_dir() and (folder / "installed").exists():
        return
    user = pwd.getpwuid(os.geteuid()).pw_name  # not $USER, which su leaves behind
    command = [
        *(program("mariadb-install-db"), "--no-defaults", f"--datadir={folder}/data", "--skip-test-db"),
        *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={user}"),
        *(["--user=root"] if user == "root" else []),
    ]
    for attempts_left in (2, 1, 0):  # it was seen to fail where another cluster was starting
        shutil.rmtree(folder / "data", ignore_errors=True)
        environment = os.environ | {"PATH": PATHS, "TMPDIR": str(folder)}
        made = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
        if made.returncode == 0:
            (folder / "installed").touch()
            return
        if not attempts_left:
            raise WorkError(f"mariadb-install-db failed: {' '.join((made.stdout + made.stderr).split())[-500:]}")
        time.sleep(1)


def port_answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def socket_answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        return True
    return False
