"""What tests of containerd's API share."""

import subprocess
from collections.abc import Callable

import pytest

from tests.integration.engines import EngineProcess

Ctr = Callable[..., str]


class FailedError(Exception):
    """`ctr` ended with an error, which this has as its text."""


@pytest.fixture(scope="module")
def ctr(engine: EngineProcess) -> Ctr:
    """Run `ctr WORDS`, with a *namespace* and *input*; return its output, or raise FailedError."""

    def run(*words: str, namespace: str = "default", given: bytes = b"") -> str:
        address = str(engine.run / "containerd.sock")
        done = subprocess.run(
            ["ctr", "--address", address, "--namespace", namespace, *words],
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise FailedError(done.stderr.decode())
        return done.stdout.decode()

    return run
