"""Layers and images made by hand, well-formed or hostile."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TIME_S = 1_700_000_000
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    *(
        "sh",
        "true",
        "false",
        "cat",
        "echo",
        "ls",
        "id",
        "sleep",
        "env",
        "pwd",
        "ps",
        "test",
        "stat",
    ),
    *(
        "dd",
        "yes",
        "kill",
        "mount",
        "hostname",
        "head",
        "wc",
        "seq",
        "touch",
        "mkdir",
        "rm",
        "date",
    ),
    *("stty", "trap", "printf", "grep", "tail", "unshare", "mknod", "readlink", "find", "ln"),
)


def add(
    tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any
) -> None:
    """Write one entry exactly as named; *fields* are attributes of TarInfo."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mtime = kind, len(data), TIME_S
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(entry, field, value)
    tar.addfile(entry, io.BytesIO(data))


def layer(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    """Return the uncompressed tar that *fill* writes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return out.getvalue()


def busybox(tar: tarfile.TarFile) -> None:
    """A small root file system: busybox with the names that tests call it by."""
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
        add(tar, folder, tarfile.DIRTYPE)
    add(tar, "bin/busybox", data=BUSYBOX.read_bytes(), mode=0o755)
    for name in APPLETS:
        add(tar, f"bin/{name}", tarfile.SYMTYPE, linkname="busybox")
    add(tar, "etc/passwd", data=b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    add(tar, "etc/group", data=b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image_config(layers: Sequence[bytes], config: dict[str, Any]) -> bytes:
    """Return an image configuration for uncompressed *layers* whose "config" part is *config*."""
    document = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], **config},
        "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
    }
    return json.dumps(document).encode()


def docker_archive(
    path: Path, name: str, layers: Sequence[bytes], config: dict[str, Any] | None = None
) -> Path:
    """Write what `docker load` reads: manifest.json, a configuration and plain layer tars."""
    document = image_config(layers, config or {})
    files = {f"{digest(one)[7:]}/layer.tar": one for one in layers}
    config_name = f"{digest(document)[7:]}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": list(files)}]
    files |= {config_name: document, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as tar:
        for member, data in files.items():
            add(tar, member, data=data)
    return path
