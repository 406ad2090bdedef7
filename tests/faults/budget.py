"""What reading a file may cost: a second of work, and memory in proportion to the file."""

import resource
import time
from contextlib import contextmanager
from pathlib import Path

SECONDS = 1.0
"""Most seconds of work, of the processor and not of the clock, since other tests run beside this one."""
TIMES = 4
"""How many times the size of a file may be taken."""
ALLOWANCE = 24 << 20
"""Bytes that may be taken beside that: a slice and its copies (a few MiB), what Arrow's threads read ahead, and what
the allocators of NumPy, Arrow and torch keep for themselves."""
RESERVE = 4 << 30
"""Bytes of addresses beyond those in use that may be asked for: more fails, instead of harming the machine."""


def _memory(field):
    """Bytes that this process holds (`VmRSS`), has held at most (`VmHWM`) or has asked for (`VmSize`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) << 10


@contextmanager
def bounded(size):
    """Fail if what is done for a file of so many bytes takes more time or memory, native libraries included."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + RESERVE, limits[1]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = _memory("VmRSS"), time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    spent, taken = time.process_time() - start, _memory("VmHWM") - before
    assert spent < SECONDS, f"{spent:.1f} s for {size} bytes"
    assert taken < TIMES * size + ALLOWANCE, f"{taken >> 20} MiB for {size} bytes"
