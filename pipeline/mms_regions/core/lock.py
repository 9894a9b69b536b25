"""One run at a time on a store, also where the runs are on different machines of one NFS or Lustre.

A lock is a small JSON file that says who holds it. It is made by a hard link, which only one of many can make, and its
holder touches it again and again. It promises: of all who want a lock one gets it; the lock of a killed process is free
at once on its own machine, and elsewhere after `silence` seconds without a touch, counted by looking, so that clocks
need not agree; nobody removes a lock that is not stale; who loses a lock gets a word.

It does not promise that only the holder writes: a machine that freezes, or cannot reach the file system, for longer
than `silence` has lost the lock, and may write for one beat more. Without hard links it relies on O_EXCL.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from mms_regions.core.errors import EnvironmentProblem, advice
from mms_regions.core.files import link, make_folder, remove, rename

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_GONE = {errno.ENOENT, errno.ESTALE}
_LONGEST = 65536  # bytes; a lock is far shorter
_LOOK = 1.0  # s, at most, from one look at the lock of another machine to the next
_PAUSE = 0.01  # s
_ROUNDS = 100


class Held(EnvironmentProblem):
    """Another run works on the store."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. since: UTC. token: random, as hex digits. command: such as `mms-regions run`.

    machine: which boot and pid namespace of a host, empty where unknown. process_started: in clock ticks after boot,
    empty where unknown. Raises ValueError for a pid or a token that cannot be one, TypeError for fields of other types.
    """

    host: str
    pid: int
    since: str
    token: str
    machine: str
    process_started: str
    command: str

    def __post_init__(self) -> None:
        if type(self.pid) is not int or not all(isinstance(v, str) for k, v in asdict(self).items() if k != "pid"):
            raise TypeError("pid is an integer and all else is text")
        if not 0 < self.pid < 2**31 or not re.fullmatch("[0-9a-f]{16,64}", self.token):
            raise ValueError("pid or token cannot be one")

    def __str__(self) -> str:
        return f"`{self.command}`, pid {self.pid} on {self.host} since {self.since}"

    @cached_property
    def content(self) -> bytes:
        """The whole file that says so; no two owners have the same."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def _ignore(_: str) -> None: ...


@contextmanager
def hold(
    path: Path,
    command: str,
    lost: Callable[[str], None],
    beat: float = 10.0,
    silence: float = 60.0,
    report: Callable[[str], None] = _ignore,
) -> Iterator[Owner]:
    """Have the lock `path` inside the block, making its folder if needed; `path` belongs to nothing else.

    beat: s, how often it is touched. silence: s, after which an untouched lock of another machine is taken over; the
    same for all who use the lock. report: gets a sentence when the watching of another machine's lock begins. lost:
    gets a sentence, once, in another thread, when the lock is no longer ours; the block should end then.

    Raises Held where another has it, this process included; EnvironmentProblem where the file cannot be written.
    """
    if not 0 < beat < silence:
        raise ValueError("beat is shorter than silence, and longer than nothing")
    owner = _this_process(command)
    # Leaving looks whose the lock is, so it is right also where an interrupt comes amid the taking.
    try:
        with _in_words(path):
            make_folder(path.parent)
            _Contender(path, owner, silence, report).take(path, owner)
        with _beating(_Heart(path, owner, lost, beat, silence)):
            yield owner
    finally:
        _leave(path, owner)


def owner_of(path: Path, silence: float = 60.0) -> Owner | None:
    """Who holds the lock and seems alive, if any: for those who want to know at once, and decide nothing by it.

    Another machine's is judged by its last touch and the clock here, so clocks that are far apart mislead. Only reads.
    Raises EnvironmentProblem where the lock is there but cannot be read.
    """
    with _in_words(path):
        seen = _look(path)
        if seen is None:
            return None
        lives = _lives(seen.owner)
        if lives is None:
            lives = time.time() - seen.changed / 1e9 < silence
        return seen.owner if lives else None


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise EnvironmentProblem(
            f"{path}: the lock cannot be read or written ({problem.strerror or problem}); {advice(problem)}"
        ) from problem


