"""Processes: what each of ours sets at its start, and functions that run in a child of their own.

What ends the child is an error of the caller's, and does not end the caller.

One child serves a process as long as it lives, for its start costs a third of a second. It ends with the process that
has it. Large arrays come back through a file in memory.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:  # the child, and commands that need none, do without these
    from multiprocessing.connection import Connection

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST = 600.0  # s, of one call
_MOST_MEMORY = 8 << 30  # bytes of address space
_NEW_OBJECTS = 100_000  # between two searches of the garbage collector; Python's own 700 is for small programs
_LARGE = 1 << 16  # bytes of an array that goes through memory
_MAIN = "import sys; from multiprocessing.connection import Connection; pipe = Connection(int(sys.argv[1])); "
_MAIN += "sys.path[:] = pipe.recv(); from mms_regions.core.isolated import serve; serve(pipe, int(sys.argv[2]))"


def safe_path(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep the working folder off the module search path of a child.

    A file there, such as the user's own random.py, would be imported in place of a library. PYTHONPATH keeps its
    absolute entries; an empty or a relative one is the working folder, or in it.
    """
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if Path(entry).is_absolute()]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(kept)}


def collect_rarely() -> None:
    """Let the garbage collector of this process search less often, and not at its end.

    What libraries make while they are imported lives as long as the process: to search it over and over, and once more
    when the interpreter ends, is a fifth of the time of a short run.
    """
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)


class ChildDied(Exception):
    """The child ended, or had to be ended, before the function did; says how.

    advice: what to do where the function reads a file, which is to blame but for SIGKILL.
    """

    @property
    def advice(self) -> str:
        if "SIGKILL" in str(self):
            return "the system does this where memory is short; use fewer --workers, and run again"
        return "fetch it again"


def run_isolated(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module returns in a child process; it and its arguments are pickled.

    Raises what the function raises, and ChildDied where the child dies of it, also when it is called again in a new
    one: what was called before may have left the first in disorder, or somebody killed it.
    """
    with _lock():
        with suppress(ChildDied):
            return _Child.of_this_process().call(function, args, kwargs)  # type: ignore[no-any-return]
        return _Child.of_this_process().call(function, args, kwargs)  # type: ignore[no-any-return]


def end_child() -> None:
    """End the child of this process, if there is one."""
    with _lock():
        if child := _children().pop(os.getpid(), None):
            child.end()


def child_cpu() -> float:
    """CPU seconds of the children of this process: of those that have ended, and of the one that serves it."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = _children().get(os.getpid())
    return ended.ru_utime + ended.ru_stime + (child.cpu if child else 0.0)


class _Child:
    """A Python that calls one function after another."""

    def __init__(self) -> None:
        import subprocess
        from multiprocessing.connection import Pipe

        self._pipe, theirs = Pipe()
        self._memory = _file_in_memory()
        self.cpu = 0.0
        with theirs:
            shared = [theirs.fileno(), self._memory.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, *map(str, shared)],
                env={**os.environ, **safe_path(os.environ)},
                pass_fds=shared,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )
        self._pipe.send([path for path in sys.path if Path(path).is_absolute()])

    @classmethod
    def of_this_process(cls) -> _Child:
        children, process = _children(), os.getpid()
        if process not in children:
            children.clear()  # of the process that this one is a fork of
            children[process] = cls()
        return children[process]

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Raises ChildDied; whatever ends the wait for an answer, a new child is made next time."""
        try:
            self._pipe.send((function, args, kwargs))
            if not self._pipe.poll(_LONGEST):
                raise ChildDied(f"took longer than {_LONGEST:g} s")
            self.cpu, sizes = self._pipe.recv()
            is_well, value = pickle.loads(self._pipe.recv_bytes(), buffers=self._received(sizes))  # noqa: S301
        except BaseException as problem:
            _children().pop(os.getpid(), None)
            ended = self.end(kill=not isinstance(problem, EOFError | OSError))
            if isinstance(problem, EOFError | OSError):
                raise ChildDied(ended) from None
            raise
        if not is_well:
            raise value
        return value

    def _received(self, sizes: list[int]) -> list[bytearray]:
        buffers, place = [bytearray(size) for size in sizes], 0
        for buffer in buffers:
            place += os.preadv(self._memory.fileno(), [buffer], place)
        self._memory.truncate(0)
        return buffers

    def end(self, kill: bool = False) -> str:
        """Close the pipe, wait for the end, and say what it was."""
        from subprocess import TimeoutExpired

        self._pipe.close()
        self._memory.close()
        if kill:
            self._process.kill()
        try:
            code = self._process.wait(10)
        except TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _file_in_memory() -> IO[bytes]:
    """A file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("mms-regions"), "r+b", buffering=0)
    import tempfile

    return tempfile.TemporaryFile(buffering=0)


def serve(pipe: Connection, memory: int) -> None:
    """The life of a child: calls until its parent is gone. memory: the number of the file that large arrays are for."""
    collect_rarely()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _MOST_MEMORY)
    with suppress(EOFError, OSError):
        while True:
            call = pipe.recv_bytes()
            try:
                function, args, kwargs = pickle.loads(call)  # noqa: S301  # of our parent
                answer = True, function(*args, **kwargs)
            except Exception as problem:  # the parent raises it
                answer = False, problem
            _send(pipe, memory, answer)


def _send(pipe: Connection, memory: int, answer: tuple[bool, Any]) -> None:
    large: list[memoryview] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        if (raw := buffer.raw()).nbytes < _LARGE:
            return True
        large.append(raw)
        return False

    data = pickle.dumps(answer, protocol=5, buffer_callback=is_small)
    if not _written(memory, large):
        large, data = [], pickle.dumps(answer, protocol=5)
    pipe.send((time.process_time(), [buffer.nbytes for buffer in large]))
    pipe.send_bytes(data)


def _written(memory: int, buffers: list[memoryview]) -> bool:
    """Whether all of them went into the file in memory: a limit of file sizes (`ulimit -f`) holds for it too."""
    place = 0
    with suppress(OSError):
        for buffer in buffers:
            written = os.pwrite(memory, buffer, place)
            place += written
            if written < buffer.nbytes:
                return False
        return True
    return False


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


@cache
def _children() -> dict[int, _Child]:
    """The child of a process by the number of the process: a fork must not share it."""
    atexit.register(end_child)
    return {}


@cache
def _lock() -> threading.RLock:
    return threading.RLock()
