"""A code interpreter for an agent: what a model has written, run where it can do no harm.

    python examples/code_interpreter.py 'print(6 * 7)' 'import plot'

Each piece of code gets a sandbox of its own, warm from a pool: no network, little memory,
few seconds, a user without rights. What it prints and the files that it leaves in the folder
it runs in come back.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import orlop

FOLDER = "/tmp/work"
PRINTED_BYTES = 10_000


@dataclass
class Answer:
    """What a model is told."""

    text: str
    files: dict[str, bytes] = field(default_factory=dict)


def interpret(pool: orlop.Pool, code: str, *, timeout: float = 10) -> Answer:
    """Run *code* once, and tell what came of it in words."""
    with pool.take() as box:
        box.run(["mkdir", "-m", "777", FOLDER])
        result = box.run(
            ["python3", "-"],
            input=code.encode(),
            workdir=FOLDER,
            timeout=timeout,
            output_limit=PRINTED_BYTES,
        )
        return Answer(described(result), files_of(box))


def described(result: orlop.Result) -> str:
    text = (result.stdout + result.stderr).decode(errors="replace")
    if result.stdout_truncated or result.stderr_truncated:
        text += "\n(more was printed)"
    if result.timed_out:
        text += (
            f"\n(ended after {result.duration_s:.0f} s, of which {result.usage.cpu_s:.0f} at work)"
        )
    elif result.exit_code == 137:
        text += "\n(killed: out of memory?)"
    elif result.exit_code:
        text += f"\n(exit code {result.exit_code})"
    return text


def files_of(box: orlop.Sandbox) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        box.files.get(FOLDER, copy)
        found = (path for path in copy.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(copy)): path.read_bytes() for path in found}


def main() -> None:
    with orlop.Pool(size=2, memory="256m", pids=50, user="65534") as pool:
        for code in sys.argv[1:]:
            answer = interpret(pool, code)
            print(answer.text.rstrip())
            for name, data in sorted(answer.files.items()):
                print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
