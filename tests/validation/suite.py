"""The OCI validation programs, built from Debian's source and kept in the checkout's .cache folder.

Debian's package golang-github-opencontainers-runtime-tools-dev has the suite's libraries; the
programs that use them are in the package's source alone, which apt fetches from where this
machine's packages come from.
"""

import functools
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.crafting import ARCHITECTURE, add, busybox, layer
from tests.outside import outside

ROOT = Path(__file__).parents[2]
PACKAGE = "golang-github-opencontainers-runtime-tools"
IMPORT_PATH = "github.com/opencontainers/runtime-tools"
TAP = Path(__file__).with_name("tap.go")
DEBIAN_LIBRARIES = Path("/usr/share/gocode")
#: What a program takes from its working directory.
ROOTFS = f"rootfs-{ARCHITECTURE}.tar.gz"
INSIDE = "runtimetest"


@functools.cache
def programs() -> Path:
    """Return the folder of the built programs, of `runtimetest` and of the root file system."""
    kept = ROOT / ".cache" / f"oci-validation-{_version()}-{_digest()}"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        for older in kept.parent.glob("oci-validation-*"):
            shutil.rmtree(older)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="building-") as building:
            _build(Path(building), programs := Path(building) / "programs")
            programs.rename(kept)
    return kept


def _version() -> str:
    command = ["dpkg-query", "-W", "-f", "${Version}", f"{PACKAGE}-dev"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _digest() -> str:
    """What else decides how the programs come out: this file and the one beside it."""
    return hashlib.sha256(TAP.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]


def _build(folder: Path, programs: Path) -> None:
    workspace = folder / "go"
    source = workspace / "src" / IMPORT_PATH
    source.mkdir(parents=True)
    _unpack(_fetch(folder / "apt"), source)
    tap = workspace / "src" / "github.com" / "mndrix" / "tap-go"
    tap.mkdir(parents=True)
    shutil.copy(TAP, tap)
    programs.mkdir()
    _run(
        ["go", "build", "-o", f"{programs}/", "-ldflags=-s -w"],
        f"./cmd/{INSIDE}",
        "./validation/...",
        cwd=source,
        env={
            "PATH": os.environ["PATH"],
            "GO111MODULE": "off",
            "GOPATH": f"{workspace}:{DEBIAN_LIBRARIES}",
            "GOCACHE": str(folder / "objects"),
            "CGO_ENABLED": "0",
        },
    )
    (programs / ROOTFS).write_bytes(gzip.compress(_root(), compresslevel=1))


def _root() -> bytes:
    """Return a root file system whose folder everybody may enter, and whose `true` takes a while.

    So long that a program that starts it, and wants to find it running, does.
    """

    def fill(tar: tarfile.TarFile) -> None:
        add(tar, ".", tarfile.DIRTYPE)
        busybox(tar)
        add(tar, "bin/true", data=b"#!/bin/sh\nsleep 1.5\n", mode=0o755)

    return layer(fill)


def _fetch(folder: Path) -> Path:
    """Fetch the package's source as its maintainers took it; apt's signed index has its digest."""
    parts = folder / "parts"
    (folder / "lists" / "partial").mkdir(parents=True)
    parts.mkdir()
    _source_entries(parts)
    apart = [
        f"-oDir::Etc::SourceParts={parts}",
        "-oDir::Etc::SourceList=/dev/null",
        f"-oDir::State::Lists={folder / 'lists'}",
        f"-oDir::Cache={folder}",
        "-oAPT::Sandbox::User=root",
    ]
    _run(outside(["apt-get", "-qq", *apart]), "update", cwd=folder)
    listed = _run(
        ["apt-get", "-qq", *apart],
        "source",
        "--print-uris",
        f"{PACKAGE}={_version()}",
        cwd=folder,
    )
    found = re.search(r"^'(\S+\.orig\.tar\.\w+)' \S+ \d+ (SHA256:\w+)$", listed, re.MULTILINE)
    assert found, listed
    uri, digest = found.groups()
    archive = folder / Path(uri).name
    fetch = ["/usr/lib/apt/apt-helper", *apart, "download-file", uri, str(archive), digest]
    _run(outside(fetch), cwd=folder)
    return archive


def _source_entries(parts: Path) -> None:
    """Write apt entries for source, one for each entry for packages that this machine has."""
    etc = Path("/etc/apt")
    for entry in sorted(etc.glob("sources.list.d/*.sources")):
        stanzas = re.split(r"\n\s*\n", entry.read_text())
        kept = [one for one in stanzas if re.search(r"^URIs:\s*https?:", one, re.MULTILINE)]
        text = "\n\n".join(re.sub(r"(?m)^Types:.*$", "Types: deb-src", one) for one in kept)
        (parts / entry.name).write_text(text + "\n")
    lines = [
        line
        for entry in (etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list")))
        if entry.exists()
        for line in re.findall(r"(?m)^deb(\s.*https?:.*)$", entry.read_text())
    ]
    (parts / "lines.list").write_text("".join(f"deb-src{line}\n" for line in lines))


def _unpack(archive: Path, source: Path) -> None:
    """Take the programs from *archive*; the libraries that they use are the package's."""
    with tarfile.open(archive) as tar:
        tar.extractall(source, members=_programs_in(tar), filter="data")


def _programs_in(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        _, _, member.name = member.name.partition("/")
        if member.name.startswith(("validation/", f"cmd/{INSIDE}/")):
            yield member


def _run(command: list[str], *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
