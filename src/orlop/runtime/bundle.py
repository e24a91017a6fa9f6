"""What the runtime takes, and what it gives back."""

from orlop.model.light import TYPE_CHECKING, NamedTuple, Sequence
from orlop.model.mount import Mount
from orlop.model.oci import Config

if TYPE_CHECKING:
    import _socket

    from orlop.model.timeline import Step
    from orlop.runtime.cgroups.interface import Cgroup


class Manner(NamedTuple):
    """What the caller wants done otherwise than usual; no part of the bundle."""

    no_pivot: bool = False  # move the root onto the host's, where pivot_root(2) cannot work
    no_new_keyring: bool = False  # keep the caller's session keyring
    systemd_cgroup: bool = False  # systemd makes the cgroup; cgroupsPath is "slice:prefix:name"
    no_cgroup: bool = False  # stay in the caller's, without limits
    timed: bool = False  # note when each step begins: noting.py
    witnessed: bool = False  # the program waits for what Starting.witness says


class Bundle(NamedTuple):
    """A container to be: a relative root.path is resolved against *path*.

    *mounts* are destinations and detached mounts, which stay the caller's: each takes the place
    of what config.json would mount there.
    """

    id: str
    path: str
    config: Config
    rootfs: tuple[Mount, ...] = ()  # empty: root.path is used as it is
    manner: Manner = Manner()
    mounts: tuple[tuple[str, int], ...] = ()


class Stdio(NamedTuple):
    """Descriptors for 0, 1 and 2; they stay the caller's."""

    stdin: int
    stdout: int
    stderr: int


class Gate(NamedTuple):
    """Where a process waits for a caller that notes it first, and may end before it runs.

    Descriptors; they stay the caller's. Once the steps that can fail are behind it,
    the process says AT_GATE on the report, and goes on when *consent* gives a byte:
    at its end of file, for then the caller is gone, never.
    """

    consent: int
    consenting: int  # the other end, which the child closes
    fifo: int = -1  # gives a byte when the program may run; -1 for at once
    outcome: int = -1  # in place of the report from there on


#: On the report: the process waits at its gate.
AT_GATE = b"at gate"


#: What the eventfd of a start counts to: somebody knows the process, who can tell of it though its
#: parent dies; and then: the process outlives its parent, and runs its program next.
WITNESSED, OUTLIVES = 1, 2


class Target(NamedTuple):
    """A running container, to run another process in."""

    id: str
    pid: int
    pidfd: int
    config: Config
    cgroup: "Cgroup | None"
    bundle: str = ""  # its path, for whoever is told of the container
    no_new_keyring: bool = False  # as its Manner says
    timed: bool = False  # note when each step of the other process begins: noting.py
    shares_pids: bool = False  # another container has joined its pid namespace


class Starting(NamedTuple):
    """A process that has been made, and whose steps run.

    *report* gives the child's failure as JSON, or only its end of file once the
    program runs. The descriptors are the caller's to close.
    """

    what: str  # begins its errors: "cannot start container …"
    pid: int
    pidfd: int
    report: int
    console: int | None  # the terminal's master
    cgroup: "Cgroup | None"
    owns_cgroup: bool  # made for this process: it goes if the start fails
    console_socket: "_socket.socket | None" = None  # gives that master, once the program runs
    steps: "Sequence[Step]" = ()  # what led to it, of a start that is timed
    witness: int = -1  # an eventfd; the program runs after the caller's WITNESSED
