"""Forked ahead: processes that turn into the child of a start, with their pages already their own.

A child of ours shares our pages, and each that either of us writes to is copied: that
is a third of a start. A reserve was forked while nobody waited, has copied the pages that
a child will write to and made a network namespace, and makes the child with them:

    parent            reserve                                   child
      | refill(): fork  | copies pages
      |<--- it is ready | waits
      | clone(): plan and descriptors
      |---------------->| clone3, same memory: stops in it ------>|
      |<------------------------------------------ it is there -- | goes on in init.py
      | SIGKILL ------->|                                         |

Nobody waits long for the child's word: a frozen cgroup or the container that it is made in
can keep it from speaking. The kernel writes its pid where the parent sees it (_made).

The child is the parent's, by CLONE_PARENT. It runs on the stack that the reserve stands
on, so that must never run again: it is traced, and the kernel holds it where it is
(CLONE_VFORK, PTRACE_O_TRACEVFORKDONE) should the child end before it is killed.
"""

from __future__ import annotations

import _pickle  # pickle without pickle.py, which takes long to import
import ctypes
import fcntl
import gc
import os
import socket
import struct

from orlop.kernel.capabilities import BIT, capget, supported
from orlop.kernel.idmap import is_of_host
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.memory import Pages, Range, own_pages, shared_number
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.kernel.process import (
    Cloned,
    clone3,
    clone_over,
    pidfd_open,
    pidfd_send_signal,
    set_dumpable,
    set_name,
    set_parent_death_signal,
)
from orlop.kernel.ptrace import hold_after_vfork
from orlop.model.light import Iterable, Iterator, NamedTuple, NoReturn, Sequence
from orlop.model.light_context import suppress
from orlop.model.pool import ObjectPool
from orlop.runtime import init
from orlop.runtime.child import Child, Step

_SIGKILL = 9
_MOST_BYTES = 128 << 10  # a datagram that fits any socket's buffer
_MOST_FDS = 250  # SCM_MAX_FD is 253. unix(7)
_READY = b"r"
_ANSWER = struct.Struct("=i")  # errno
_PAUSE = struct.pack("@ll", 0, 10_000)  # a timeval: seconds, microseconds
_MOST_PAUSES = 10
_SYS_NICE = 1 << BIT["CAP_SYS_NICE"]
_RANGE = struct.Struct("=QQ")  # start, end
_MOST_RANGES = _MOST_BYTES // _RANGE.size


class Order(NamedTuple):
    """What a reserve does; descriptors are those of who gives the order."""

    flags: int  # clone3's
    cgroup_fd: int
    joined: Sequence[tuple[Namespace, int]]  # before it clones
    child: Child
    study: bool = False  # tell the pages that it has written to


class Reserve(NamedTuple):
    """One that waits."""

    pid: int
    pidfd: int
    orders: socket.socket  # its end of file ends the process


