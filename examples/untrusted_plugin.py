"""A plugin that nobody trusts: JSON in, JSON out, and nothing else of it leaves the sandbox.

    python examples/untrusted_plugin.py

Three plugins are asked: a good one, one that wants the host's secrets, and one that never
ends and leaves processes behind.
"""

import json
from typing import Any

import orlop

GOOD = """
import json, sys
request = json.load(sys.stdin)
json.dump({"shout": request["text"].upper()}, sys.stdout)
"""
CURIOUS = """
import json, os, socket
found = []
for path in ("/etc/shadow", "/root/.ssh", "/dev/mem"):
    try:
        os.listdir(path) if path == "/root/.ssh" else open(path).read(1)
        found.append(path)
    except OSError:
        pass
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
    found.append("network")
except OSError:
    pass
print(json.dumps({"found": found}))
"""
HANGING = """
import os, time
if os.fork() == 0:
    os.setsid()
while True:
    time.sleep(1)
"""


class PluginError(Exception):
    """It gave no answer."""


def ask(plugin: str, request: dict[str, Any], *, timeout: float = 30) -> Any:
    """Return what *plugin* answers to *request*; PluginError where that is nothing of use."""
    with orlop.Sandbox(
        memory="64m", pids=10, cpus=0.5, user="65534", read_only=True, lifetime=10 * timeout
    ) as box:
        result = box.run(
            ["python3", "-I", "-c", plugin],
            input=json.dumps(request).encode(),
            timeout=timeout,
            output_limit=100_000,
        )
        if result.timed_out:
            raise PluginError(f"no answer within {timeout:g} s")
        if result.exit_code or result.stdout_truncated:
            raise PluginError(result.stderr.decode(errors="replace")[-1000:])
        try:
            return json.loads(result.stdout)
        except ValueError as error:
            raise PluginError(f"no JSON: {error}") from None


def main() -> None:
    print(ask(GOOD, {"text": "hello"}))
    print(ask(CURIOUS, {}))
    try:
        ask(HANGING, {}, timeout=1)
    except PluginError as error:
        print(error)


if __name__ == "__main__":
    main()
