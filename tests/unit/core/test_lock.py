"""One run at a time has a lock, whatever dies, freezes or lies meanwhile."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mms_regions.core.lock
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.lock import Held, Owner, hold, owner_of

BEAT, SILENCE = 0.02, 0.4  # s
ELSEWHERE = Owner("node7", 12, "2026-01-02T03:04:05Z", "ab" * 16, "a boot", "345", "mms-regions run")
PREAMBLE = """
import os, sys, time
from pathlib import Path
from mms_regions.core.lock import Held, hold
path = Path(sys.argv[1])
def tell(sentence):
    print(sentence, flush=True)
"""
HOLDS = "with hold(path, 'one', tell):\n    tell('holds')\n    time.sleep(60)"
RACES = """
tell("ready")
sys.stdin.readline()
try:
    with hold(path, "racer", tell, 0.05, 0.5):
        tell("won")
        sys.stdin.readline()
except Held:
    tell("held")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.zarr.run" / "lock.json"


def lost(sentence: str) -> None:
    pytest.fail(sentence)


def process(code: str, path: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PREAMBLE + code, str(path)]
    folder = Path(mms_regions.core.lock.__file__).parents[2]
    return subprocess.Popen(
        words,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def say(running: subprocess.Popen[str], word: str) -> None:
    assert running.stdin is not None
    running.stdin.write(word + "\n")
    running.stdin.flush()


def write(path: Path, owner: Owner) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))


def this_process(path: Path) -> Owner:
    """As it would hold the lock."""
    with hold(path, "another", lost) as owner:
        return owner


@contextmanager
def touched(path: Path) -> Iterator[None]:
    """As by a live owner on another machine."""
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(BEAT):
            with suppress(FileNotFoundError):
                os.utime(path)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited for 5 s"
        time.sleep(0.005)


def test_one_has_it_until_it_leaves_and_nothing_is_left_behind(path: Path) -> None:
    assert owner_of(path) is None
    with hold(path, "one", lost, BEAT, SILENCE) as owner:
        assert owner_of(path) == owner
        with (
            pytest.raises(Held, match=rf"a\.zarr\.run/lock\.json: held by `one`, pid {os.getpid()} on .*; wait for it"),
            hold(path, "two", lost),
        ):
            pass
        assert list(path.parent.iterdir()) == [path]
        time.sleep(3 * BEAT)
    assert list(path.parent.iterdir()) == []
    with hold(path, "two", lost):
        pass


def test_a_lock_of_a_live_process_is_held_and_of_a_killed_one_is_free_at_once(path: Path) -> None:
    with process(HOLDS, path) as other:
        assert line(other) == "holds"
        with pytest.raises(Held, match=f"`one`, pid {other.pid} on "), hold(path, "two", lost):
            pass
        holder = owner_of(path)
        assert holder is not None and holder.pid == other.pid
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has asked for its exit status yet
        begin = time.monotonic()
        assert owner_of(path) is None
        with hold(path, "two", lost) as owner:
            assert owner_of(path) == owner
        assert time.monotonic() - begin < 10
    write(path, holder)
    with hold(path, "two", lost):
        pass
    assert time.monotonic() - begin < 10


def test_another_process_that_has_got_the_pid_of_a_dead_owner_does_not_hold(path: Path) -> None:
    write(path, replace(this_process(path), process_started="1"))
    assert owner_of(path) is None
    with hold(path, "one", lost):
        pass


@pytest.mark.parametrize("unknown", ["machine", "process_started"])
def test_where_nobody_can_look_the_lock_is_watched(path: Path, unknown: str) -> None:
    write(path, replace(this_process(path), **{unknown: ""}))
    with touched(path), pytest.raises(Held), hold(path, "one", lost, BEAT, SILENCE):
        pass
    with hold(path, "one", lost, BEAT, SILENCE):
        pass


def test_a_lock_that_is_touched_on_another_machine_is_held(path: Path) -> None:
    write(path, ELSEWHERE)
    told: list[str] = []
    with touched(path):
        assert owner_of(path, SILENCE) == ELSEWHERE
        with pytest.raises(Held, match="pid 12 on node7"), hold(path, "one", lost, BEAT, SILENCE, told.append):
            pass
    held = "held by `mms-regions run`, pid 12 on node7 since 2026-01-02T03:04:05Z"
    assert told == [f"{path}: {held}; watching for 0.4 s whether it is alive"]
    assert path.read_text() == json.dumps(asdict(ELSEWHERE))


def test_a_silent_lock_of_another_machine_is_taken_over_but_not_before(path: Path) -> None:
    write(path, ELSEWHERE)
    assert owner_of(path, SILENCE) == ELSEWHERE
    os.utime(path, (time.time() - 2 * SILENCE,) * 2)
    assert owner_of(path, SILENCE) is None
    begin = time.monotonic()
    with hold(path, "one", lost, BEAT, SILENCE) as owner:
        assert time.monotonic() - begin >= SILENCE
        assert owner_of(path) == owner
    assert list(path.parent.iterdir()) == []


def test_ctrl_c_gets_through_while_it_watches(path: Path) -> None:
    write(path, ELSEWHERE)
    with process("with hold(path, 'one', tell, report=tell): tell('has it')", path) as other:
        assert "watching for 60 s" in line(other)
        other.send_signal(signal.SIGINT)
        assert other.wait(30) != 0
    assert list(path.parent.iterdir()) == [path]


