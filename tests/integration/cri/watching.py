"""Streaming calls of the CRI, made through grpcio by a process of their own."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.engines import EngineProcess

_PROGRAM = Path(__file__).with_name("watch.py")


@contextmanager
def streaming(engine: EngineProcess, method: str) -> Iterator[Iterator[bytes]]:
    """Give the messages that RuntimeService's or ImageService's *method* sends; kill it then."""
    path = f"/runtime.v1.{method}"
    words = [sys.executable, str(_PROGRAM), str(engine.run / "cri.sock"), path]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert pickle.load(process.stdout) is None
            yield _loaded(process.stdout)
        finally:
            process.kill()


def _loaded(stream: object) -> Iterator[bytes]:
    while True:
        try:
            yield pickle.load(stream)  # type: ignore[arg-type]
        except EOFError:
            return
