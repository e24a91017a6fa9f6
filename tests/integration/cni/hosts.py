"""A host of the test's own: a thread in a network and a mount namespace that nobody else has.

Programs started by the thread are there too. Containers are bare network namespaces.
All is gone with the thread and the descriptors: what is left would be a leak of plugins.
"""

import ctypes
import json
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from orlop.kernel.namespaces import Namespace as Kind
from orlop.kernel.namespaces import setns, unshare

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
#: Where plugins, and what they call, keep things; each host has its own.
PLACES = ("/var/lib", "/run")


class Namespace:
    """A network namespace, named by a path that is good in every mount namespace."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.path = f"/proc/{os.getpid()}/fd/{fd}"

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command in it, and return what it prints."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", *words], capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout + done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words) or "[]")

    def links(self) -> set[str]:
        return {link["ifname"] for link in self.json("ip", "-j", "link")} - {"lo"}

    def addresses(self, interface: str) -> set[str]:
        (link,) = self.json("ip", "-j", "address", "show", "dev", interface)
        found = [one for one in link["addr_info"] if one["scope"] != "link"]
        return {f"{one['local']}/{one['prefixlen']}" for one in found}

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket that lives in it."""
        made: list[socket.socket] = []

        def make() -> None:
            setns(self.fd, Kind.NET)
            made.append(socket.socket(family, kind))

        thread = threading.Thread(target=make)  # it ends in the other namespace: nobody's loss
        thread.start()
        thread.join()
        made[0].settimeout(10)
        return made[0]

    def close(self) -> None:
        os.close(self.fd)


class Host(Namespace):
    """The thread's namespace, and the thread."""

    def __init__(self) -> None:
        self._work: queue.Queue[tuple[Future[Any], Callable[[], Any]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        super().__init__(self(_own_host))

    def __call__(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call *function* in the thread."""
        done: Future[T] = Future()
        self._work.put((done, lambda: function(*args, **named)))
        return done.result(120)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            done, function = work
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

    def container(self) -> Namespace:
        return Namespace(self(_new_namespace))

    def close(self) -> None:
        self._work.put(None)
        self._thread.join()
        super().close()


def _own_host() -> int:
    unshare(Kind.NET | Kind.MOUNT)
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    for place in PLACES:
        _mount("tmpfs", place, "tmpfs", 0)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _new_namespace() -> int:
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        unshare(Kind.NET)
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        setns(back, Kind.NET)
    finally:
        os.close(back)
    return fd


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), f"mount {target}")


@contextmanager
def host() -> Iterator[Host]:
    it = Host()
    try:
        yield it
    finally:
        it.close()


def exchange(server: Namespace, client: Namespace, address: str, port: int, at: int = 0) -> str:
    """Send a line over TCP to *server*'s *port*, asked for at *address*, *at*; who came is told."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with server.socket(family) as listener, client.socket(family) as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen()
        caller.settimeout(3)
        caller.connect((address, at or port))
        accepted, peer = listener.accept()
        with accepted:
            accepted.sendall(b"hello\n")
            assert caller.recv(100) == b"hello\n"
        return str(peer[0])
