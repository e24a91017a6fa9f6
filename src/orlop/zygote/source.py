"""The program as it is sent: the text of the modules, and how they find each other."""

from __future__ import annotations

import os

#: In the order in which they import each other.
_MODULES = ("calls", "root", "checks", "run", "guard", "serve")

#: Where the engine's socket is, until the program has connected.
SOCKET = "/dev/.orlop-template"

#: What the interpreter is started with: it fetches the rest.
BOOTSTRAP = f"""\
import array, json, os, socket
control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.connect({SOCKET!r})
_, given, *_ = control.recvmsg(16, socket.CMSG_SPACE(4))
with open(array.array("i", given[0][2])[0], encoding="utf-8") as sent:
    sent = json.load(sent)
exec(sent["begin"])
"""

#: The modules are known by name only while they are imported: `import orlop` is the caller's.
_BEGIN = """\
import sys, types
try:
    for name, text in sent["modules"]:
        sys.modules[name] = types.ModuleType(name)
        exec(compile(text, "<" + name + ">", "exec"), sys.modules[name].__dict__)
except BaseException as error:
    why = "its Python will not do: " + repr(error)
    control.send(json.dumps({"error": why}).encode())
    raise
serve = sys.modules["orlop.zygote.serve"].serve
for name, _ in sent["modules"]:
    del sys.modules[name]
serve(control, sent["options"])
"""


def program(options: object) -> dict[str, object]:
    """Return what is to be sent, as JSON, with the *options* of serve.Options."""
    folder = os.path.dirname(__file__)
    modules = [("orlop", ""), ("orlop.zygote", "")]
    for name in _MODULES:
        with open(os.path.join(folder, f"{name}.py"), encoding="utf-8") as file:
            modules.append((f"orlop.zygote.{name}", file.read()))
    return {"begin": _BEGIN, "modules": modules, "options": options}
