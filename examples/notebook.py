"""A notebook's session: cells that share an interpreter, in a sandbox that forgets nothing.

    python examples/notebook.py 'x = 20' 'x + 1' 'while True: pass' 'x'

A cell that takes too long is interrupted, as by a notebook's stop button; what the cells
before it have made is there still.
"""

import json
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import orlop

#: Runs inside: a cell is a line of JSON in, its answer a line of JSON out. What a cell prints,
#: and what programs print that it starts, goes to a file instead.
KERNEL = """
import ast, json, os, signal, sys, tempfile, traceback
names, requests, answers = {}, os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
printed = tempfile.TemporaryFile()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(printed.fileno(), 1)
os.dup2(printed.fileno(), 2)

def run(cell, seconds):
    *body, last = ast.parse(cell).body or [ast.Pass()]
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
            return None if value is None else repr(value)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

signal.signal(signal.SIGALRM, signal.default_int_handler)
for line in requests:
    request, answer = json.loads(line), {}
    try:
        answer["value"] = run(request["cell"], request["seconds"])
    except BaseException as error:
        answer["error"] = "".join(traceback.format_exception_only(error)).strip()
    printed.seek(0)
    answer["printed"] = printed.read().decode(errors="replace")
    printed.seek(0)
    printed.truncate()
    print(json.dumps(answer), file=answers, flush=True)
"""


class Notebook:
    """One session; its sandbox ends with it."""

    def __init__(self) -> None:
        self._box = orlop.Sandbox(memory="512m", pids=50).start()
        self._process = self._box.exec(["python3", "-Iuc", KERNEL], input=None)
        self._lines = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.close()
        self._box.close()

    def _read(self) -> Iterator[bytes]:
        """Yield what the kernel says, line by line."""
        rest = b""
        for stream, piece in self._process:
            if stream == "stdout":
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines

    def run(self, cell: str, *, seconds: float = 10) -> dict[str, Any]:
        """Return the cell's "value" or "error", and what it has "printed"."""
        request = json.dumps({"cell": cell, "seconds": seconds})
        self._process.send(request.encode() + b"\n")
        answer: dict[str, Any] = json.loads(next(self._lines))
        return answer


def main() -> None:
    with Notebook() as notebook:
        for number, cell in enumerate(sys.argv[1:], 1):
            answer = notebook.run(cell, seconds=2)
            print(answer["printed"], end="")
            print(f"[{number}] {answer.get('error', answer.get('value'))}")


if __name__ == "__main__":
    main()
