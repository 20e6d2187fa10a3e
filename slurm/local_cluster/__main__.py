"""A real SLURM cluster on this machine, for trying and testing: munge, slurmctld and nodes with pretended GPUs.

examples:
    python -m slurm.local_cluster start /tmp/cluster
    eval "$(python -m slurm.local_cluster env /tmp/cluster)"; sinfo
    python -m slurm.local_cluster stop /tmp/cluster

Everything lies in the given folder and listens on this machine alone; no root is needed. `start` again brings back
daemons that were killed. It takes Debian's packages munge, slurmctld, slurmd and slurm-client, and for accounting
slurmdbd, mariadb-server-core and mariadb-client-core.
"""

import json
import shlex
import sys
import time

from benchmark.errors import Parser, UserError, exit_code
from benchmark.machine import named_path, positive
from slurm.local_cluster.cluster import Cluster, changed
from slurm.local_cluster.configuration import Settings


def main() -> int:
    parser = Parser(prog="python -m slurm.local_cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    start = verbs.add_parser("start", help="start the cluster, or what of it doesn't run")
    start.add_argument("--nodes", type=positive, help="default: 2")
    start.add_argument("--cpus", type=positive, help="of each node; may exceed this machine's (default: 4)")
    start.add_argument("--gpus", type=int, help="pretended GPUs of each node (default: 2)")
    start.add_argument("--memory-mb", type=positive, help="of each node (default: 16000)")
    start.add_argument("--accounting", choices=["slurmdbd", "none"], help="default: slurmdbd")
    start.add_argument("--slurmd-timeout", type=positive, help="seconds until a silent node is down (default: 20)")
    start.add_argument("--set", action="append", metavar="KEY=VALUE", help="a further line of slurm.conf")
    verbs.add_parser("stop", help="end the cluster and its jobs")
    verbs.add_parser("status", help="print each daemon's process as JSON; exit code 1 unless all run")
    verbs.add_parser("env", help="print the shell line that leads SLURM's commands to it")
    for verb in verbs.choices.values():
        verb.add_argument("folder", metavar="DIR", type=named_path)
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder)
    if arguments.verb == "start":
        begun = time.monotonic()
        asked = {name: getattr(arguments, name) for name in ("nodes", "cpus", "gpus", "memory_mb", "accounting")}
        extra = tuple(arguments.set) if arguments.set else None
        known = cluster.settings or Settings()
        cluster.start(changed(known, **asked, slurmd_timeout=arguments.slurmd_timeout, extra=extra))
        took = time.monotonic() - begun
        print(f"ready after {took:.1f} s; now: export SLURM_CONF={shlex.quote(str(cluster.conf))}", file=sys.stderr)
        return 0
    if arguments.verb == "stop":
        cluster.stop()
        return 0
    if cluster.settings is None:
        raise UserError(f"{cluster.folder}: no cluster was started here")
    if arguments.verb == "env":
        print(f"export SLURM_CONF={shlex.quote(str(cluster.conf))}")
        return 0
    pids = cluster.pids()
    print(json.dumps({"conf": str(cluster.conf), "daemons": pids}, indent=1))
    return 0 if all(pids.values()) else 1


if __name__ == "__main__":
    sys.exit(exit_code(main))