# --- What is there


@dataclass(frozen=True)
class _Seen:
    """One look at a lock. changed: time of modification in ns, by the clock of the file system."""

    content: bytes
    changed: int

    @cached_property
    def owner(self) -> Owner | None:
        """None where the file is damaged: a crash, or right now, between making and writing it."""
        try:
            return Owner(**json.loads(self.content))
        except (ValueError, TypeError, RecursionError):
            return None

    @property
    def key(self) -> str:
        """The same for all who see this lock, and another for each lock that is not damaged."""
        return self.owner.token if self.owner else hashlib.sha256(self.content).hexdigest()[:32]


def _look(path: Path) -> _Seen | None:
    """Opens the file each time: only then does NFS ask the server what there is."""
    try:
        with path.open("rb") as file:
            return _Seen(file.read(_LONGEST), os.fstat(file.fileno()).st_mtime_ns)
    except OSError as problem:
        if problem.errno in _GONE:
            return None
        raise


def _watched(path: Path, seen: _Seen, silence: float) -> _Seen | None:
    """The first look that differs from `seen`, None where the file goes, or `seen` itself after `silence` seconds.

    Counts looks, not time: while the file system hangs, the owner cannot touch the file either.
    """
    step = min(_LOOK, silence / 20)
    for _ in range(math.ceil(silence / step)):
        time.sleep(step)
        if (latest := _look(path)) != seen:
            return latest
    return seen


# --- Who is alive


def _this_process(command: str) -> Owner:
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _, started = _process(os.getpid())
    return Owner(socket.gethostname(), os.getpid(), since, secrets.token_hex(16), _machine(), started, command)


def _machine() -> str:
    """Empty also where /proc shows the pids of another namespace."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str]:
    """State and start of a process, fields 3 and 22 of its stat file; empty where that is not to be seen."""
    try:
        # The name, field 2, may hold anything, also spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def _lives(owner: Owner | None) -> bool | None:
    """Whether the owner's process runs; None where that cannot be known from here."""
    if owner is None or not owner.machine or not owner.process_started:
        return None
    if (owner.host, owner.machine) != (socket.gethostname(), _machine()):
        return None
    state, started = _process(owner.pid)
    if started:
        return started == owner.process_started and state not in {"Z", "X"}
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return None  # it is there, but /proc hides the processes of other users, so it may be a later one of the same pid


# --- Making and removing


def _put(path: Path, content: bytes) -> bool:
    """Put a whole file under a name; False where there is one already."""
    private = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")  # which the next run sweeps
    try:
        _write_new(private, content)
        return _link(private, path, content)
    finally:
        with suppress(OSError):
            remove(private)


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link(private: Path, path: Path, content: bytes) -> bool:
    try:
        link(private, path)
    except OSError as problem:
        # When its answer is lost, NFS asks the server twice, and reports a failure of what it has done.
        if _bears(path, content):
            return True
        if problem.errno in _NO_LINKS:
            return _write_in_place(path, content)
        if problem.errno not in {errno.EEXIST, *_GONE}:  # gone: whoever has the lock swept it
            raise
        return False
    return True


def _write_in_place(path: Path, content: bytes) -> bool:
    """Where there are no hard links; until it is written it looks damaged to others, and they watch it."""
    try:
        _write_new(path, content)
    except FileExistsError:
        return False
    return _bears(path, content)


def _bears(path: Path, content: bytes) -> bool:
    seen = _look(path)
    return seen is not None and seen.content == content


