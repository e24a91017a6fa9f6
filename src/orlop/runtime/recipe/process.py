"""Written down: from inside the container to its program, and what a failure there means.

Slots: stdin, stdout, stderr; pipe-N, the same where they may be given to the user, else -1;
folder, the working directory; arguments and environment; program-N, the places where the
program may be. The order is that of runtime/init.py.
"""

import errno
import os
import struct
from collections.abc import Sequence

from orlop.kernel import numbers
from orlop.kernel.capabilities import NAMES
from orlop.kernel.namespaces import Namespace
from orlop.kernel.procedure import Failure, Procedure, Slot
from orlop.kernel.process import EVERY_PROCESSOR
from orlop.model import jsontext
from orlop.runtime.failure import Kind, StepError
from orlop.runtime.plan import ProcessPlan
from orlop.runtime.recipe.plan import ProcessRecipe
from orlop.runtime.recipe.writer import Writer

#: Folders of a PATH that are looked in.
MOST_PROGRAMS = 16
#: The step whose failure is the command's own, and not ours.
RUN_PROGRAM = "run_program"

_SIGKILL, _SIGCHLD = 9, 17
_SIG_IGN = 1
_IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE, SIGXFSZ; what is ignored stays so over exec
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
_IDLE_FD = 3
_OF_CONTAINER = Namespace.MOUNT | Namespace.UTS | Namespace.IPC | Namespace.NET | Namespace.CGROUP


