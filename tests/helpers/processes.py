"""The command as a process of its own that starts in a moment: forked from one that has imported what takes seconds.

Run as a script it is that one: it forks for each line that it reads, and tells the pid, then, with it, the exit code.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any


def log_lines(said: str) -> list[str]:
    """The lines of a log of the command without their times, and without rates and the time that is left."""
    return [
        re.sub(r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ |; [\d.,]+ \w+ per minute.*$", "", line)
        for line in said.splitlines()
    ]


@dataclass(frozen=True)
class Started:
    """A command that runs, leader of a process group of its own, until it has been waited for."""

    pid: int
    command: list[str]
    _answers: Any
    _ended: dict[int, int]  # exit codes by pid, of what the mother has told so far
    _log: Path

    @property
    def said(self) -> str:
        """What it has said so far, on stdout and stderr."""
        return self._log.read_text()

    def until(self, text: str) -> None:
        """Wait until it has said this."""
        while text not in self.said:
            assert self.lives, self.said
            time.sleep(0.01)

    @property
    def lives(self) -> bool:
        return bool(_living(5, self.pid))

    @property
    def workers(self) -> list[int]:
        """The pids of its workers that live, without what else it has started."""
        return [pid for pid in _living(4, self.pid) if b"spawn_main" in _command_line(pid)]

    def wait(self) -> CompletedProcess[str]:
        """How it ended, its workers too; negative: killed by that signal. What it said is all in stderr."""
        while self.pid not in self._ended:
            pid, code = json.loads(self._answers.readline())
            self._ended[pid] = code
        while _living(5, self.pid):  # workers see that their driver is gone, and end
            time.sleep(0.01)
        return CompletedProcess(self.command, self._ended[self.pid], "", self.said)

    def end(self) -> None:
        """End what still runs of it, at once."""
        if self.pid not in self._ended:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def _living(field: int, value: int) -> list[int]:
    """The pids of processes whose stat says so, no zombies; field 4: parent, field 5: process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[field - 3] == str(value) and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass(frozen=True)
class Nursery:
    """Starts commands, one at a time; one that a test has not waited for, because it failed, is ended first."""

    folder: Path
    _mother: subprocess.Popen[str]
    _started: list[Started] = field(default_factory=list)

    def start(self, *words: object, env: Mapping[str, str]) -> Started:
        """Start `mms-regions` with these words in this environment."""
        self.end()
        command, log = ["mms-regions", *map(str, words)], self.folder / "log"
        log.write_text("")
        assert self._mother.stdin is not None and self._mother.stdout is not None
        print(json.dumps({"argv": command, "env": dict(env), "log": str(log)}), file=self._mother.stdin, flush=True)
        pid = json.loads(self._mother.stdout.readline())
        self._started.append(Started(pid, command, self._mother.stdout, {}, log))
        return self._started[-1]

    def end(self) -> None:
        """End what a test has started and, because it failed, not waited for."""
        while self._started:
            self._started.pop().end()

    def run(self, *words: object, env: Mapping[str, str]) -> CompletedProcess[str]:
        """Start one and wait for its end."""
        return self.start(*words, env=env).wait()


@contextmanager
def nursery(folder: Path, env: Mapping[str, str]) -> Iterator[Nursery]:
    """A nursery that keeps what commands say in a folder."""
    command = [sys.executable, __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**env, "TMPDIR": str(folder)}, **pipes) as mother:
        started = Nursery(folder, mother)
        try:
            yield started
        finally:
            started.end()


def _serve() -> None:
    import mms_regions.cli.main
    import mms_regions.model.label
    import mms_regions.run.run  # noqa: F401  (imported here once, for all that are forked)

    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked)
        os.setpgid(pid, pid)  # here too: it is to be a group before anybody hears of it
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), flush=True)


def _become(asked: dict[str, Any]) -> None:
    from mms_regions.cli.main import main

    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor, where in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(where, descriptor)
    os.environ.update(asked["env"])
    sys.argv = asked["argv"]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
