"""A certificate authority for tests, by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")


class Issued(NamedTuple):
    """Paths of PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Its own certificate, and those that it issues, are in *folder*."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.own = self._paths(name)
        _openssl(*_NEW_KEY, "-noenc", "-subj", f"/CN={name}", *_output(self.own))

    def issue(self, name: str, *, password: str = "") -> Issued:
        """Issue a certificate for the host or client *name*, its key encrypted by *password*."""
        issued = self._paths(name)
        signer = ("-CA", self.own.certificate, "-CAkey", self.own.key)
        secret = ("-passout", f"pass:{password}") if password else ("-noenc",)
        kind = "IP" if name[0].isdecimal() else "DNS"
        names = ("-addext", f"subjectAltName={kind}:{name}")
        _openssl(*_NEW_KEY, *secret, *signer, "-subj", f"/CN={name}", *names, *_output(issued))
        return issued

    def _paths(self, name: str) -> Issued:
        return Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")


def _output(issued: Issued) -> tuple[str | Path, ...]:
    return ("-out", issued.certificate, "-keyout", issued.key)


def _openssl(*words: str | Path) -> None:
    command = ["openssl", "req", "-x509", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
