"""What Orlop's own processes weigh, idle and per running container (PSS, from smaps_rollup)."""

import os
import subprocess
import time
from pathlib import Path

from bench.engines import Engine

CONTAINERS = 40


def report(engine: Engine, image: str) -> dict[str, float]:
    """Print and return: idle PSS in MB of all of Orlop's processes, and KB more per container."""
    time.sleep(6)  # pull workers end when they have been idle for a while
    idle = _pss_kb(Path(engine.env["ORLOP_RUN"]))
    names = [f"memory-{number}" for number in range(CONTAINERS)]
    try:
        for name in names:
            engine.call(engine.start, image, name)
        busy = _pss_kb(Path(engine.env["ORLOP_RUN"]))
    finally:
        for name in names:
            subprocess.run(
                engine.command(engine.remove, image, name),
                env={**os.environ, **engine.env},
                capture_output=True,
                check=False,
            )
    each = (busy - idle) / CONTAINERS
    print(f"memory: idle {idle / 1000:.1f} MB, {each:.0f} KB more per running container (PSS)")
    return {"idle_mb": idle / 1000, "per_container_kb": each}


def _pss_kb(run: Path) -> float:
    """Sum over the engine, the shim and what they started, containers' own processes left out."""
    total = 0.0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _is_orlop(folder, run):
            rollup = (folder / "smaps_rollup").read_text()
            total += next(
                int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")
            )
    return total


def _is_orlop(folder: Path, run: Path) -> bool:
    try:
        command = (folder / "cmdline").read_bytes()
        environment = (folder / "environ").read_bytes()
    except OSError:
        return False
    return b"python" in command and os.fsencode(run) in command + environment
