"""What a program can say of the types that it holds, to a strict type checker."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import orlop


def first(files: orlop.Files, process: orlop.Process) -> bytes:
    for _, data in process:
        return data
    return files.read("/etc/hostname")


async def many(pool: orlop.AsyncPool, files: orlop.AsyncFiles) -> list[orlop.Result]:
    async with orlop.AsyncBatch(count=2, memory="64m", timed=True) as boxes:
        results = [await box.run(["true"]) for box in boxes]
    async with await pool.take() as box:
        await box.files.write("/tmp/x", await files.read("/tmp/x"))
    return results


def slowest(box: orlop.Sandbox, result: orlop.Result) -> orlop.Step:
    timeline: orlop.Timeline = result.timeline or box.timeline()
    timeline.save("trace.json")
    return max(timeline, key=lambda step: step.seconds)


async def seconds(box: orlop.AsyncSandbox) -> float:
    usage: orlop.Usage = await box.usage()
    return usage.cpu_s + (await box.timeline())[0].seconds
"""


def test_every_type_that_a_program_holds_can_be_named(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    words = [str(Path(sys.executable).with_name("mypy")), "--strict", program.name]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
