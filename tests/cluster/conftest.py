"""A real SLURM cluster for the tests, and sweeps on it as their users type them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_sweep import Sweep, cut_quickstart, make_sweep, numbers, rows_of

from slurm.local_cluster.cluster import Cluster
from slurm.local_cluster.configuration import Settings
from slurm.local_cluster.daemons import missing_packages


def _started(settings: Settings) -> Iterator[Cluster]:
    missing = missing_packages(settings.accounting)
    if missing:
        pytest.skip(f"no SLURM here: the tests of sweeps on clusters need Debian's packages {' '.join(missing)}")
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))  # tmp_path is too long for unix sockets
    cluster.start(settings)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, with accounting."""
    yield from _started(Settings(slurmd_timeout=5))


@pytest.fixture(scope="session")
def cluster_without_accounting() -> Iterator[Cluster]:
    yield from _started(Settings(accounting="none", slurmd_timeout=5, extra=("MaxArraySize=3",)))


@pytest.fixture
def sweep(cluster: Cluster, tmp_path: Path) -> Sweep:
    return make_sweep(cluster, tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """The numbers of the same study trained here, by nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    study = cut_quickstart(folder)
    subprocess.run(
        [sys.executable, "-m", "benchmark.sweep", str(study), "--results", str(folder / "results"), "--threads", "1"],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return numbers(rows_of(folder / "results", "cut"))