def die_with_shim(writer: Writer) -> None:
    """Have the kernel kill the process when the shim, its parent, ends."""
    writer.call(numbers.PRCTL, _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def enter_cgroup(writer: Writer, doors: int) -> None:
    """Move into the cgroup, and onto all its processors, whichever the shim may use."""
    writer.step("enter_cgroup")
    die_with_shim(writer)
    for number in range(doors):
        writer.call(numbers.WRITE, Slot(f"door-{number}"), b"0", 1)
    mask = EVERY_PROCESSOR
    writer.call(numbers.SCHED_SETAFFINITY, 0, len(mask), mask, may_fail=True)


def write_exec(recipe: ProcessRecipe, *, doors: int, timed: bool = False) -> Writer:
    """Return the procedure of a later process; the slot "target" is a pidfd of the first."""
    writer = Writer(timed=timed)
    enter_cgroup(writer, doors)
    writer.step("join_container")
    writer.call(numbers.SETNS, Slot("target"), int(_OF_CONTAINER))
    writer.call(numbers.UMASK, 0)
    set_oom_score(writer, recipe.plan)
    write_process(writer, recipe)
    return writer


def set_oom_score(writer: Writer, plan: ProcessPlan) -> None:
    """Say how soon the kernel may kill it. Lowering takes a capability that we may lack."""
    writer.step("set_oom_score")
    file = writer.open("/proc/self/oom_score_adj", os.O_WRONLY, links=True)
    text = str(plan.oom_score_adj or 0).encode()
    writer.call(numbers.WRITE, file, text, len(text), may_fail=True)


def write_process(writer: Writer, recipe: ProcessRecipe, *, idle: bool = False) -> None:
    """Go on from the container's root, as root, to the program.

    With *idle* that is the file in the slot "idle", and the kernel reaps its children.
    """
    plan, who = recipe.plan, recipe.who
    # Without a name: the kernel would look through all that have the same.
    writer.call(numbers.KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, 0, may_fail=True)
    writer.step("enter_working_directory")
    folder = writer.open(Slot("folder"), os.O_PATH | os.O_DIRECTORY, links=True)
    writer.call(numbers.FCHDIR, folder)
    writer.step("attach_stdio")
    writer.call(numbers.SETSID)
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        writer.call(numbers.DUP3, Slot(stream), number, 0)
    for number in range(3) if who.uid else ():
        writer.call(numbers.FCHOWN, Slot(f"pipe-{number}"), who.uid, -1, may_fail=True)
    if idle:
        writer.call(numbers.DUP3, Slot("idle"), _IDLE_FD, os.O_CLOEXEC)
    _become_user(writer, recipe)
    writer.step("seal_descriptors")
    first = _IDLE_FD + 1 if idle else _IDLE_FD
    writer.call(numbers.CLOSE_RANGE, first, _MOST_DESCRIPTORS, 0)
    writer.step("set_rlimits")
    for limit in plan.rlimits:
        pair = struct.pack("=qq", limit.soft, limit.hard)
        writer.call(numbers.PRLIMIT64, 0, limit.number, pair, 0)
    _release_signals(writer, idle=idle)
    writer.step("load_filter")
    if plan.no_new_privileges:  # after all but exec
        _set_capabilities(writer, plan)
        writer.call(numbers.PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        die_with_shim(writer)
        _load_filter(writer, recipe)
    else:
        die_with_shim(writer)  # which a change of user has undone
        _load_filter(writer, recipe)
        _set_capabilities(writer, plan)
    _run_program(writer, idle=idle)


def _release_signals(writer: Writer, *, idle: bool) -> None:
    writer.step("release_signals")
    if idle:
        ignored = struct.pack("=QQQQ", _SIG_IGN, 0, 0, 0)
        writer.call(numbers.RT_SIGACTION, _SIGCHLD, ignored, 0, 8)
    for number in _IGNORED_BY_PYTHON:
        writer.call(numbers.RT_SIGACTION, number, bytes(32), 0, 8)
    writer.call(numbers.RT_SIGPROCMASK, _SIG_SETMASK, bytes(8), 0, 8)


def _become_user(writer: Writer, recipe: ProcessRecipe) -> None:
    """Change groups and user, and keep the capabilities meanwhile."""
    writer.step("become_user")
    who = recipe.who
    for bit in range(len(NAMES)):
        if recipe.dropped >> bit & 1:
            writer.call(numbers.PRCTL, _PR_CAPBSET_DROP, bit, 0, 0, 0)
    if who.uid:
        writer.call(numbers.PRCTL, _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    groups = struct.pack(f"={len(who.groups)}I", *who.groups)
    writer.call(numbers.SETGROUPS, len(who.groups), groups)
    writer.call(numbers.SETRESGID, who.gid, who.gid, who.gid)
    writer.call(numbers.SETRESUID, who.uid, who.uid, who.uid)
    if who.uid:
        writer.call(numbers.PRCTL, _PR_SET_KEEPCAPS, 0, 0, 0, 0)
        _capset(writer, recipe.permitted, recipe.permitted, 0)
    writer.call(numbers.UMASK, recipe.plan.umask)


def _set_capabilities(writer: Writer, plan: ProcessPlan) -> None:
    wanted = plan.capabilities
    _capset(writer, wanted.effective, wanted.permitted, wanted.inheritable)
    if wanted.ambient:
        writer.call(numbers.PRCTL, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    for bit in range(len(NAMES)):
        if wanted.ambient >> bit & 1:
            writer.call(numbers.PRCTL, _PR_CAP_AMBIENT, _AMBIENT_RAISE, bit, 0, 0)


def _capset(writer: Writer, effective: int, permitted: int, inheritable: int) -> None:
    sets = (effective, permitted, inheritable)
    halves = [bits >> shift & 0xFFFFFFFF for shift in (0, 32) for bits in sets]
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    writer.call(numbers.CAPSET, header, struct.pack("=6I", *halves))


def _load_filter(writer: Writer, recipe: ProcessRecipe) -> None:
    if recipe.filter is None:
        return
    program = recipe.filter.program
    place = writer.procedure.keep(program)
    filter_ = struct.pack("=H6xQ", len(program) // 8, place)
    flags = int(recipe.filter.flags)
    writer.call(numbers.SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, filter_)


def _run_program(writer: Writer, *, idle: bool) -> None:
    writer.step(RUN_PROGRAM)
    arguments, environment = Slot("arguments"), Slot("environment")
    if idle:
        writer.call(numbers.EXECVEAT, _IDLE_FD, b"", arguments, environment, _AT_EMPTY_PATH)
    for number in range(0 if idle else MOST_PROGRAMS):
        program = Slot(f"program-{number}")
        writer.find(program)
        writer.call(numbers.EXECVE, program, arguments, environment, may_fail=True)
    writer.call(_NO_SUCH_CALL)


def programs(name: str, environment: Sequence[str]) -> list[str]:
    """Return where the program *name* may be, in order, by the PATH of *environment*."""
    if "/" in name:
        return [name]
    path = next((text[5:] for text in reversed(environment) if text.startswith("PATH=")), "")
    return [os.path.join(folder or ".", name) for folder in path.split(":")]


def may_look(procedure: Procedure, failure: Failure) -> bool:
    """Whether programs could be looked for at all: no path gives what a filter says."""
    first = procedure.result(failure.call - 2 * MOST_PROGRAMS)
    return first not in (-errno.EPERM, -errno.ENOSYS)


def explain(procedure: Procedure, failure: Failure, tried: Sequence[str]) -> StepError:
    """Say why none of the programs *tried* has run, in the words of runtime/program.py."""
    first = failure.call - 2 * MOST_PROGRAMS
    number, path = errno.ENOENT, tried[0]
    for place, candidate in enumerate(tried):
        found = -procedure.result(first + 2 * place)
        ran = -procedure.result(first + 2 * place + 1) if found <= 0 else 0
        problem = found if found > 0 else ran
        if problem not in (0, errno.ENOENT, errno.ENOTDIR):
            number, path = problem, candidate
            break
    if number == errno.ELOOP:
        number = errno.EACCES
    if number == errno.ENOENT and len(tried) > 1:
        name = os.path.basename(path)
        text = f'exec: "{name}": executable file not found in $PATH'
        return StepError(text, kind=Kind.NOT_FOUND, number=number)
    kind = Kind.NOT_FOUND if number == errno.ENOENT else Kind.NOT_EXECUTABLE
    reason = os.strerror(number)
    said = f"stat {path}: " if number == errno.ENOENT else ""
    text = f"exec: {jsontext.dumps(path)}: {said}{reason[:1].lower()}{reason[1:]}"
    return StepError(text, kind=kind, number=number)
