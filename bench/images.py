"""The images that are measured, in a registry on the loopback."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import debian_image
from tests.integration import engines
from tests.integration.images import servers


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run Debian's docker-registry; yield its host and port."""
    place = folder / "registry"
    place.mkdir()
    with servers.registry(place) as address:
        yield address


def publish(name: str, address: str) -> str:
    """Push the image called *name*; return the reference to pull it by."""
    reference = f"{address}/{name}:bench"
    with tempfile.TemporaryDirectory() as folder:
        if name == "debian":
            source = f"oci:{debian_image.layout()}:{debian_image.TAG}"
        else:
            archive = Path(folder) / "image.tar"
            engines.docker_archive(archive, tags=[f"{name}:bench"], config={"Env": ["PATH=/bin"]})
            source = f"docker-archive:{archive}"
        command = [
            "skopeo",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            source,
            f"docker://{reference}",
        ]
        subprocess.run(command, check=True, capture_output=True)
    return reference
