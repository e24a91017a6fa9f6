"""The template's process: does its imports and setup once, and forks on request."""

from __future__ import annotations

import array
import base64
import gc
import grp
import importlib
import json
import os
import pwd
import socket
import sys
import traceback
import types
from contextlib import suppress
from typing import Any

from orlop.zygote import calls, checks
from orlop.zygote.guard import Place, guard
from orlop.zygote.root import Plan, prepare

_MOST_MESSAGE = 4096
_MOST_FDS = 64
_MOST_COMPLAINT = 8 << 10


def serve(control: socket.socket, options: dict[str, Any]) -> None:
    """Warm up with the engine's *options*, then fork for as long as the engine is there."""
    try:
        calls.set_dumpable(False)
        place = _warm(control, options)
    except BaseException as error:
        why = str(error) if isinstance(error, _RefusedError) else _told(error)
        control.send(json.dumps({"error": why[-_MOST_COMPLAINT:]}).encode())
        os._exit(1)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    control.send(json.dumps({"uid": place.uid, "gid": place.gid}).encode())
    while True:
        message, fds = _receive(control)
        if not message:
            os._exit(0)  # the engine is gone
        if message["op"] == "reap":
            _reap(message["pid"])
        elif message["op"] == "answer":
            control.send(b'{"here": true}')
        else:
            _fork(control, own, fds, place)


class _RefusedError(Exception):
    """The state that the setup has left cannot be forked."""


def _warm(control: socket.socket, options: dict[str, Any]) -> Place:
    user = _user(options["user"])
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["-c"]
    for name in options["imports"]:
        importlib.import_module(name)
        top = name.partition(".")[0]
        main.__dict__[top] = sys.modules[top]
    exec(compile(options["setup"], "<setup>", "exec"), main.__dict__)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    gc_enabled = gc.isenabled()
    gc.disable()  # otherwise forks would copy the pages that it writes to
    gc.collect()
    why = checks.complaint({control.fileno()})
    if why:
        raise _RefusedError(why)
    gc.freeze()
    prepare(options["socket"], options["writable"])
    return Place(
        plan=Plan(read_only=options["read_only"], hidden=options["hidden"]),
        workdir=options["workdir"] or "/",
        own_network=options["own_network"],
        filter=base64.b64decode(options["filter"]),
        gc_enabled=gc_enabled,
        **user,
    )


def _told(error: BaseException) -> str:
    """Return its traceback, from the setup's own frames on."""
    trace = error.__traceback__
    while trace and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).strip()


def _is_ours(name: str) -> bool:
    begin, end = ("<orlop", "<string>", "<frozen importlib"), "importlib/__init__.py"
    return name.startswith(begin) or name.endswith(end)


def _user(text: str) -> dict[str, Any]:
    """Return the ids of "name", "uid", "name:group", "uid:gid" by the files of the image."""
    name, _, group = text.partition(":")
    known = None
    try:
        known = pwd.getpwuid(int(name or 0)) if (name or "0").isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if not name.isdecimal():
            raise _RefusedError(f"the image has no user {name!r}") from None
    uid = known.pw_uid if known else int(name)
    gid = known.pw_gid if known else 0
    groups = os.getgrouplist(known.pw_name, gid) if known and not group else []
    if known and uid and os.environ.get("HOME") == "/root":  # the zygote's own
        os.environ["HOME"] = known.pw_dir
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise _RefusedError(f"the image has no group {group!r}") from None
    return {"uid": uid, "gid": gid, "groups": [other for other in groups if other != gid]}


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, given, *_ = control.recvmsg(_MOST_MESSAGE, socket.CMSG_SPACE(4 * _MOST_FDS))
    fds = array.array("i")
    for _, _, piece in given:
        fds.frombytes(piece)
    return (json.loads(data) if data else {}), list(fds)


def _fork(control: socket.socket, own: int, fds: list[int], place: Place) -> None:
    """Fork a guard into a new pid namespace; close its socket and its doors here."""
    try:
        calls.unshare(calls.NEWPID)
        pid = os.fork()
    except OSError as error:
        control.send(json.dumps({"error": f"the template cannot fork: {error}"}).encode())
        pid = -1
    if pid == 0:
        control.close()
        os.close(own)
        guard(socket.socket(fileno=fds[0]), fds[1:], place)
    calls.setns(own, calls.NEWPID)
    for fd in fds:
        os.close(fd)
    if pid > 0:
        pidfd = calls.pidfd_open(pid)
        socket_level, rights = socket.SOL_SOCKET, socket.SCM_RIGHTS
        handed = [(socket_level, rights, array.array("i", [pidfd]))]
        control.sendmsg([json.dumps({"pid": pid}).encode()], handed)
        os.close(pidfd)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
