"""Templates: a Python that has done its imports, forked for each run."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from orlop.client.client import Client
from orlop.client.http import RawStream
from orlop.errors import (
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    WrongStateError,
)
from orlop.sandbox.closing import Closing
from orlop.sandbox.containers import pull
from orlop.sandbox.options import Options
from orlop.sandbox.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result
from orlop.sandbox.template_run import NotBegunError, Run

_IDLE_STREAMS = 16
_ATTEMPTS = 3  # to have a template that does not end before a run has begun


@dataclass(frozen=True, kw_only=True, eq=False)
class TemplateOptions(Options):
    """A sandbox's, and what its Python does once. Limits are those of each run."""

    python: str = "python3"  # of the image, 3.8 or later
    imports: Sequence[str] = ()  # names of modules
    setup: str = ""  # code; runs begin with the names that it has defined

    def __post_init__(self) -> None:
        if isinstance(self.imports, str):
            raise InvalidArgumentError("imports is a list of modules", hint='["numpy"]')
        if self.command != Options.command:
            raise InvalidArgumentError("a template has no command but its own")
        if self.keep or self.disk is not None:
            word = "keep" if self.keep else "disk"
            raise UnsupportedError(f"a template cannot have {word}=")
        super().__post_init__()

    def body(self) -> dict[str, Any]:
        made = super().body()
        words = {"Python": self.python, "Imports": list(self.imports), "Setup": self.setup}
        return {**made, "Template": words}


class Template(TemplateOptions, Closing):
    """A warm interpreter in a sandbox; each run is a fork of it, in a sandbox of its own.

    It ends as a Sandbox does, and all its runs with it. One whose process has ended,
    for want of memory perhaps, is started again by the next run.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._warm: _Warm | None = None
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Start it, and return once imports and setup are done.

        InvalidArgumentError with what they said where they fail, or where what they leave
        cannot be forked: threads, open files, shared memory.
        """
        with self._changing:
            if self._warm is not None:
                raise WrongStateError("the template has been started")
            self._warm = warm = _Warm(self)
        try:
            warm.begin()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End it and all its runs; again is no error."""
        with self._changing:
            warm, self._warm = self._warm, None
        if warm is not None:
            warm.close()

    @property
    def id(self) -> str:
        """The container's id; WrongStateError where it is not started."""
        return self._started.id

    @property
    def _started(self) -> "_Warm":
        warm = self._warm
        if warm is None:
            raise WrongStateError("the template is not started", hint="use `with`, or start()")
        return warm

    def run(
        self,
        code: str | bytes,
        *,
        input: bytes = b"",  # noqa: A002 (as subprocess.run has it)
        timeout: float | None = None,
        output_limit: int = OUTPUT_LIMIT,
    ) -> Result:
        """Run Python *code* in a fork, after whose end nothing of it is left.

        After *timeout* seconds it is killed with all that it has started. What it writes
        beyond *output_limit* bytes of a stream is not kept.
        """
        running: list[Run] = []
        return self._run_in(running, code, input, timeout=timeout, output_limit=output_limit)

    def _run_in(
        self,
        running: list[Run],
        code: str | bytes,
        given: bytes,
        *,
        timeout: float | None,
        output_limit: int,
    ) -> Result:
        """Do as run(); what runs is in *running* meanwhile, to be killed by another thread."""
        for _ in range(_ATTEMPTS):
            warm = self._started
            try:
                stream = warm.take()
                with warm.lent(stream):
                    run = Run(stream, timeout=timeout, output_limit=output_limit)
                    running[:] = [run]
                    return run.finish(code, given)
            except (NotFoundError, NotBegunError) as error:
                gone = error
                self._replace(warm)
        raise gone

    def _replace(self, gone: "_Warm") -> None:
        """Start another in place of one that has ended, unless somebody else has."""
        with self._changing:
            if self._warm is not gone:
                return
            gone.close()
            self._warm = _Warm(self)


class _Warm:
    """What the engine has started for a template."""

    def __init__(self, options: TemplateOptions) -> None:
        self._settings = options.settings()
        if self._settings.address.tcp is not None:
            raise UnsupportedError("templates need an engine with a unix socket")
        self._idle: list[RawStream] = []
        with Client(self._settings) as client:
            try:
                self.id, self._holder = _open(client, options)
            except NotFoundError as error:
                if "no such image" not in str(error).lower():
                    raise
                pull(client, options.image)
                self.id, self._holder = _open(client, options)
        weakref.finalize(self, self._holder.close)

    def begin(self) -> None:
        """Return once imports and setup are done."""
        with Client(self._settings) as client:
            self._idle.append(client.templates.runs(self.id))

    def take(self) -> RawStream:
        """Return a stream for a run. NotFoundError where the container is gone."""
        with suppress(IndexError):
            return self._idle.pop()
        try:
            with Client(self._settings) as client:
                return client.templates.runs(self.id)
        except UnavailableError as error:
            raise NotBegunError(str(error)) from error

    @contextmanager
    def lent(self, stream: RawStream) -> Iterator[None]:
        """Keep it for another run after this one, unless that has failed."""
        with ExitStack() as failed:
            failed.callback(stream.close)
            yield
            if len(self._idle) < _IDLE_STREAMS:
                failed.pop_all()
                self._idle.append(stream)

    def close(self) -> None:
        try:
            with Client(self._settings) as client:
                client.containers.remove(self.id, force=True, volumes=True)
        except (NotFoundError, WrongStateError):  # it has ended by itself, or is just ending
            pass
        finally:
            self._holder.close()
            while self._idle:
                self._idle.pop().close()


def _open(client: Client, options: TemplateOptions) -> tuple[str, RawStream]:
    return client.templates.open(options.body(), name=options.name, lifetime_s=options.lifetime)
