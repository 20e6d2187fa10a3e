"""Where a process on a CPU gets its memory from: asked for once, not at every step."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt."""
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep what is freed for the next step, instead of giving it back to the system; whether it does.

    By default it maps every tensor of 32 MiB or more anew, and the system clears each page again when it is touched: of a
    step whose activations are that large, a third was spent there. The price is memory that stays with the process, up
    to the most it ever held at once, and somewhat more for gaps. Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