class Reserves:
    """Up to *size* processes.

    Which pages a child writes to, and which we write to before it, is found out the first
    time, of containers and of execs each: only those are worth copying ahead.
    """

    def __init__(self, *, size: int = 1) -> None:
        self.pool = ObjectPool(end=self._end_unused, size=size, ahead=size)
        self.pool.want(make=self._make)
        self._leaving: list[Reserve] = []
        self._studied: list[socket.socket] = []  # where children tell what they wrote to
        self._known: set[bool] = set()  # of containers, of execs
        self._theirs: set[Range] = set()
        self._ours: set[Range] = set()
        self._network = False  # whether the last child was to have a network namespace
        self._last = b""  # the order of it
        self._made = shared_number()  # the pid of the child that is being made

    @property
    def pids(self) -> set[int]:
        """Children of ours that nobody else waits for."""
        return {reserve.pid for reserve in (*self.pool, *self._leaving)}

    def clone(self, order: Order) -> Cloned | None:
        """Make the child as clone3 would, and OSError as there; None if no reserve is ready."""
        is_container = order.child.container is not None
        order = order._replace(study=is_container not in self._known)
        self._network = bool(order.flags & Namespace.NET)
        numbers = sorted(set(_descriptors(order)))
        data = _pickle.dumps((numbers, order), 5)
        if len(data) > _MOST_BYTES or len(numbers) > _MOST_FDS:
            return None
        reserve = self.pool.take()
        if reserve is None:
            return None
        if not _is_ready(reserve) and not _is_soon_ready(reserve):
            self.pool.put(reserve)
            return None
        self._last = data
        self._made.value = 0
        answer = _ask(reserve, data, numbers, self._made)
        if order.study and answer:
            with suppress(OSError):
                self._ours.update(Pages().written())  # while it is there to share the others
            self._known.add(is_container)
            self._studied.append(reserve.orders)
        else:
            reserve.orders.close()
        self._end(reserve)
        if answer is None:
            self._reap(block=True)  # no child comes of it any more
        if pid := self._made.value:
            return Cloned(pid, _opened(pid))
        if not answer:  # it was killed
            return self.clone(order)
        (number,) = _ANSWER.unpack(answer)
        raise OSError(number, os.strerror(number))

    def refill(self) -> bool:
        """Make one and reap those that were used; return whether more is to do.

        A refusal is not told: a start without a reserve is only slower. Where the
        kernel does not let us hold one, there will be none.
        """
        self._study()
        self.reap()
        is_made = self.pool.refill()
        if is_made:
            own_pages(self._ours)
        return is_made

    def _make(self) -> Reserve:
        try:
            return _make(self._theirs, self._last, self._made, network=self._network)
        except PermissionError:
            self.pool.ahead = 0
            raise

    def reap(self) -> None:
        """Reap those that were used, and any that was killed, or stopped by a signal, before."""
        for reserve in self.pool.withdraw(_is_unfit):
            self._end_unused(reserve)
        self._reap()

    def close(self) -> None:
        """End those that wait."""
        while self._studied:
            self._studied.pop().close()
        self.pool.empty()
        self._reap(block=True)

    def _study(self) -> None:
        """Take in what the first children tell, or nothing from one that ends before."""
        for account in list(self._studied):
            try:
                told = account.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                told = b""
            self._theirs.update(_RANGE.iter_unpack(told))
            self._studied.remove(account)
            account.close()

    def _end_unused(self, reserve: Reserve) -> None:
        reserve.orders.close()
        self._end(reserve)

    def _end(self, reserve: Reserve) -> None:
        self._leaving.append(reserve)
        with suppress(ProcessLookupError):
            pidfd_send_signal(reserve.pidfd, _SIGKILL)

    def _reap(self, *, block: bool = False) -> None:
        for reserve in list(self._leaving):
            if _reaped(reserve, block=block):
                os.close(reserve.pidfd)
                self._leaving.remove(reserve)


