"""Steps written down: those of every process, and what a failure to run its program means.

Slots: stdin, stdout, stderr; pipe-N, the same where they may be given to the user, else -1;
folder, the working directory; arguments and environment; program-N, the places where the
program may be. Of one that outlives the shim: report, which says that it is born; witness, an
eventfd (runtime/bundle.py); keyring, the name of its session keyring; null, the path of what
is its input where nobody has another for it, else nothing.
"""

import errno
import os
import struct
from collections.abc import Sequence

from orlop.kernel import numbers
from orlop.kernel.capabilities import NAMES
from orlop.kernel.namespaces import Namespace
from orlop.kernel.procedure import Slot
from orlop.kernel.process import EVERY_PROCESSOR
from orlop.runtime.bundle import OUTLIVES
from orlop.runtime.failure import StepError
from orlop.runtime.program import IGNORED, no_program, not_in_path
from orlop.runtime.recipe.writer import Writer

#: Folders of a PATH that are looked in.
MOST_PROGRAMS = 16
#: The step whose failure is the command's own, and not ours.
RUN_PROGRAM = "run_program"

_SIGKILL, _SIGCHLD = 9, 17
_SIG_IGN = 1
_SIG_SETMASK = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 47, 2, 4
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_SET_MODE_FILTER = 1
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_DESCRIPTORS = 0xFFFFFFFF
_NO_SUCH_CALL = 0xFFFF  # fails, and so ends the procedure
_AT_EMPTY_PATH = 0x1000
_KEPT_FD = 3  # the idle program, or the witness
_OUTLIVES = struct.pack("=Q", OUTLIVES)
_OF_CONTAINER = Namespace.MOUNT | Namespace.UTS | Namespace.IPC | Namespace.NET | Namespace.CGROUP


