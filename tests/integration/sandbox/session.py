"""A Python that lives in a sandbox as its first process, and is asked over a unix socket."""

import orlop
from orlop.sandbox.result import Result

#: Evaluates or executes what each connection sends, in one set of names.
SERVER = """
import socket
names = {}
listener = socket.socket(socket.AF_UNIX)
listener.bind("/tmp/session")
listener.listen()
while True:
    connection, _ = listener.accept()
    code = connection.makefile().read()
    try:
        try:
            said = repr(eval(code, names))
        except SyntaxError:
            said = str(exec(code, names))
    except Exception as error:
        said = repr(error)
    connection.sendall(said.encode())
    connection.close()
"""
COMMAND = ("python3", "-c", SERVER)

_CLIENT = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as connection:
    while connection.connect_ex("/tmp/session"):
        time.sleep(0.05)
    connection.sendall(sys.argv[1].encode())
    connection.shutdown(socket.SHUT_WR)
    print(connection.makefile().read(), end="")
"""


def asking(code: str) -> list[str]:
    """Return the command that has *code* evaluated, or executed, and prints what comes of it."""
    return ["python3", "-c", _CLIENT, code]


def ask(box: orlop.Sandbox, code: str) -> str:
    """Have the session of *box* evaluate or execute *code*; return what it says."""
    return answer(box.run(asking(code), timeout=60))


def answer(result: Result) -> str:
    """Return what a command of asking() has printed."""
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()
