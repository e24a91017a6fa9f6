"""The image that all start: a static busybox and a probe, made here, without any network."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from orlop.errors import NotFoundError

REFERENCE = "localhost/orlop-bench:latest"
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var")
_SOURCES = Path(__file__).parent
_COMPILE_S = 120
_CREATED = "2026-01-01T00:00:00Z"


class Image:
    """As an archive that `docker load` reads, and as a folder for those without images.

    The probe writes the time of its first instruction: compiled, of CLOCK_MONOTONIC; where there
    is no compiler, busybox's `date` does, of the wall clock. Both are the same for all drivers.
    """

    def __init__(self, folder: Path) -> None:
        self.rootfs = folder / "rootfs"
        self.archive = folder / "image.tar"
        self.compiled = False
        self.now_ns: Callable[[], int] = time.time_ns
        self._make_rootfs()
        _write_archive(self.archive, self.rootfs)

    def probe(self, path: str = "") -> list[str]:
        """Return the words of a command that writes its time to *path*, or else its output."""
        if self.compiled:
            return ["/bin/probe", path] if path else ["/bin/probe"]
        return ["sh", "-c", 'date +%s%N > "${0:-/dev/stdout}"', *([path] if path else [""])]

    def _make_rootfs(self) -> None:
        busybox = shutil.which("busybox")
        if busybox is None:
            raise NotFoundError(
                "there is no busybox to make an image of", hint="install busybox-static"
            )
        for name in _FOLDERS:
            (self.rootfs / name).mkdir(parents=True)
        (self.rootfs / "tmp").chmod(0o1777)
        (self.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self.rootfs / "etc/group").write_text("root:x:0:\n")
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
        for applet in listed.stdout.split():
            if applet != "busybox":
                (self.rootfs / "bin" / applet).symlink_to("busybox")
        if compile_program("probe.c", self.rootfs / "bin/probe"):
            self.compiled, self.now_ns = True, time.monotonic_ns


def compile_program(source: str, program: Path) -> bool:
    """Make a static *program* of one of the package's sources; False where that cannot be."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    words = [compiler, "-O2", "-static", "-o", str(program), str(_SOURCES / source)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=_COMPILE_S)
    return done.returncode == 0


def _write_archive(path: Path, rootfs: Path) -> None:
    """Write *rootfs* as an image of one layer, in the form of `docker save`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(rootfs, arcname=".", filter=_owned_by_root)
    layer = data.getvalue()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                os.uname().machine, os.uname().machine
            ),
            "os": "linux",
            "created": _CREATED,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [REFERENCE], "Layers": ["layer.tar"]}]
    members = {name: config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as tar:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
