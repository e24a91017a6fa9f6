"""What a setup may not leave behind: it would be shared by all runs, or lost in them."""

from __future__ import annotations

import os


def complaint(ours: set[int]) -> str:
    """Return what is wrong with our process now, "" if nothing is; *ours* may be open."""
    return _threads() or _children() or _descriptors(ours) or _shared_memory()


def _threads() -> str:
    count = len(os.listdir("/proc/self/task"))
    if count == 1:
        return ""
    return (
        f"the setup has started threads ({count - 1} run): a fork would not have them;"
        " limit them to one, as OMP_NUM_THREADS=1 does for many libraries"
    )


def _children() -> str:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return ""
    return "the setup has left a process running, which runs could not see"


def _descriptors(ours: set[int]) -> str:
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one of the listing
            continue
        if number > 2 and number not in ours:
            return f"the setup has left {target} open (descriptor {number}): close it"
    return ""


def _shared_memory() -> str:
    """Look for memory that a write by one run would change for all."""
    named = ""
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            word, _, rest = line.partition(" ")
            if "-" in word and not word.endswith(":"):
                named = rest.strip().split(" ", 4)[-1].strip()
            elif word == "VmFlags:" and {"sh", "mw"} <= set(rest.split()):
                return f"the setup has mapped memory that runs would share: {named}"
    return ""
