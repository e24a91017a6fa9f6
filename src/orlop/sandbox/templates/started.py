"""A template that has been started: the engine's container, and the connections for its runs."""

import os
import select
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from orlop.client.calls import finish_upgrade
from orlop.client.client import Client
from orlop.client.http import Connection, RawStream
from orlop.errors import (
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    WrongStateError,
)
from orlop.sandbox.interrupt import current
from orlop.sandbox.result import Result
from orlop.sandbox.templates.options import TemplateOptions
from orlop.sandbox.templates.run import Code, LostStreamError, NotBegunError, run_on
from orlop.sandbox.ways.containers import with_image

_IDLE_STREAMS = 16


class StartedTemplate:
    """Its process does the setup, or waits for runs, or has ended: a run finds that out."""

    def __init__(self, options: TemplateOptions, *, lifetime_s: float | None) -> None:
        self._settings = options.settings()
        if self._settings.address.tcp is not None:
            raise UnsupportedError("templates need an engine with a unix socket")
        self._idle: list[RawStream] = []
        self._process = os.getpid()
        self._is_warm = self._is_too_slow = False
        self._setup_s = options.setup_timeout
        with Client(self._settings) as client:
            with_image(
                self._settings, options.reference, lambda: self._open(client, options, lifetime_s)
            )
        weakref.finalize(self, _let_go, self._holder, self._idle)

    def _open(self, client: Client, options: TemplateOptions, lifetime_s: float | None) -> None:
        self.begun_s = time.monotonic()
        self.id, self._holder = client.templates.open(
            options.body(), name=options.name, lifetime_s=lifetime_s
        )

    def begin(self) -> None:
        """Return once imports and setup are done."""
        self._idle.append(self._connect())

    def run(self, code: Code) -> Result:
        """Run *code* to its end.

        NotFoundError or NotBegunError where the template has ended before it had begun.
        """
        if self._is_too_slow:
            raise NotBegunError("the template was ended")
        stream = self._idle_stream()
        if stream is not None:
            with suppress(LostStreamError):  # of an engine that has gone, perhaps
                return self._run_on(stream, code)
        return self._run_on(self._new_stream(), code)

    def _idle_stream(self) -> RawStream | None:
        if self._process != os.getpid():  # they are of the process that has forked us
            _close_all(self._idle)
            self._process = os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _run_on(self, stream: RawStream, code: Code) -> Result:
        with self._lent(stream):
            return run_on(stream, code)

    @contextmanager
    def _lent(self, stream: RawStream) -> Iterator[None]:
        """Keep it for another run after this one, unless that has failed."""
        with ExitStack() as failed:
            failed.callback(stream.close)
            failed.callback(stream.end_input)  # a process that was forked may have it open
            yield
            if len(self._idle) < _IDLE_STREAMS:
                failed.pop_all()
                self._idle.append(stream)

    def _new_stream(self) -> RawStream:
        try:
            return self._connect()
        except UnavailableError as error:
            if self._is_too_slow:  # another would be no quicker
                raise
            raise NotBegunError(str(error)) from error

    def _connect(self) -> RawStream:
        """Return a new connection for runs, once it is warm. NotFoundError if it has ended."""
        with Client(self._settings) as client:
            connection = client.templates.begin_runs(self.id)
        with ExitStack() as failed:
            failed.callback(connection.close)
            with current().ending(connection.shut):
                self._await_answer(connection)
                stream = finish_upgrade(connection)
                failed.callback(stream.close)
            failed.pop_all()
        self._is_warm = True
        return stream

    def _await_answer(self, connection: Connection) -> None:
        """Wait for as long as its setup may take; that is the end of one that takes longer."""
        if self._is_warm or self._setup_s is None:
            return
        left_s = self.begun_s + self._setup_s - time.monotonic()
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if not poll.poll(max(0.0, left_s) * 1000):
            self._is_too_slow = True
            self.close()
            raise UnavailableError(
                f"the template's imports and setup have not ended in {self._setup_s:g} s",
                hint="setup_timeout= is how long they may take",
            )

    def close(self) -> None:
        """End it and all its runs; again is no error."""
        try:
            with Client(self._settings) as client:
                client.containers.remove(self.id, force=True, volumes=True)
        except (NotFoundError, WrongStateError):  # it has ended by itself, or is just ending
            pass
        finally:
            _let_go(self._holder, self._idle)


def _let_go(holder: RawStream, idle: list[RawStream]) -> None:
    holder.close()
    _close_all(idle)


def _close_all(streams: list[RawStream]) -> None:
    while streams:
        streams.pop().close()
