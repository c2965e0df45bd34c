"""What is freed is kept: in a process of its own, as there is no way back."""

import platform
import subprocess
import sys

import pytest

from sce_lab.memory.allocator import keep_freed_memory

PROGRAM = """
import resource, sys, torch
from sce_lab.memory.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB
    return before, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):  # the first hole is a little too small for the second block
    faults()
before, after = faults()
print(after - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
def test_a_block_that_is_taken_again_faults_in_no_pages():
    assert faults("leave") > 1000
    assert faults("keep") < 100


def test_elsewhere_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
