"""The image `host`: this machine's own programs, and nothing else of it.

    /                       a layer made here: empty folders and a small /etc
    /usr                    the machine's /usr, below an overlay of the container's own
    /bin /lib /lib64 /sbin  links into /usr, as on the machine

Only a few files of /etc are copied, without which programs of /usr do not work. They are
listed by name: no users, no keys, no host names, no settings of an administrator. The
layer is a tar like any other, with a DiffID, so every snapshot driver can use it. It is
made again when its sources change.
"""

import io
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from orlop.layers.header import FILE, FOLDER, SYMLINK, Entry
from orlop.layers.write import TarWriter
from orlop.model.digest import DiffID
from orlop.model.image import History, ImageConfig, Process, RootFS, digest_of
from orlop.model.mount import Mount
from orlop.model.platform import host_platform

NAME = "host"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_MOST_BYTES = 4 << 20  # of one file; ld.so.cache can be large

_FOLDERS = {
    "dev": 0o755, "etc": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755,
    "proc": 0o555, "root": 0o700, "run": 0o755, "run/lock": 0o1777, "srv": 0o755, "sys": 0o555,
    "tmp": 0o1777, "usr": 0o755, "var": 0o755, "var/backups": 0o755, "var/cache": 0o755,
    "var/lib": 0o755, "var/lib/misc": 0o755, "var/log": 0o755, "var/mail": 0o2775,
    "var/opt": 0o755, "var/spool": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
_GIDS = {"var/mail": 8}
_LINKS = {
    "etc/mtab": "../proc/self/mounts",
    "etc/os-release": "../usr/lib/os-release",
    "var/lock": "/run/lock",
    "var/run": "/run",
}

#: Files of the machine's /etc that tell where programs of /usr find each other.
_COPIED = (
    "alternatives",
    "debian_version",
    "ethertypes",
    "fonts",
    "java-*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "lsb-release",
    "mime.types",
    "perl",
    "pki/tls/certs",
    "protocols",
    "python3*",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "vim",
)
_SECRET = b"PRIVATE KEY"

_FILES = {
    "etc/host.conf": "multi on\n",
    "etc/hostname": "",  # the engine provides this and the next two
    "etc/hosts": "",
    "etc/resolv.conf": "",
    "etc/nsswitch.conf": (
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
        "networks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n"
    ),
    "etc/shells": "/bin/sh\n/bin/bash\n/usr/bin/sh\n/usr/bin/bash\n",
    "etc/profile": f"export PATH={_PATH}\n",
}
_PASSWD = (
    "root:x:0:0:root:/root:{shell}\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
    "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
    "man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
    "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
    "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
_GROUPS = {
    "root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "mail": 8,
    "man": 12, "kmem": 15, "dialout": 20, "www-data": 33, "shadow": 42, "utmp": 43, "video": 44,
    "staff": 50, "users": 100, "nogroup": 65534,
}  # fmt: skip


class HostImage(NamedTuple):
    """An image that no registry has."""

    config: ImageConfig
    diff_id: DiffID  # of *tar*, its only layer
    tar: bytes
    base: tuple[Mount, ...]  # for Snapshots.prepare()


def host_image(*, etc: str = "/etc", root: str = "/") -> HostImage:
    """Return the image of this machine; it is the same, byte for byte, until a source changes."""
    tar = _tar(etc, root)
    diff_id = DiffID(digest_of(tar))
    platform = host_platform()
    config = ImageConfig(
        architecture=platform.architecture,
        variant=platform.variant,
        os=platform.os,
        config=Process(env=(f"PATH={_PATH}",), cmd=(_shell(root),), working_dir="/"),
        rootfs=RootFS("layers", (diff_id,)),
        history=(History(created_by="this machine's /usr"),),
    )
    return HostImage(config, diff_id, tar, _base(root))


def _base(root: str) -> tuple[Mount, ...]:
    """Return the mounts of the machine's programs; folders beside /usr if it is not merged."""
    apart = [name for name in _MERGED if stat.S_ISDIR(_mode(f"{root}/{name}"))]
    return (
        Mount("overlay", "overlay", "/usr", ("lowerdir+=/usr",)),
        *(Mount("bind", f"/{name}", f"/{name}", ("rbind", "ro")) for name in apart),
    )


def _tar(etc: str, root: str) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    entries = {entry.name: (entry, data) for entry, data in _contents(etc, root)}
    for name in sorted(entries):
        entry, data = entries[name]
        entry.size = len(data)
        writer.add(entry, [data] if data else ())
    writer.close()
    return out.getvalue()


def _contents(etc: str, root: str) -> Iterator[tuple[Entry, bytes]]:
    for name, mode in {"": 0o755, **_FOLDERS}.items():
        yield _entry(name, FOLDER, mode=mode, gid=_GIDS.get(name, 0)), b""
    for name in _MERGED:
        mode = _mode(f"{root}/{name}")
        if stat.S_ISLNK(mode):
            yield _entry(name, SYMLINK, link=os.readlink(f"{root}/{name}")), b""
        elif stat.S_ISDIR(mode):
            yield _entry(name, FOLDER, mode=0o755), b""
    for name, link in _LINKS.items():
        yield _entry(name, SYMLINK, link=link), b""
    for name, text in _FILES.items():
        yield _entry(name, FILE), text.encode()
    yield _entry("etc/passwd", FILE), _PASSWD.format(shell=_shell(root)).encode()
    groups = "".join(f"{name}:x:{gid}:\n" for name, gid in _GROUPS.items())
    yield _entry("etc/group", FILE), groups.encode()
    yield from _clock(etc)
    for pattern in _COPIED:
        yield from _copied(etc, pattern)


def _clock(etc: str) -> Iterator[tuple[Entry, bytes]]:
    """The time zone, if it is a link into /usr."""
    if stat.S_ISLNK(_mode(f"{etc}/localtime")):
        target = os.path.normpath(os.path.join("/etc", os.readlink(f"{etc}/localtime")))
        if target.startswith("/usr/share/zoneinfo/"):
            yield _entry("etc/localtime", SYMLINK, link=target), b""


def _copied(etc: str, pattern: str) -> Iterator[tuple[Entry, bytes]]:
    import glob  # 5 ms, and used only here

    for path in sorted(glob.glob(f"{glob.escape(etc)}/{pattern}")):
        name = os.path.relpath(path, etc)
        parts = name.split("/")[:-1]
        for depth in range(len(parts)):
            yield _entry("etc/" + "/".join(parts[: depth + 1]), FOLDER, mode=0o755), b""
        yield from _tree(path, f"etc/{name}")


def _tree(path: str, name: str) -> Iterator[tuple[Entry, bytes]]:
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        yield _entry(name, FOLDER, mode=0o755), b""
        for inner in sorted(os.listdir(path)):
            yield from _tree(f"{path}/{inner}", f"{name}/{inner}")
    elif stat.S_ISLNK(mode):
        yield _entry(name, SYMLINK, link=os.readlink(path)), b""
    elif stat.S_ISREG(mode) and mode & stat.S_IROTH:
        data = _public(path)
        if data is not None:
            entry = _entry(name, FILE, mode=0o755 if mode & 0o111 else 0o644)
            entry.mtime_ns = os.stat(path).st_mtime_ns  # for compiled Python, which checks it
            yield entry, data


def _public(path: str) -> bytes | None:
    """Return the file's bytes, unless it contains a key or is too large."""
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    return None if _SECRET in data or len(data) > _MOST_BYTES else data


def _shell(root: str) -> str:
    return "/bin/bash" if os.path.exists(f"{root}/usr/bin/bash") else "/bin/sh"


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _entry(name: str, kind: bytes, *, mode: int = 0o644, gid: int = 0, link: str = "") -> Entry:
    text = f"./{name}/" if kind == FOLDER and name else f"./{name}"
    mode = 0o777 if kind == SYMLINK else mode
    return Entry(os.fsencode(text), kind, mode, 0, gid, 0, 0, 0, os.fsencode(link), 0, 0)
