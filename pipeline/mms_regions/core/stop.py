"""How a run is asked to stop: at the first signal it finishes what is being written, at the second it ends at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mms_regions.core.errors import EnvironmentProblem, Interrupted, MMSRegionsError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # SIGHUP: the terminal or connection ended


class Stop:
    """Whether a run is to stop, why, and since when; may be asked from any thread."""

    def __init__(self) -> None:
        self.error: MMSRegionsError | None = None
        self.why = ""
        self._asked_at = 0.0

    def ask(self, why: str, error: MMSRegionsError) -> None:
        """Ask, with a word or a sentence, and with what the run is to end. The first reason stays."""
        if self.error is None:
            self._asked_at = time.monotonic()
            self.why, self.error = why, error

    def lose_place(self, why: str) -> None:
        """Ask because the lock of what is being made is no longer ours, as `lock.hold` reports it in a sentence."""
        self.ask(why, EnvironmentProblem(why))

    @property
    def asked(self) -> bool:
        return self.error is not None

    def check(self) -> None:
        """Raise what the run is to end with, if it is to end."""
        if self.error is not None:
            raise self.error

    def left(self, grace: float) -> float:
        """Seconds of grace that are left."""
        return max(0.0, self._asked_at + grace - time.monotonic())


@contextmanager
def heard_signals() -> Iterator[Stop]:
    """A stop that each of SIGNALS asks for; the second of them raises Interrupted wherever the run is.

    A third one ends the process as if nobody had listened. Outside the main thread signals cannot be heard.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            for name in SIGNALS:
                signal.signal(name, signal.SIG_DFL)
            raise Interrupted("interrupted at once; run the same command again to go on")
        word = signal.Signals(number).name
        stop.ask(word, Interrupted(f"interrupted ({word}); run the same command again to go on"))

    heard = [name for name in SIGNALS if signal.getsignal(name) != signal.SIG_IGN]  # nohup and & mean it
    before = {name: signal.signal(name, hear) for name in heard}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
