"""A session that is prepared once, and then goes on in several ways at the same time.

    python examples/forked_session.py 'import time; time.sleep(3); x = 20' 'x + 1' 'x * 2' 'x = 0'

The first cell is run in one sandbox, and each of the others in a copy of it as it was then:
with its files, and with the interpreter in it, whose memory has what the first has made.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orlop

#: The sandbox's first process: reached by a socket that each copy has its own of.
KERNEL = """
import ast, json, socket, traceback

def run(cell):
    *body, last = ast.parse(cell).body or [ast.Pass()]
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
    return last and eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)

names = {}
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("/run/kernel")
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as stream:
            try:
                answer = {"value": repr(run(json.loads(stream.readline())))}
            except BaseException as error:
                answer = {"error": "".join(traceback.format_exception_only(error)).strip()}
            print(json.dumps(answer), file=stream, flush=True)
"""
#: Run for each cell: passes it on, and prints the answer.
ASK = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as connection:
    while connection.connect_ex("/run/kernel"):
        time.sleep(0.01)  # it is on its way
    connection.sendall(sys.stdin.buffer.readline())
    print(connection.makefile().readline(), end="")
"""


def ask(box: orlop.Sandbox, cell: str) -> dict[str, Any]:
    """Run *cell* in the session of *box*; return its "value" or "error"."""
    asking = ["python3", "-Ic", ASK]
    result = box.run(asking, input=json.dumps(cell).encode() + b"\n", timeout=60)
    if not result.stdout:
        return {"error": "the session has ended"}
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the others in copies of the first's session.")
    parser.add_argument("first", help="a cell: Python's statements, and an expression to be shown")
    parser.add_argument("others", nargs="+", help="cells, each for a copy")
    arguments = parser.parse_args()
    kernel = ["python3", "-Ic", KERNEL]
    with orlop.Sandbox(command=kernel, memory="512m", pids=50) as box:
        print(f"[0] {ask(box, arguments.first)}")
        forks = box.fork(len(arguments.others), processes=True)
        with ThreadPoolExecutor() as threads:
            for number, answer in enumerate(threads.map(ask, forks, arguments.others), 1):
                print(f"[{number}] {answer}")


if __name__ == "__main__":
    main()
