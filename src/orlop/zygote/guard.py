"""The first process of a run's pid namespace: isolates the run, and waits for its end."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import struct
from typing import NamedTuple

from orlop.zygote import calls
from orlop.zygote.root import Plan
from orlop.zygote.run import wait_and_run

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_BLOCK = 512  # bytes, in what getrusage(2) counts


class Place(NamedTuple):
    """The environment of each run."""

    plan: Plan
    uid: int
    gid: int
    groups: list[int]
    workdir: str
    own_network: bool
    filter: bytes
    gc_enabled: bool


def guard(engine: socket.socket, doors: list[int], place: Place) -> None:
    """Run as the guard, in a new pid namespace; never returns."""
    try:
        for door in doors:
            os.write(door, b"0")
            os.close(door)
        _isolate(place)
        child = os.fork()
    except BaseException as error:
        engine.send(json.dumps({"error": f"a run cannot be prepared: {error}"}).encode())
        os._exit(1)
    if child == 0:
        wait_and_run(engine, place.gc_enabled, place.workdir)
    for stream in (0, 1, 2):
        os.close(stream)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # the kernel ignores them for a first process
    engine.send(b'{"ready": true}')
    status = _wait(child)
    _end_others()
    engine.send(json.dumps({"status": status, "usage": _usage()}).encode())
    os._exit(0)


def _isolate(place: Place) -> None:
    """Leave the template's namespaces, and drop all privileges."""
    flags = calls.NEWNS | calls.NEWIPC | calls.NEWUTS | calls.NEWCGROUP
    calls.unshare(flags | calls.NEWNET if place.own_network else flags)
    if place.own_network:
        _raise_loopback()
    calls.drop_bounding()  # needs the old /proc
    place.plan.build()
    os.setgroups(place.groups)
    os.setresgid(place.gid, place.gid, place.gid)
    os.setresuid(place.uid, place.uid, place.uid)
    calls.drop_capabilities()
    calls.set_dumpable(False)  # again, because changing our user has set it
    if place.filter:
        calls.load_filter(place.filter)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _usage() -> list[int]:
    """Return what all processes have used, in Orlop's form: microseconds and bytes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = [round(used.ru_utime * 1e6), round(used.ru_stime * 1e6)]
    return [*times, used.ru_maxrss << 10, used.ru_inblock * _BLOCK, used.ru_oublock * _BLOCK]


def _end_others() -> None:
    """Kill what the run has left; orphans become our children, until none is left."""
    try:
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                os.kill(-1, signal.SIGKILL)
                os.wait()
    except (ChildProcessError, ProcessLookupError):
        return


def _wait(child: int) -> int:
    """Reap children until *child* ends; return its status, or 128 plus the signal's number."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
