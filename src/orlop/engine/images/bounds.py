"""The cgroup of an engine's workers: limits for all unpacking together."""

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from orlop.engine.spec import cgroups_path
from orlop.errors import OrlopError
from orlop.layers.budget import Budget
from orlop.model.oci import Resources
from orlop.runtime import cgroups

_SHARE = 2  # 1/2 of the machine's memory
_SLACK_BYTES = 512 << 20  # kernel memory for a process, besides its own memory
_MOST_PROCESSES = 512


class Bounds:
    """Made with the first worker. The cgroup of a killed engine is reused."""

    def __init__(self, run: Path, budget: Budget) -> None:
        name = hashlib.blake2b(os.fsencode(run), digest_size=6).hexdigest()
        self._path = cgroups_path("", f"workers-{name}")
        self._budget = budget
        self._lock = threading.Lock()
        self._cgroup: cgroups.Cgroup | None = None
        self.failed = False  # if true there are no limits

    def enter(self, pid: int) -> None:
        """Move the worker *pid* into it, if the host allows that. Blocking."""
        if self.failed:
            return
        try:
            with self._lock:
                if self._cgroup is None:
                    self._cgroup = self._made()
            self._cgroup.enter(pid)
        except ProcessLookupError:
            pass  # it has ended already, and the caller will notice
        except (OSError, OrlopError):
            self.failed = True

    def remove(self) -> None:
        """Kill its processes, and remove it, also if a killed engine made it. Blocking."""
        with contextlib.suppress(OSError, OrlopError):
            cgroup = self._cgroup or cgroups.open(self._path)
            self._cgroup = None
            with contextlib.suppress(OSError, OrlopError):
                cgroup.kill()
            cgroup.remove()

    def _made(self) -> cgroups.Cgroup:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = max(self._budget.memory_bytes + _SLACK_BYTES, machine // _SHARE)
        resources: Resources = {
            "memory": {"limit": limit},
            "pids": {"limit": _MOST_PROCESSES},
        }
        return cgroups.create_or_take(self._path, resources)
