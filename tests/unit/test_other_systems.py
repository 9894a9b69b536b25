"""The package can be imported where the system lacks what Linux alone has, such as macOS."""

from __future__ import annotations

import subprocess
import sys

# Libraries come first, for they look at the system in ways of their own.
IMPORTS = """
import os, pkgutil, importlib, resource, select, signal, time
import cryptography, distributed, dask_jobqueue, netCDF4, numba, pandas, pycdfpp, requests, stamina, torch, xarray, zarr
import matplotlib.pyplot

LINUX = {
    os: "memfd_create posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity pipe2 eventfd",
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_SIGPENDING",
    select: "epoll",
    signal: "SIGPWR SIGSTKFLT SIGRTMIN SIGRTMAX sigtimedwait sigwaitinfo",
    time: "CLOCK_BOOTTIME clock_settime",
}
for module, names in LINUX.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

import mms_regions

def stop(name):
    raise

for found in pkgutil.walk_packages(mms_regions.__path__, "mms_regions.", onerror=stop):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(len([name for name in __import__("sys").modules if name.startswith("mms_regions.")]))
"""


def test_no_module_needs_what_linux_alone_has_when_it_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
