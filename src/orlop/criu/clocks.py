"""The clocks of a restored process. time_namespaces(7)."""

import os


def has_own_clocks(pid: int) -> bool:
    """Whether process *pid* is in another time namespace than we: CRIU creates one."""
    return os.stat(f"/proc/{pid}/ns/time").st_ino != os.stat("/proc/self/ns/time").st_ino
