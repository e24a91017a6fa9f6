"""Sandbox and AsyncSandbox in the same words, so that one test speaks to both."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from tests.integration.engines import EngineProcess

Step = tuple[bytes, bytes | None]


class Face(Protocol):
    @property
    def id(self) -> str: ...

    def run(self, command: Sequence[str], **how: Any) -> orlop.Result: ...

    def pieces(self, command: Sequence[str], **how: Any) -> Iterator[tuple[str, bytes]]: ...

    def talk(self, command: Sequence[str], words: Sequence[bytes]) -> list[bytes]:
        """Send each word to the command's input once it has answered the one before."""

    def type(self, command: Sequence[str], steps: Sequence[Step]) -> tuple[bytes, int]:
        """At a terminal of 30 by 100 wait for the first of each pair, then type the second.

        None instead makes it 10 by 20. Returns all that it showed, and the exit code.
        """

    def do(self, verb: str, *arguments: Any) -> Any: ...

    def files(self, verb: str, *arguments: Any, **how: Any) -> Any: ...

    def close(self) -> None: ...


class Blocking:
    def __init__(self, **options: Any) -> None:
        self._box = orlop.Sandbox(**options).start()
        self.close = self._box.close

    @property
    def id(self) -> str:
        return self._box.id

    def run(self, command: Sequence[str], **how: Any) -> orlop.Result:
        return self._box.run(command, **how)

    def pieces(self, command: Sequence[str], **how: Any) -> Iterator[tuple[str, bytes]]:
        with self._box.exec(command, **how) as process:
            yield from process

    def talk(self, command: Sequence[str], words: Sequence[bytes]) -> list[bytes]:
        answers = []
        with self._box.exec(command, input=None) as process:
            output = iter(process)
            for word in words:
                process.send(word)
                answers.append(next(output)[1])
            process.send(b"", end=True)
            assert list(output) == []
            assert process.exit_code == 0
        return answers

    def type(self, command: Sequence[str], steps: Sequence[Step]) -> tuple[bytes, int]:
        shown = b""
        with self._box.terminal(command, rows=30, columns=100) as terminal:
            output = iter(terminal)
            for wanted, word in steps:
                while wanted not in shown:
                    shown += next(output)
                if word is None:
                    terminal.resize(rows=10, columns=20)
                else:
                    terminal.send(word)
            shown += b"".join(output)
            return shown, terminal.exit_code

    def do(self, verb: str, *arguments: Any) -> Any:
        return getattr(self._box, verb)(*arguments)

    def files(self, verb: str, *arguments: Any, **how: Any) -> Any:
        return getattr(self._box.files, verb)(*arguments, **how)


class Asynchronous:
    def __init__(self, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._box = orlop.AsyncSandbox(**options)
        self._runner.run(self._box.start())

    @property
    def id(self) -> str:
        return self._box.id

    def run(self, command: Sequence[str], **how: Any) -> orlop.Result:
        return self._runner.run(self._box.run(command, **how))

    def pieces(self, command: Sequence[str], **how: Any) -> Iterator[tuple[str, bytes]]:
        async def collect() -> list[tuple[str, bytes]]:
            async with await self._box.exec(command, **how) as process:
                return [piece async for piece in process]

        yield from self._runner.run(collect())

    def talk(self, command: Sequence[str], words: Sequence[bytes]) -> list[bytes]:
        async def converse() -> list[bytes]:
            answers = []
            async with await self._box.exec(command, input=None) as process:
                output = aiter(process)
                for word in words:
                    await process.send(word)
                    answers.append((await anext(output))[1])
                await process.send(b"", end=True)
                assert [piece async for piece in output] == []
                assert process.exit_code == 0
            return answers

        return self._runner.run(converse())

    def type(self, command: Sequence[str], steps: Sequence[Step]) -> tuple[bytes, int]:
        async def converse() -> tuple[bytes, int]:
            shown = b""
            async with await self._box.terminal(command, rows=30, columns=100) as terminal:
                output = aiter(terminal)
                for wanted, word in steps:
                    while wanted not in shown:
                        shown += await anext(output)
                    if word is None:
                        await terminal.resize(rows=10, columns=20)
                    else:
                        await terminal.send(word)
                shown += b"".join([piece async for piece in output])
                return shown, terminal.exit_code

        return self._runner.run(converse())

    def do(self, verb: str, *arguments: Any) -> Any:
        return self._runner.run(getattr(self._box, verb)(*arguments))

    def files(self, verb: str, *arguments: Any, **how: Any) -> Any:
        if verb != "stream":
            return self._runner.run(getattr(self._box.files, verb)(*arguments, **how))

        async def collect() -> list[bytes]:
            return [piece async for piece in self._box.files.stream(*arguments)]

        return self._runner.run(collect())

    def close(self) -> None:
        self._runner.run(self._box.close())
        self._runner.close()


def ids(engine: EngineProcess) -> set[str]:
    """Return the ids of all containers that the engine has."""
    with Client(settings(host=engine.url)) as client:
        return {str(item["Id"]) for item in client.containers.list(all_states=True)}


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
