"""What peers leave, in folders of a run and outside of them."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
#: Made by peers where they have not been before, and not removed again.
_CGROUP_NAMES = ("docker", "libpod_parent", "orlop-bench")
_RUN_FOLDERS = [Path("/run") / name for name in ("containerd", "containers", "docker", "runc")]
_ENDING_S = 3.0  # the last conmon is in its cgroup for a moment longer
_POLL_S = 0.1


@contextmanager
def swept() -> Iterator[None]:
    """At the end remove empty folders and cgroups of peers that were not there before."""
    before = set(_known())
    try:
        yield
    finally:
        deadline = time.monotonic() + _ENDING_S
        while (left := set(_known()) - before) and time.monotonic() < deadline:
            for path in left:
                _remove_empty(path)
            time.sleep(_POLL_S)


def _known() -> Iterator[Path]:
    roots = [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir())]
    places = [*_RUN_FOLDERS, *(root / name for root in roots for name in _CGROUP_NAMES)]
    return (path for path in places if path.is_dir())


def _remove_empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):  # somebody else is in it
            os.rmdir(folder)


def remove_folder(folder: Path) -> None:
    """Unmount what a peer has mounted below *folder*, then remove it."""
    for path in reversed(_mounts_below(folder)):
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for line in lines if (path := line.split()[4]).startswith(f"{folder}/")]
