"""A test runner: a project set up once, then every test file in a copy of its own.

    python examples/run_tests.py FOLDER

The files do not see what others write, and none reaches the network or outlives its time.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orlop

PROJECT = "/tmp/project"


def run_one(box: orlop.Sandbox, name: str) -> tuple[str, orlop.Result]:
    """Run one test file to its end, and let go of its sandbox."""
    with box:
        words = ["python3", "-m", "unittest", "-q", name]
        return name, box.run(words, workdir=PROJECT, timeout=120)


def run_all(folder: Path) -> list[tuple[str, orlop.Result]]:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("test_*.py"))
    with orlop.Sandbox(memory="512m", pids=100) as box, ThreadPoolExecutor(4) as threads:
        box.files.put(folder, PROJECT)
        box.run(["python3", "-m", "compileall", "-q", "."], workdir=PROJECT)  # the costly part
        return list(threads.map(run_one, box.fork(len(names)), names)) if names else []


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every test_*.py in a sandbox of its own.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"no folder {folder}")
    results = run_all(folder)
    for name, result in results:
        print(f"{'passed' if result.exit_code == 0 else 'FAILED'} {name}")
        if result.exit_code:
            print(result.stderr.decode(errors="replace"))
    return 0 if all(result.exit_code == 0 for _, result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
