"""A warm start through the client library: from the request to the program's first instruction.

The program's first act is to open a fifo that the measuring side waits at; so
the figure holds, besides the start, the loading of a static busybox.
"""

import os
import tempfile
import time
from pathlib import Path

from bench.engines import Engine
from bench.measure import Series
from orlop.client.address import Settings
from orlop.client.client import Client


def report(engine: Engine, image: str, rounds: int) -> dict[str, list[float]]:
    """Print and return milliseconds from the create request to the first instruction."""
    settings = Settings(root=engine.env["ORLOP_ROOT"], run=engine.env["ORLOP_RUN"], host=None)
    with tempfile.TemporaryDirectory() as folder, Client(settings) as client:
        fifo = Path(folder) / "fifo"
        os.mkfifo(fifo)
        starts = [_start(client, image, folder) for _ in range(rounds + 1)][1:]
    series = Series(starts)
    print(
        f"warm: request to first instruction through the client library\n"
        f"  orlop      {series.median_ms:7.1f} ms {series.p99_ms:7.1f} ms"
    )
    return {"orlop": starts}


def _start(client: Client, image: str, folder: str) -> float:
    body = {
        "Image": image,
        "Cmd": ["sh", "-c", ": > /measure/fifo"],
        "HostConfig": {
            "Binds": [f"{folder}:/measure"],
            "Memory": 64 << 20,
            "PidsLimit": 64,
            "NetworkMode": "none",
        },
    }
    begin = time.perf_counter()
    identifier = client.containers.create(body)["Id"]
    client.containers.start(identifier)
    os.close(os.open(f"{folder}/fifo", os.O_RDONLY))
    took_ms = (time.perf_counter() - begin) * 1e3
    client.containers.remove(identifier, force=True)
    return took_ms
