"""Templates: a Python that has done its imports, forked for each run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from orlop.errors import NotFoundError, UnavailableError, WrongStateError
from orlop.sandbox.closing import Closing, not_open
from orlop.sandbox.interrupt import current
from orlop.sandbox.options import named
from orlop.sandbox.processes.process import OUTPUT_LIMIT
from orlop.sandbox.result import Result
from orlop.sandbox.templates.options import TemplateOptions
from orlop.sandbox.templates.run import Code, NotBegunError
from orlop.sandbox.templates.started import StartedTemplate

_ATTEMPTS = 3  # to have a template that does not end before a run has begun


@named
class Template(TemplateOptions, Closing):
    """A warm interpreter in a sandbox; each run is a fork of it, in a sandbox of its own.

    It ends as a Sandbox does, and all its runs with it. One whose process has ended
    before its *lifetime*, for want of memory perhaps, is started again by the next run.

    Options beyond those of Sandbox, but without *command*, *keep*, *disk* and *timed*. Limits are
    those of each run:
        python: the image's Python, 3.8 or later: a path, or a name to be found in PATH.
        imports: names of modules to import once.
        setup: code to run once; runs begin with the names that it defines.
        setup_timeout: seconds for imports and setup; None for no limit.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._warm: StartedTemplate | None = None
        self._was_started = False
        self._over_s: float | None = None  # when its lifetime is
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Start it, and return once imports and setup are done.

        InvalidArgumentError with what they said where they fail, or where what they leave
        cannot be forked: threads, open files, shared memory. UnavailableError where they have
        not ended after *setup_timeout* seconds.
        """
        with self._changing:
            if self._warm is not None:
                raise WrongStateError("the template has been started")
            current().check()
            self._warm = warm = StartedTemplate(self, lifetime_s=self.lifetime)
            self._over_s = None if self.lifetime is None else warm.begun_s + self.lifetime
        try:
            with self._in_life():
                warm.begin()
        except BaseException:
            self.close()
            raise
        self._was_started = True
        return self

    def close(self) -> None:
        """End it and all its runs; again is no error."""
        with self._changing:
            warm, self._warm, self._over_s = self._warm, None, None
        if warm is not None:
            warm.close()

    @property
    def id(self) -> str:
        """The container's id; WrongStateError where it is not started."""
        return self._started.id

    @property
    def _started(self) -> StartedTemplate:
        warm = self._warm
        if warm is None:
            raise not_open("template", was_started=self._was_started)
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
        beyond *output_limit* bytes of a stream is not kept. WrongStateError once the
        template's *lifetime* is over.
        """
        asked = Code(text=code, input=input, timeout=timeout, output_limit=output_limit)
        with self._in_life():
            for _ in range(_ATTEMPTS):
                warm = self._started
                try:
                    return warm.run(asked)
                except (NotFoundError, NotBegunError) as error:
                    gone = error
                    self._replace(warm)
            raise gone

    def _replace(self, gone: StartedTemplate) -> None:
        """Start another in place of one that has ended, unless somebody else has."""
        with self._changing:
            current().check()
            if self._warm is not gone:
                return
            gone.close()
            self._check_life()
            self._warm = StartedTemplate(self, lifetime_s=self._left_s)

    @property
    def _left_s(self) -> float | None:
        return None if self._over_s is None else self._over_s - time.monotonic()

    def _check_life(self, why: Exception | None = None) -> None:
        if self._left_s is not None and self._left_s <= 0:
            raise WrongStateError(
                f"the template's lifetime of {self.lifetime:g} s is over"
            ) from why

    @contextmanager
    def _in_life(self) -> Iterator[None]:
        """Do the block unless its lifetime is over, which explains its failure too."""
        self._check_life()
        try:
            yield
        except (NotFoundError, UnavailableError) as error:
            self._check_life(error)
            raise