def _is_ready(reserve: Reserve) -> bool:
    """Whether it has prepared itself, or is dead; told once."""
    try:
        reserve.orders.recv(len(_READY), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _is_soon_ready(reserve: Reserve) -> bool:
    """Wait for it to prepare itself, no longer in idle time: less than a start without it takes."""
    with suppress(OSError):
        os.sched_setscheduler(reserve.pid, os.SCHED_OTHER, os.sched_param(0))
    with suppress(BlockingIOError):
        return bool(reserve.orders.recv(len(_READY)))
    return False


def _is_unfit(reserve: Reserve) -> bool:
    """Whether it has ended or stopped: a tracer is told of both."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PIDFD, reserve.pidfd, options) is not None


def _ask(reserve: Reserve, data: bytes, fds: Sequence[int], made: ctypes.c_int) -> bytes | None:
    """Give the order; the answer is empty from one that is dead, None if there is none in time."""
    try:
        socket.send_fds(reserve.orders, [data], fds)
        for _ in range(_MOST_PAUSES):
            with suppress(BlockingIOError):
                return reserve.orders.recv(_ANSWER.size)
            if made.value:
                break
    except OSError:
        return b""
    return None


def _opened(pid: int) -> int:
    """Open our child *pid*; if we cannot, there is none."""
    try:
        return pidfd_open(pid)
    except OSError:
        os.kill(pid, _SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise


def _reaped(reserve: Reserve, *, block: bool) -> bool:
    options = os.WEXITED | (0 if block else os.WNOHANG)
    try:
        return os.waitid(os.P_PIDFD, reserve.pidfd, options) is not None
    except ChildProcessError:
        return True


def _make(pages: Iterable[Range], sample: bytes, made: ctypes.c_int, *, network: bool) -> Reserve:
    supported()  # by the host's /proc, never by that of a container
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PAUSE)
    with theirs:
        try:
            set_dumpable(dumpable=False)  # it is born with it
            cloned = clone3(0)
        except BaseException:
            ours.close()
            raise
        if not cloned.pid:
            _serve(theirs.fileno(), pages, sample, made, network=network)
    reserve = Reserve(cloned.pid, cloned.pidfd, ours)
    try:
        hold_after_vfork(cloned.pid)
    except OSError:  # the kernel is not to let us
        ours.close()
        pidfd_send_signal(cloned.pidfd, _SIGKILL)
        _reaped(reserve, block=True)
        os.close(cloned.pidfd)
        raise
    return reserve


def _serve(
    orders: int, pages: Iterable[Range], sample: bytes, made: ctypes.c_int, *, network: bool
) -> NoReturn:
    """Be a reserve: prepare, wait for the order, carry it out."""
    try:
        gc.disable()
        set_parent_death_signal(_SIGKILL)
        set_name("orlop-reserve")
        os.closerange(3, orders)
        os.closerange(orders + 1, 1 << 20)
        _prepare(pages, sample)
        hosts = [_leave_network()] if network else []
        channel = socket.socket(fileno=orders)
        channel.send(_READY)
        data, fds, _, _ = socket.recv_fds(channel, _MOST_BYTES, _MOST_FDS)
        channel.detach()
        if data:
            numbers, order = _pickle.loads(data)
            answer, *hosts = _place([*fds, orders, *hosts], numbers)
            _obey(order, made, answer, *hosts)
    finally:
        os._exit(1)


def _prepare(pages: Iterable[Range], sample: bytes) -> None:
    """Get our memory while the processor has nothing else to do, if we may leave that class again.

    For that the kernel wants CAP_SYS_NICE of the host's. sched(7), "SCHED_IDLE"
    """
    may_return = is_of_host() and capget()[0] & _SYS_NICE
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    if may_return:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    own_pages(pages)
    if sample:
        _pickle.loads(sample)  # so that the memory for it is there
    if may_return:
        os.sched_setscheduler(0, policy, parameter)


def _leave_network() -> int:
    """Get a network namespace with its loopback up; return the one that was ours."""
    host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(Namespace.NET)
    raise_loopback()
    return host


def _place(fds: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """Give *fds* the *numbers* that they had; return those without one, under others."""
    above = max((*fds, *numbers)) + 1
    moved = []
    for fd in fds:
        moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above))
        os.close(fd)
    for fd, number in zip(moved, numbers, strict=False):
        os.dup2(fd, number, inheritable=False)
        os.close(fd)
    return moved[len(numbers) :]


def _obey(order: Order, made: ctypes.c_int, answer: int, host: int = -1) -> None:
    """Make the child; *host* is the network of which we are not."""
    flags, child = order.flags, order.child
    first = init.first_steps(child)
    steps = init.last_steps(child)
    if order.study:
        with suppress(OSError):
            steps = _with_account(steps, answer)
    try:
        if host >= 0 and flags & Namespace.NET:
            flags &= ~int(Namespace.NET)  # ours is for it
        elif host >= 0:
            setns(host, Namespace.NET)
        if host >= 0:
            os.close(host)
        for kind, fd in order.joined:
            setns(fd, kind)
        for step in first:
            step(child)
        clone_over(flags, made, cgroup_fd=order.cgroup_fd)
    except OSError as error:
        os.write(answer, _ANSWER.pack(error.errno or 0))
        return
    # Only the child comes here. The reserve will never run again.
    with suppress(OSError):  # the parent has waited long enough
        os.write(answer, _ANSWER.pack(0))
    if not order.study:
        os.close(answer)
    init.run(child, steps)


def _with_account(steps: Sequence[Step], answer: int) -> Sequence[Step]:
    """Add a step that tells the pages written to, before the filter, which may forbid it."""
    pages = Pages()

    def tell_pages(_: Child) -> None:
        ranges = pages.written()[:_MOST_RANGES]
        with suppress(OSError):
            os.write(answer, b"".join(_RANGE.pack(*bounds) for bounds in ranges))

    place = steps.index(init.load_filter)
    return (*steps[:place], tell_pages, *steps[place:])


def _descriptors(order: Order) -> Iterator[int]:
    """All that the order names; those of shared layers are in the options of the root."""
    child = order.child
    yield from (fd for _, fd in order.joined)
    if order.cgroup_fd >= 0:
        yield order.cgroup_fd
    yield from child.descriptors()
    for mount in child.container.root if child.container else ():
        for option in mount.options:
            _, found, number = option.partition("=/proc/self/fd/")
            if found:
                yield int(number.partition("/")[0])