def shield(writer: Writer) -> None:
    """Have the kernel end the process with the shim, its parent. It cannot be dumped already."""
    writer.call(numbers.PRCTL, _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    writer.call(numbers.UMASK, 0)
    if writer.is_durable:
        writer.call(numbers.WRITE, Slot("report"), b"b", 1)


def enter_cgroup(writer: Writer) -> None:
    """Move into the cgroup, and onto all its processors, whichever the shim may use."""
    for number in range(writer.doors):
        writer.call(numbers.WRITE, Slot(f"door-{number}"), b"0", 1)
    mask = EVERY_PROCESSOR
    writer.call(numbers.SCHED_SETAFFINITY, 0, len(mask), mask, may_fail=True)


def join_container(writer: Writer) -> None:
    """Join a running container; the slot "target" is a pidfd of its first process."""
    writer.call(numbers.SETNS, Slot("target"), int(_OF_CONTAINER))


def set_oom_score(writer: Writer) -> None:
    """Say how soon the kernel may kill it. Lowering takes a capability that we may lack."""
    score = writer.process.plan.oom_score_adj
    if score is None:
        return
    file = writer.open("/proc/self/oom_score_adj", os.O_WRONLY, links=True)
    text = str(score).encode()
    writer.call(numbers.WRITE, file, text, len(text), may_fail=True)


def join_keyring(writer: Writer) -> None:
    """Take a new session keyring, which has a name only where that is the container's own.

    The kernel searches all that have the same name.
    """
    name = Slot("keyring") if writer.is_durable else 0
    writer.call(numbers.KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, name, may_fail=True)


def enter_working_directory(writer: Writer) -> None:
    """Change to the working directory; it cannot be outside the root."""
    folder = writer.open(Slot("folder"), os.O_PATH | os.O_DIRECTORY, links=True)
    writer.call(numbers.FCHDIR, folder)


def attach_stdio(writer: Writer) -> None:
    """Lead a session, with the streams as 0, 1 and 2."""
    writer.call(numbers.SETSID)
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        writer.call(numbers.DUP3, Slot(stream), number, 0)
    if writer.is_durable:  # the host's null device is nothing for a container
        writer.call(numbers.DUP3, writer.find(Slot("null"), os.O_RDWR | os.O_NOCTTY), 0, 0)
    if writer.idle or writer.is_durable:
        kept = Slot("idle" if writer.idle else "witness")
        writer.call(numbers.DUP3, kept, _KEPT_FD, os.O_CLOEXEC)


def own_stdio(writer: Writer) -> None:
    """Give the streams to the user, where they may be given."""
    uid = writer.process.who.uid
    for number in range(3) if uid else ():
        writer.call(numbers.FCHOWN, Slot(f"pipe-{number}"), uid, -1, may_fail=True)


def become_user(writer: Writer) -> None:
    """Change groups and user, keeping the permitted capabilities, and drop the bounding set."""
    who = writer.process.who
    for bit in range(len(NAMES)):
        if writer.process.dropped >> bit & 1:
            writer.call(numbers.PRCTL, _PR_CAPBSET_DROP, bit, 0, 0, 0)
    if who.uid:
        writer.call(numbers.PRCTL, _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    groups = struct.pack(f"={len(who.groups)}I", *who.groups)
    writer.call(numbers.SETGROUPS, len(who.groups), groups)
    writer.call(numbers.SETRESGID, who.gid, who.gid, who.gid)
    writer.call(numbers.SETRESUID, who.uid, who.uid, who.uid)
    if who.uid:
        writer.call(numbers.PRCTL, _PR_SET_KEEPCAPS, 0, 0, 0, 0)
    writer.call(numbers.UMASK, writer.process.plan.umask)


def raise_capabilities(writer: Writer) -> None:
    """Make effective again what a change of user has taken out."""
    if writer.process.who.uid:
        _capset(writer, writer.process.permitted, writer.process.permitted, 0)


def seal_descriptors(writer: Writer) -> None:
    """Let nothing but 0, 1 and 2 pass into the program."""
    first = _KEPT_FD + (writer.idle or writer.is_durable)
    writer.call(numbers.CLOSE_RANGE, first, _MOST_DESCRIPTORS, 0)


def release_signals(writer: Writer) -> None:
    """Give the program signals as a fresh process has them.

    It ends with the shim, or runs once the shim has noted it. The kernel reaps the children of
    one that does nothing.
    """
    if writer.idle:
        ignored = struct.pack("=QQQQ", _SIG_IGN, 0, 0, 0)
        writer.call(numbers.RT_SIGACTION, _SIGCHLD, ignored, 0, 8)
    for number in IGNORED:
        writer.call(numbers.RT_SIGACTION, number, bytes(32), 0, 8)
    writer.call(numbers.RT_SIGPROCMASK, _SIG_SETMASK, bytes(8), 0, 8)
    if writer.is_durable:
        _await_witness(writer)
    else:  # again, because a change of user has undone it
        writer.call(numbers.PRCTL, _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def _await_witness(writer: Writer) -> None:
    """Wait until another process can report the end of this one, and then outlive the shim.

    Until then it ends with the shim, also after a change of user, which undoes that.
    """
    count = writer.procedure.keep(bytes(len(_OUTLIVES)))
    writer.call(numbers.PRCTL, _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    writer.call(numbers.READ, _KEPT_FD, count, len(_OUTLIVES))
    writer.call(numbers.PRCTL, _PR_SET_PDEATHSIG, 0, 0, 0, 0)
    writer.call(numbers.WRITE, _KEPT_FD, _OUTLIVES, len(_OUTLIVES))


def set_rlimits(writer: Writer) -> None:
    """Set the limits, which are none that we may not give."""
    for limit in writer.process.plan.rlimits:
        pair = struct.pack("=qq", limit.soft, limit.hard)
        writer.call(numbers.PRLIMIT64, 0, limit.number, pair, 0)


def load_filter(writer: Writer) -> None:
    """Install the seccomp filter; it may forbid any call made above."""
    filter_ = writer.process.filter
    if filter_ is None:
        return
    place = writer.procedure.keep(filter_.program)
    argument = struct.pack("=H6xQ", len(filter_.program) // 8, place)
    writer.call(numbers.SECCOMP, _SECCOMP_SET_MODE_FILTER, int(filter_.flags), argument)


def set_capabilities(writer: Writer) -> None:
    """Set the capabilities that the program gets."""
    given = writer.process.plan.capabilities
    _capset(writer, given.effective, given.permitted, given.inheritable)
    if given.ambient:
        writer.call(numbers.PRCTL, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    for bit in range(len(NAMES)):
        if given.ambient >> bit & 1:
            writer.call(numbers.PRCTL, _PR_CAP_AMBIENT, _AMBIENT_RAISE, bit, 0, 0)


def forgo_privileges(writer: Writer) -> None:
    """Gain nothing by exec."""
    writer.call(numbers.PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def run_program(writer: Writer) -> None:
    """Become the program: the first of those in the slots that can be run. execve(2)

    Where there is none, what says that it runs is undone: the count is no longer OUTLIVES.
    """
    writer.first_place = writer.procedure.calls
    arguments, environment = Slot("arguments"), Slot("environment")
    if writer.idle:
        writer.call(numbers.EXECVEAT, _KEPT_FD, b"", arguments, environment, _AT_EMPTY_PATH)
    for number in range(0 if writer.idle else MOST_PROGRAMS):
        program = Slot(f"program-{number}")
        writer.find(program)
        writer.call(numbers.EXECVE, program, arguments, environment, may_fail=True)
    if writer.is_durable:
        writer.call(numbers.WRITE, _KEPT_FD, _OUTLIVES, len(_OUTLIVES), may_fail=True)
    writer.call(_NO_SUCH_CALL)


def _capset(writer: Writer, effective: int, permitted: int, inheritable: int) -> None:
    sets = (effective, permitted, inheritable)
    halves = [bits >> shift & 0xFFFFFFFF for shift in (0, 32) for bits in sets]
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    writer.call(numbers.CAPSET, header, struct.pack("=6I", *halves))


def may_look(writer: Writer) -> bool:
    """Whether programs could be looked for at all: no path gives what a filter says."""
    return writer.procedure.result(writer.first_place) not in (-errno.EPERM, -errno.ENOSYS)


def explain(writer: Writer, tried: Sequence[str]) -> StepError:
    """Say why none of the programs *tried* has run."""
    result, first = writer.procedure.result, writer.first_place
    number, is_there = errno.ENOENT, False
    for place, path in enumerate(tried):
        found, ran = (-result(first + 2 * place + which) for which in (0, 1))
        is_there = found <= 0
        number = ran if is_there else found
        if number not in (errno.ENOENT, errno.ENOTDIR):
            return no_program(path, errno.EACCES if number == errno.ELOOP else number)
    if len(tried) > 1:
        return not_in_path(os.path.basename(tried[0]))
    return no_program(tried[0], number, is_there=is_there)
