"""The parts of contextlib and functools that we need, for rooms that start often.

The originals import collections, and take 3 ms and 0.5 MiB. Type checkers see the originals.
Figures: docs/decisions/runtime-start.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack as ExitStack
    from contextlib import contextmanager as contextmanager
    from contextlib import suppress as suppress
    from functools import cache as cache
    from functools import partial as partial
else:
    from _functools import partial as partial

    def cache(function: object) -> object:
        """Call *function* once for the same arguments."""
        known = {}

        def call(*args: object) -> object:
            if args not in known:
                known[args] = function(*args)
            return known[args]

        call.cache_clear = known.clear
        call.__doc__ = function.__doc__
        return call

    class suppress:  # noqa: N801 - as in contextlib
        """Ignore errors of the given classes in the block."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds: type[BaseException]) -> None:
            self._kinds = kinds

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: type | None, error: object, traceback: object) -> bool:
            return kind is not None and issubclass(kind, self._kinds)

    def contextmanager(function: object) -> object:
        """Make a context manager from a generator that yields once."""

        def make(*args: object, **named: object) -> _Generated:
            return _Generated(function(*args, **named))

        make.__doc__ = function.__doc__
        return make

    class _Generated:
        __slots__ = ("_generator",)

        def __init__(self, generator: object) -> None:
            self._generator = generator

        def __enter__(self) -> object:
            return next(self._generator)

        def __exit__(self, kind: type | None, error: BaseException, traceback: object) -> bool:
            try:
                if kind is None:
                    next(self._generator)
                else:
                    self._generator.throw(error)
            except StopIteration:
                return kind is not None
            except BaseException as raised:
                if raised is error:
                    return False
                raise
            raise RuntimeError("the generator goes on after its context")

    class ExitStack:
        """Callbacks for the end of a with statement, the last one first."""

        __slots__ = ("_calls",)

        def __init__(self) -> None:
            self._calls = []

        def __enter__(self) -> ExitStack:
            return self

        def __exit__(self, kind: type | None, error: BaseException, traceback: object) -> bool:
            left = error
            while self._calls:
                try:
                    if self._calls.pop()(left):
                        left = None
                except BaseException as raised:
                    left = raised
            if left is not None and left is not error:
                raise left
            return left is not error

        def callback(self, function: object, *args: object, **named: object) -> object:
            """Call *function* at the end."""

            def call(_: object) -> None:
                function(*args, **named)

            self._calls.append(call)
            return function

        def enter_context(self, context: object) -> object:
            """Enter *context*, and leave it at the end."""
            entered = context.__enter__()

            def leave(error: BaseException | None) -> bool:
                kind = None if error is None else type(error)
                return context.__exit__(kind, error, error and error.__traceback__)

            self._calls.append(leave)
            return entered

        def pop_all(self) -> ExitStack:
            """Move all callbacks to another stack, so that this one does nothing."""
            other = ExitStack()
            self._calls, other._calls = other._calls, self._calls
            return other

        def close(self) -> None:
            """Run the callbacks now."""
            self.__exit__(None, None, None)
