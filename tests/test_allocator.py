"""What keeping freed memory does, in a process of its own: the setting can't be taken back."""

import subprocess
import sys

import pytest

from benchmark.allocator import keep_freed_memory

FAULTS = """
import resource, sys, torch
from benchmark.allocator import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("not here")
for _ in range(20):  # small gaps are filled one after the other
    torch.ones(2**24)  # 64 MiB, taken and given back
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
MIB_64_IN_PAGES = 2**26 // 4096


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True)
    if "not here" in done.stderr:
        pytest.skip("not Linux with glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_that_is_taken_again_is_not_cleared_again() -> None:
    assert page_faults("keep") < MIB_64_IN_PAGES / 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts glibc's pages")
def test_without_it_every_page_is() -> None:
    assert page_faults("as it is") > MIB_64_IN_PAGES / 2


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
