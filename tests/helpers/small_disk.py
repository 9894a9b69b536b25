"""A command on a disk that is full, again and again with a little more room, until it succeeds.

Run as a script, by root of a namespace of mounts of its own: it mounts a disk in memory, and tells as a line of JSON
how each try ended and what of the store was half-written; the store that is made at last is copied to another disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

from stores import half_written, run_folder


def _until_it_succeeds(disk: Path, result: Path, step: int, words: list[str]) -> None:
    size = step
    _mount(disk, f"size={size}")
    store = disk / "x.zarr"
    sys.argv = ["mms-regions", *words]
    code = 5
    while code == 5:
        code, said = _run()
        print(json.dumps({"code": code, "said": said, "half_written": half_written(store)}), flush=True)
        size += step
        _mount(disk, f"remount,size={size}")
    for folder in (store, run_folder(store)):
        shutil.copytree(folder, result / folder.name)


def _mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=True)


def _run() -> tuple[int, str]:
    """The exit code of the command, and what it said."""
    from mms_regions.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


if __name__ == "__main__":
    _until_it_succeeds(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
