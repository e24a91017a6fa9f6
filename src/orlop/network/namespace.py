"""Network namespaces that only descriptors keep alive, and how this thread enters them.

They have no name in the file system: with the last descriptor (or process) the kernel
removes the namespace, and the veths in it. So a killed engine leaves none.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from orlop.errors import UnsupportedError
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.kernel.netlink.connection import Netlink
from orlop.network.sysctl import Sysctl

_MOST_ERRANDS = 32  # each keeps a namespace alive
_OWN = "/proc/thread-self/ns/net"


class Home:
    """The network namespace of the thread that makes it: the host's, from where others are set up.

    Only for that thread, because the thread itself enters namespaces.
    """

    def __init__(self) -> None:
        self._own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.netlink = Netlink()
            self.sysctl = Sysctl()
        except BaseException:
            os.close(self._own)
            raise
        self._errands: deque[Callable[[], None]] | None = None

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.settle()
        self.netlink.close()
        self.sysctl.close()
        os.close(self._own)

    def fileno(self) -> int:
        """Return the descriptor of the namespace itself."""
        return self._own

    @contextmanager
    def inside(self, namespace: int) -> Iterator[None]:
        """Enter the network *namespace* (a descriptor) inside the block.

        Sockets made there, and /proc/sys/net opened there, are that namespace's. Everything
        else stays the host's.
        """
        setns(namespace, Namespace.NET)
        try:
            yield
        finally:
            self._return()

    def open_netlink(self, namespace: int) -> Netlink:
        """Return a socket to the *namespace*, which it keeps alive until it is closed."""
        with self.inside(namespace):
            return Netlink()

    def make(self) -> int:
        """Return the descriptor of a new network namespace, in which only lo is up."""
        try:
            unshare(Namespace.NET)
        except OSError as error:
            raise UnsupportedError(
                f"no network namespace can be made: {error.strerror}",
                hint="see /proc/sys/user/max_net_namespaces",
            ) from error
        try:
            made = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            try:
                raise_loopback()
            except BaseException:
                os.close(made)
                raise
        finally:
            self._return()
        return made

    def silence(self, interface: str) -> None:
        """Disable IPv6 on an interface here: no address, and no router advertisements."""
        with suppress(FileNotFoundError):
            self.sysctl.write(f"ipv6/conf/{interface}/disable_ipv6", "1")

    def postpone(self) -> None:
        """Make soon() wait until settle(), which the caller promises to call often."""
        self._errands = self._errands or deque()

    def soon(self, errand: Callable[[], None]) -> None:
        """Run a task that nobody waits for: at once, or, after postpone(), a little later."""
        if self._errands is None:
            errand()
            return
        self._errands.append(errand)
        if len(self._errands) > _MOST_ERRANDS:
            self._errands.popleft()()

    def settle(self) -> None:
        """Run the postponed tasks, and maintenance that keeps later work quick."""
        while self._errands:
            self._errands.popleft()()
        self.sysctl.renew()

    def _return(self) -> None:
        try:
            setns(self._own, Namespace.NET)
        except OSError as error:  # the thread is in the wrong namespace: it must do nothing more
            raise SystemError("the network thread cannot get back to its own namespace") from error


class Pool:
    """A few namespaces made ahead, so that a start does not wait for one (0.8 ms or more).

    Call refill() whenever there is nothing else to do.
    """

    def __init__(self, home: Home, size: int = 4) -> None:
        home.postpone()
        self._home = home
        self._size = size
        self._ready: deque[int] = deque()

    def take(self) -> int:
        """Return a namespace's descriptor; the caller closes it."""
        return self._ready.popleft() if self._ready else self._home.make()

    def refill(self) -> bool:
        """Run postponed tasks, and make one more if there is room; True if another one fits."""
        self._home.settle()
        if len(self._ready) < self._size:
            self._ready.append(self._home.make())
        return len(self._ready) < self._size

    def close(self) -> None:
        while self._ready:
            with suppress(OSError):
                os.close(self._ready.popleft())
