"""Ends the demo in order, whenever somebody asks for it. Loaded before all else: standard library only."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """Somebody asked for an end. No `except Exception` on the way may take it for an error."""


class Stop:
    """Whether somebody has asked for an end.

    A signal only sets a flag, which the work looks at between its steps: an exception out of nowhere would
    leave a server that was being started without anybody who knows of it. What follows is bounded, so asking
    again changes nothing.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._tell: Callable[[str], None] | None = None
        self.signal = 0

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number
        self._asked.set()
        if self._tell is not None:
            self._tell("stopping as soon as this step is done")

    @contextmanager
    def telling(self, tell: Callable[[str], None]) -> Iterator[None]:
        """For a step that cannot be cut short: it is said that the wish was heard. `tell` may not print, for
        it is called in the middle of anything."""
        self._tell = tell
        try:
            yield
        finally:
            self._tell = None

    @property
    def hung_up(self) -> bool:
        """Whether it was the terminal that went away: there is nobody left to tell anything."""
        return self.signal == signal.SIGHUP

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def check(self) -> None:
        """Raises `Stopped` if an end was asked for."""
        if self.asked:
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait; raises `Stopped` as soon as an end is asked for."""
        self._asked.wait(seconds)
        self.check()
