"""Make `stores_8862ac2.tar.xz`: two small stores, as commit 8862ac2 wrote them, before stores had versions.

    git worktree add /tmp/old 8862ac2     # and a virtual environment with the libraries of that commit
    PYTHONPATH=/tmp/old/pipeline VENV/bin/python tests/golden/make_old_stores.py

Both hold A/mms1 and A/mms2, complete, and B/mms1, which failed for want of files; published.zarr and corrected.zarr
are named for their convention. Data, labels and receipts are as that commit made them. What tells of a machine is
replaced or left out: names of host and system are neutral, all is done below /data; `trace.jsonl` and `logs/`, which
hold stack traces, are not kept.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tarfile
from pathlib import Path

DATA = Path("/data")
EVENTS = """event,t_start,t_end,B0,n0,probes
A,2017-07-11T22:34:00,2017-07-11T22:34:03,12.0,0.2,1-2
B,2017-07-11T22:36:00,2017-07-11T22:36:03,12.0,0.2,1
"""


def call(*args: object) -> int:
    from mms_regions.cli import main

    sys.argv = ["mms-regions", *map(str, args)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def main() -> None:
    platform.node, platform.platform = lambda: "host", lambda: "Linux"
    for name in [name for name in os.environ if name.startswith(("MMS_", "SPEDAS_"))]:
        del os.environ[name]
    DATA.mkdir()
    try:
        os.chdir(DATA)
        events = DATA / "events.csv"
        events.write_text(EVENTS)
        assert call("synthesise", events, "--events", "A", "--data-dir", DATA / "mms", "--seed", 7) == 0
        for convention in ("published", "corrected"):
            store = DATA / f"{convention}.zarr"
            (DATA / "small.toml").write_text("shard_samples = 4096\n")
            where = ["--store", store, "--data-dir", DATA / "mms", "--offline", "--profile", DATA / "small.toml"]
            how = ["--convention", convention, "--model", "analytic-layer", "--device", "cpu", "--workers", 0]
            assert call("run", events, *where, *how) == 4
            beside = DATA / f"{convention}.zarr.run"
            (beside / "trace.jsonl").unlink()
            shutil.rmtree(beside / "logs")
        target = Path(__file__).with_name("stores_8862ac2.tar.xz")
        with tarfile.open(target, "w:xz", preset=9) as archive:
            for path in sorted(DATA.glob("*.zarr*")):
                archive.add(path, path.name, filter=_neutral)
    finally:
        shutil.rmtree(DATA)


def _neutral(about: tarfile.TarInfo) -> tarfile.TarInfo:
    about.uid, about.gid, about.uname, about.gname, about.mtime = 0, 0, "", "", 0
    about.mode = 0o755 if about.isdir() else 0o644
    return about


if __name__ == "__main__":
    main()
