"""A pull from a registry on the loopback to a root that can be run: Debian's, 69 MB of gzip."""

import os
import subprocess
from contextlib import suppress
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver, milliseconds
from orlop.errors import UnavailableError
from tests import debian_image
from tests.integration.images import servers


def measure(bench: Bench) -> None:
    """Pull --rounds times with each driver that can; what was there before is removed."""
    folder, _ = bench.places("registry")
    with servers.registry(folder) as address:
        reference = f"{address}/debian:bench"
        source = f"oci:{debian_image.layout()}:{debian_image.TAG}"
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false"]
        subprocess.run([*copy, source, f"docker://{reference}"], check=True, capture_output=True)
        actions = {driver.name: partial(_pull, driver, reference) for driver in bench.drivers}
        bench.alternate(actions, bench.plan.rounds)


def _pull(driver: BenchDriver, reference: str) -> float:
    with suppress(UnavailableError):  # there is none yet
        driver.forget_image(reference)
    os.sync()
    return milliseconds(lambda: driver.pull(reference))
