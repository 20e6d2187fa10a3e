"""What the server that forks runs imports, once for all of them. It outlives a sweep that is killed, and clears up after it."""

import atexit
import multiprocessing.forkserver
import os
import shutil
from pathlib import Path

import benchmark.run  # noqa: F401


def remove_socket(server: int) -> None:
    """With the folder that multiprocessing made for it, which a sweep that ends by itself has removed already."""
    if os.getpid() != server:  # a run
        return
    address = multiprocessing.forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    if isinstance(address, str) and Path(address).name.startswith("listener-"):
        shutil.rmtree(Path(address).parent, ignore_errors=True)


atexit.register(remove_socket, os.getpid())