def _remove(path: Path, seen: _Seen) -> None:
    """Remove the lock if it is still as seen. Another, which came between, is put back."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    with suppress(FileNotFoundError):  # NFS may report this though it has done it, as for links
        rename(path, aside)
    moved = _look(aside)
    if moved is not None and moved != seen:
        _put(path, moved.content)
    remove(aside)


def _leave(path: Path, owner: Owner) -> None:
    """Remove the lock if it is still ours; if that fails, it is stale as soon as this process has ended."""
    if os.getpid() != owner.pid:  # a fork, which is not the one that holds it
        return
    with suppress(OSError):
        seen = _look(path)
        if seen is not None and seen.content == owner.content:
            _remove(path, seen)


# --- Taking


@dataclass(frozen=True)
class _Contender:
    """One who wants the lock `lock`."""

    lock: Path
    owner: Owner
    silence: float
    report: Callable[[str], None]

    def take(self, path: Path, owner: Owner) -> None:
        """Make the file `path`, the lock or a claim to remove one, as `owner`. Raises Held where another has it."""
        for _ in range(_ROUNDS):
            if _put(path, owner.content):
                return
            seen = _look(path)
            if seen is None:
                time.sleep(_PAUSE)
            elif self._is_stale(path, seen):
                self._remove_stale(path, seen)
        raise EnvironmentProblem(f"{path}: the lock comes and goes, or is no file; try again, then remove it by hand")

    def _is_stale(self, path: Path, seen: _Seen) -> bool:
        """False where the file has gone meanwhile. Raises Held where its owner is alive."""
        lives = _lives(seen.owner)
        if lives is not None:
            if lives:
                raise self._held(seen)
            return True
        self.report(f"{self._who_holds(seen)}; watching for {self.silence:g} s whether it is alive")
        latest = _watched(path, seen, self.silence)
        if latest is not None and latest != seen:
            raise self._held(latest)
        return latest is not None

    def _remove_stale(self, path: Path, seen: _Seen) -> None:
        """Remove the lock if it is still as seen and nobody else is about to.

        Several may find one lock stale. The slow one must not remove the new lock of the quick one, and between looking
        at a name and removing it there is always a moment. So only who has made the claim, a file named after the token
        of the stale lock, may remove that lock. While the claim is there nobody else removes what it is for, and what
        is not removed cannot be replaced, as locks are made by links; thus a look inside the claim holds until the end
        of it. Who comes after finds another token, which his claim is not for, and begins again.
        A claim is a lock too, so one that a crash has left is found stale and removed in the same way. Two can still
        move a new lock, if they wake from a freeze of `silence` seconds between these very steps: who has the claim,
        and an owner who leaves. _remove puts back what they have moved.
        """
        claim = path.with_name(f".lock-{seen.key}.claim")
        owner = replace(self.owner, token=secrets.token_hex(16))
        try:
            self.take(claim, owner)
            if _look(path) == seen:
                _remove(path, seen)
        finally:
            _leave(claim, owner)

    def _held(self, seen: _Seen) -> Held:
        return Held(f"{self._who_holds(seen)}; wait for it to end, or stop it there")

    def _who_holds(self, seen: _Seen) -> str:
        return f"{self.lock}: held by {seen.owner or 'a run that it does not name (the file is damaged)'}"


# --- Keeping


@dataclass(frozen=True)
class _Heart:
    """What touches a lock every `beat` seconds, and reports when it is lost."""

    path: Path
    owner: Owner
    lost: Callable[[str], None]
    beat: float
    silence: float

    def run(self, stop: threading.Event) -> None:
        touched = time.monotonic()
        while not stop.wait(self.beat):
            try:
                if not self._touch():
                    self.lost(f"{self.path}: the lock is gone or another run has it; this run must not write any more")
                    return
                touched = time.monotonic()
            except OSError as problem:
                if time.monotonic() - touched >= self.silence:
                    self.lost(
                        f"{self.path}: the lock cannot be touched for {self.silence:g} s "
                        f"({problem.strerror or problem}) and others may take it; this run must not write any more"
                    )
                    return

    def _touch(self) -> bool:
        """False where the lock is not ours. By descriptor, so that never another's is touched."""
        try:
            with self.path.open("rb") as file:
                if file.read(_LONGEST) != self.owner.content:
                    return False
                os.utime(file.fileno())
        except FileNotFoundError:
            return False
        return True


@contextmanager
def _beating(heart: _Heart) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=heart.run, args=(stop,), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
