"""A virtual machine with all controllers in cgroup v2, of this host's files and Debian's kernel."""

import contextlib
import lzma
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.integration.cgroups.booted import ROOT, SCRIPT, needed
from tests.outside import outside

KERNEL = ROOT / ".cache" / "kernel-2"
VIRTIOFSD = Path("/usr/libexec/virtiofsd")
_TIMEOUT_S = 2400.0
_MODULES = ("overlay", "brd")  # brd: a disk in memory

_INIT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
exec < /dev/null > /dev/ttyS0 2>&1
export EXTRA={extra}
exec bash -c {script} bash /mnt v2 '' {folders}
"""

_EXTRA = """
touch dev/ttyS0
mount --bind /dev/ttyS0 dev/ttyS0
echo Wants=tests.service >> etc/systemd/system/box.target
cat > etc/systemd/system/tests.service <<unit
[Unit]
DefaultDependencies=no
After=dbus.service
[Service]
Type=exec
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
ExecStart=/bin/bash {tests}
unit
"""

_TESTS = """
export HOME=/tmp PYTHONDONTWRITEBYTECODE=1
python3 -c 'import ctypes, os, sys
finit_module = 313
for path in sys.argv[1:]:
    ctypes.CDLL(None).syscall(finit_module, os.open(path, os.O_RDONLY), b"", 0)' {folder}/*.ko
cd {root}
echo BEGIN
{python} -m pytest -q --color=no -p no:cacheprovider -o timeout=1200 {arguments}
echo END $?
echo o > /proc/sysrq-trigger
"""


def run_pytest(*arguments: str) -> tuple[int, str]:
    """Run pytest in the machine, as root; its exit code, and what it wrote."""
    kernel()
    compiling = [sys.executable, "-m", "compileall", "-q", str(ROOT / "src"), str(ROOT / "tests")]
    subprocess.run(compiling, check=True)  # which takes the machine minutes, each time
    with tempfile.TemporaryDirectory(dir=KERNEL.parent) as name, contextlib.ExitStack() as undo:
        folder = Path(name)  # below ROOT, which the machine sees as it is
        _write(folder, arguments)
        undo.enter_context(_files(folder / "socket"))
        _run(folder)
        said = (folder / "serial").read_text(errors="replace").replace("\r", "")
    assert "\nEND " in said, said
    output, _, rest = said.partition("BEGIN\n")[2].rpartition("\nEND ")
    return int(rest.split()[0]), output


def kernel() -> Path:
    """Return Debian's kernel for virtual machines, unpacked beside its modules."""
    if not KERNEL.exists():
        building = KERNEL.with_suffix(".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        apt = _backports(building / "apt")
        subprocess.run(outside(["apt-get", *apt, "update"]), check=True, capture_output=True)
        (image,) = _depends(apt, "linux-image-cloud-amd64", "linux-image-")
        parts = _depends(apt, image, "linux-binary-", "linux-modules-")
        download = ["apt-get", *apt, "download", image, *parts]
        subprocess.run(outside(download), cwd=building, check=True, capture_output=True)
        for archive in building.glob("*.deb"):
            subprocess.run(["dpkg", "-x", archive, building], check=True)
            archive.unlink()
        building.rename(KERNEL)
    return next(KERNEL.rglob("vmlinuz*"))


def _backports(folder: Path) -> list[str]:
    """Return options with which apt has backports alone, and the system's own lists stay.

    A release's kernel gets too old for recipes.
    """
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    sources = folder / "sources.list"
    sources.write_text(f"deb http://deb.debian.org/debian {release}-backports main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return [f"--option={name}={value}" for name, value in options.items()]


def _depends(apt: Sequence[str], package: str, *prefixes: str) -> list[str]:
    command = ["apt-cache", *apt, "depends", "--important", package]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [word for word in told.split()[1:] if word.startswith(prefixes)]


def _write(folder: Path, arguments: tuple[str, ...]) -> None:
    """Write what the machine starts with; it sees this host's files, and cannot change them."""
    folders = shlex.join(needed())
    extra = shlex.quote(_EXTRA.format(tests=folder / "tests"))
    init = _INIT.format(extra=extra, script=shlex.quote(SCRIPT), folders=folders)
    (folder / "init").write_text(init)
    (folder / "init").chmod(0o755)
    (folder / "tests").write_text(
        _TESTS.format(
            folder=folder,
            root=shlex.quote(str(ROOT)),
            python=shlex.quote(sys.executable),
            arguments=shlex.join(arguments),
        )
    )
    for name in _MODULES:
        packed = next(KERNEL.rglob(f"{name}.ko.xz"))
        (folder / f"{name}.ko").write_bytes(lzma.decompress(packed.read_bytes()))


@contextlib.contextmanager
def _files(socket: Path) -> Iterator[None]:
    """Serve this host's files at *socket*."""
    command = [str(VIRTIOFSD), "--shared-dir", "/", "--socket-path", str(socket)]
    serving = subprocess.Popen(
        [*command, "--readonly", "--sandbox", "none"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < deadline, "virtiofsd does not serve"
            time.sleep(0.02)
        yield
    finally:
        serving.kill()
        serving.wait()


def _run(folder: Path) -> None:
    command = f"""
        qemu-system-x86_64 -machine q35,memory-backend=mem -m 3G -smp {os.cpu_count() or 1}
        -object memory-backend-memfd,id=mem,size=3G,share=on
        -accel tcg,thread=multi -cpu max -display none -monitor none -no-reboot
        -chardev socket,id=files,path={folder}/socket
        -device vhost-user-fs-pci,chardev=files,tag=root
        -serial file:{folder}/serial -kernel {kernel()}
    """
    parameters = (
        f"root=root rootfstype=virtiofs ro init={folder}/init console=ttyS0 panic=-1 loglevel=1"
        " psi=1 mitigations=off"
    )
    subprocess.run(
        [*command.split(), "-append", parameters],
        stdin=subprocess.DEVNULL, check=True, timeout=_TIMEOUT_S,
    )  # fmt: skip
