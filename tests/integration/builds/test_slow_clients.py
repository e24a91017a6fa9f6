"""Who sends a context slowly holds up nobody else."""

import contextlib
import socket
import tarfile
import time

from tests.integration.engines import EngineProcess

_CLIENTS = 80  # more than the engine has threads for its own work


def test_contexts_that_never_end_do_not_stop_the_engine(engine: EngineProcess, image: str) -> None:
    begun = tarfile.TarInfo("Dockerfile")
    begun.size = 100
    with contextlib.ExitStack() as opened:
        for _ in range(_CLIENTS):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(engine.socket))
            client.sendall(
                b"POST /build HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                b"Content-Type: application/x-tar\r\n\r\n200\r\n" + begun.tobuf() + b"\r\n"
            )
        time.sleep(1)
        # Silent clients are cut off after 10 s.
        run = ("run", "--rm", "--network", "none", image, "echo", "here")
        assert engine.out(*run, timeout_s=8) == "here"
