"""What tests of builds share: a folder for the context, and the docker command that builds it."""

import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

#: Builds from a Dockerfile's text and files by name; returns the finished docker command.
Build = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def image(engine: EngineProcess, busybox_archive: Path) -> str:
    """The name of an image that the engine has."""
    engine.docker("load", "-i", str(busybox_archive))
    return "busybox:test"


@pytest.fixture
def tag() -> str:
    """A name for the image that a test builds."""
    return f"built:{uuid.uuid4().hex[:10]}"


@pytest.fixture
def build(engine: EngineProcess, image: str, tmp_path: Path) -> Build:
    """Write a context, and build it with docker's classic builder."""

    def run(
        dockerfile: str, *options: str, files: Mapping[str, str] = {}, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        context = tmp_path / "context"
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        environment = {**engine.environment(), "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(
            ["docker", "build", *options, str(context)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr + engine.log()[-4000:]
        return done

    return run
