"""Expressions that strangers have written, each worked out in a process of its own.

    python examples/warm_expressions.py 'sqrt(2) * x' 'sin(x) ** 2' '[0 for _ in iter(int, 1)]'

The interpreter is started once, with its imports done; each expression is run in a fork of
it, which costs milliseconds, sees nothing of the others, and can do nothing to the next.
"""

import json
import sys
from collections.abc import Iterable, Iterator

import orlop

SETUP = """
import json, sys
from math import *
def table(expression):
    code = compile(expression, "expression", "eval")
    return [[x, eval(code, globals(), {"x": x})] for x in range(5)]
"""
KILLED = 137
CODE = "print(json.dumps(table(sys.stdin.read())))"


def tables(expressions: Iterable[str]) -> Iterator[tuple[str, list[list[float]] | str]]:
    """Give each expression with its values for the first x, or with what is wrong with it."""
    with orlop.Template(imports=["math"], setup=SETUP, memory="128m", pids=10) as template:
        for expression in expressions:
            result = template.run(CODE, input=expression.encode(), timeout=10, output_limit=10_000)
            if result.timed_out:
                yield expression, "takes too long"
            elif result.exit_code == KILLED:
                yield expression, "takes too much memory"
            elif result.exit_code:
                yield expression, result.stderr.decode(errors="replace").splitlines()[-1]
            else:
                yield expression, json.loads(result.stdout)


def main() -> None:
    for expression, found in tables(sys.argv[1:]):
        print(f"{expression:20} {found}")


if __name__ == "__main__":
    main()