@settings(max_examples=20, deadline=None)
@given(st.binary() | st.sampled_from([b"", b"{}", b"[1]", b"[" * 9999, json.dumps(asdict(ELSEWHERE))[:-9].encode()]))
def test_a_damaged_lock_is_taken_over_when_it_has_been_silent(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lock.json"
        path.write_bytes(content)
        assert owner_of(path, 0.01) is None
        with hold(path, "one", lost, 0.001, 0.01) as owner:
            assert owner_of(path) == owner


@pytest.mark.parametrize("where", ["this machine", "another machine"])
def test_one_of_ten_gets_a_stale_lock(path: Path, where: str) -> None:
    stale = replace(this_process(path), process_started="1")
    write(path, stale if where == "this machine" else ELSEWHERE)
    racers = [process(RACES, path) for _ in range(10)]
    assert {line(racer) for racer in racers} == {"ready"}
    for racer in racers:
        say(racer, "go")
    said = [line(racer) for racer in racers]
    say(racers[said.index("won")], "leave")
    for racer in racers:
        racer.communicate(timeout=5)
    assert sorted(said) == ["held"] * 9 + ["won"]
    assert list(path.parent.iterdir()) == []


def test_a_slow_one_does_not_break_the_new_lock_of_a_quick_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = this_process(path)
    write(path, ELSEWHERE)
    link = os.link
    made = []

    def link_late(private: Path, name: Path) -> None:
        made.append(name)
        if len(made) == 2:  # it has found the lock stale, and sets about to remove it
            write(path, quick)
        link(private, name)

    monkeypatch.setattr(os, "link", link_late)
    with pytest.raises(Held, match="`another`"), hold(path, "slow", lost, BEAT, SILENCE):
        pass
    assert len(made) >= 2
    assert owner_of(path) == quick
    assert list(path.parent.iterdir()) == [path]


def test_a_crash_amid_a_takeover_is_not_in_the_way(path: Path) -> None:
    write(path, replace(this_process(path), process_started="1"))
    before_the_rename = "import mms_regions.core.lock\nmms_regions.core.lock.rename = lambda *_: os._exit(9)\n"
    with process(f"{before_the_rename}with hold(path, 'one', tell): pass", path) as other:
        assert other.wait(5) == 9
    assert len(list(path.parent.iterdir())) == 2
    with hold(path, "two", lost):
        pass
    assert list(path.parent.iterdir()) == []


def test_whose_lock_is_gone_is_told_so_once(path: Path) -> None:
    told: list[str] = []
    with hold(path, "one", told.append, BEAT, SILENCE):
        path.unlink()
        until(lambda: told)
        time.sleep(3 * BEAT)
    assert len(told) == 1 and told[0].startswith(f"{path}: the lock is gone or another run has it")


def test_whose_lock_another_has_is_told_so_and_leaves_it_alone(path: Path) -> None:
    told: list[str] = []
    with hold(path, "one", told.append, BEAT, SILENCE):
        write(path, ELSEWHERE)
        until(lambda: told)
    assert len(told) == 1
    assert path.read_text() == json.dumps(asdict(ELSEWHERE))


@pytest.mark.parametrize(("failures", "times_told"), [(3, 0), (10**6, 1)])
def test_a_lock_that_cannot_be_touched_is_lost_only_after_a_silence(
    path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, times_told: int
) -> None:
    utime, told, tried = os.utime, list[str](), list[int]()

    def stale_handle(descriptor: int) -> None:
        tried.append(descriptor)
        if len(tried) <= failures:
            raise OSError(errno.ESTALE, "Stale file handle")
        utime(descriptor)

    monkeypatch.setattr(os, "utime", stale_handle)
    with hold(path, "one", told.append, BEAT, SILENCE):
        time.sleep(2 * SILENCE)
    assert len(tried) > 3
    assert ["Stale file handle" in sentence for sentence in told] == [True] * times_told
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("stale", [None, ELSEWHERE])
def test_without_hard_links_it_works_too(path: Path, monkeypatch: pytest.MonkeyPatch, stale: Owner | None) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    if stale:
        write(path, stale)
    with hold(path, "one", lost, BEAT, SILENCE) as owner:
        assert owner_of(path) == owner
        with pytest.raises(Held), hold(path, "two", lost):
            pass
    assert list(path.parent.iterdir()) == []


def test_a_link_that_is_made_and_reported_as_failed_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_twice(private: Path, name: Path) -> None:
        link(private, name)
        link(private, name)

    monkeypatch.setattr(os, "link", link_twice)
    with hold(path, "one", lost, BEAT, SILENCE) as owner:
        assert owner_of(path) == owner


def test_where_nothing_can_be_written_that_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    with (
        pytest.raises(EnvironmentProblem, match=r"lock\.json: .*Read-only file system.*; get write permission"),
        hold(path, "", lost),
    ):
        pass


def test_a_file_in_the_place_of_the_folder_is_said(path: Path) -> None:
    path.parent.touch()
    for use in (lambda: hold(path, "one", lost).__enter__(), lambda: owner_of(path)):
        with pytest.raises(EnvironmentProblem, match=r"lock\.json: "):
            use()


def test_no_descriptor_stays_open(path: Path) -> None:
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    before = len(list(fds.iterdir()))
    with hold(path, "one", lost):
        assert len(list(fds.iterdir())) == before


def test_a_fork_does_not_leave_for_its_parent_and_the_thread_keeps_no_process_alive(path: Path) -> None:
    code = """
import contextlib
stack = contextlib.ExitStack()
stack.enter_context(hold(path, 'one', tell, 0.02))
if not (child := os.fork()):
    stack.close()
    os._exit(0)
os.waitpid(child, 0)
tell(path.exists())
"""
    with process(code, path) as other:
        assert line(other) == "True"
        assert other.wait(5) == 0
