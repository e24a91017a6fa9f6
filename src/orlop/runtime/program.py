"""Steps: the last ones, from the working directory to the program."""

import _signal  # type: ignore[import-not-found]  # has no stub; the enums of signal cost 1 ms
import errno
import os
import stat

from orlop.kernel.capabilities import capget, capset
from orlop.kernel.paths import (
    FileSystem,
    file_system_type,
    make_directories,
    open_in_root,
    open_on_mount,
    open_plain,
)
from orlop.kernel.patience import await_any
from orlop.kernel.process import close_all_but, close_on_exec_from, set_parent_death_signal
from orlop.model import jsontext
from orlop.model.light import NoReturn, Sequence
from orlop.runtime.bundle import AT_GATE, OUTLIVES
from orlop.runtime.child import Child
from orlop.runtime.failure import Kind, StepError
from orlop.runtime.plan import variable

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
#: Python ignores these signals, and exec keeps ignored signals ignored.
IGNORED = tuple(
    number
    for number in sorted(_signal.valid_signals())
    if _signal.getsignal(number) == _signal.SIG_IGN
)
#: Signals that end a container waiting at its gate: a pid namespace's first process ignores them.
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
_MOST_INTERPRETERS = 5  # as in the kernel
_MOST_DESCRIPTORS = (1 << 31) - 1
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def make_working_directory(child: Child) -> None:
    """Make the working directory if it is missing; entering it reports other errors."""
    path = child.process.cwd
    try:
        fd = open_in_root(child.root, path, _DIRECTORY)
    except FileNotFoundError:
        fd = make_directories(child.root, path)
    except OSError:
        return
    os.close(fd)


def enter_working_directory(child: Child) -> None:
    """Change to the working directory, which must be inside the root."""
    path = child.process.cwd
    try:
        fd = open_in_root(child.root, path, _DIRECTORY)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    os.fchdir(fd)
    os.close(fd)
    check_working_directory(child)


def check_working_directory(child: Child) -> None:
    """Check that the kernel has a path for our directory: there is none outside the root."""
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise StepError(f"working directory {child.process.cwd!r} is outside the container")


def find_program(child: Child) -> None:
    """Find the program, as the user and with the process's PATH, before seccomp may forbid it.

    The process must be allowed to run it with the capabilities that it will have.
    """
    _, permitted, inheritable = capget()
    capset(child.process.capabilities.effective & permitted, permitted, inheritable)
    name = child.process.args[0]
    if "/" in name:
        _check_program(name)
        child.program = name
    else:
        child.program = _search(name, places_of(name, child.process.env))
    refuse_ourselves(child)


def refuse_ourselves(child: Child) -> None:
    """Refuse a program, or a script's interpreter, that is reached through a magic link of /proc.

    /proc/self/exe would be our own interpreter: a file of the host, inside the container.
    """
    path = child.program
    for _ in range(_MOST_INTERPRETERS):
        try:
            os.close(open_in_root(child.root, os.path.join(os.getcwd(), path)))
            path = _interpreter(path)
        except PermissionError:
            return  # the kernel decides
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise no_program(path, errno.EACCES) from None
            return
        if not path:
            return


def _interpreter(path: str) -> str:
    """Return a script's interpreter, or "" for a program. execve(2), "Interpreter scripts"."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.read(fd, 256)
    finally:
        os.close(fd)
    words = head[2:].split(b"\n", 1)[0].split() if head.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def places_of(name: str, env: Sequence[str]) -> list[str]:
    """Return the paths where the program *name* may be, in order, by the PATH of *env*."""
    if "/" in name:
        return [name]
    return [os.path.join(folder or ".", name) for folder in variable(env, "PATH").split(":")]


def _search(name: str, places: Sequence[str]) -> str:
    for path in places:
        if _may_run(path) and stat.S_ISREG(os.stat(path).st_mode):
            return path
    raise not_in_path(name)


def not_in_path(name: str) -> StepError:
    """Return the error for a program that is in no folder of its PATH."""
    text = f'exec: "{name}": executable file not found in $PATH'
    return StepError(text, kind=Kind.NOT_FOUND, number=errno.ENOENT)


def label_process(child: Child) -> None:
    """Request the security labels that exec will set."""
    if label := child.process.apparmor:
        _write_attribute(child, f"exec {label}", "attr/apparmor/exec", "attr/exec")
    if label := child.process.selinux:
        _write_attribute(child, label, "attr/exec")


def close_others(child: Child) -> None:
    """Close descriptors that the remaining steps do not need: they may lead to the host."""
    needed = child.last_descriptors() if child.exposed else child.descriptors()
    close_all_but((*needed, child.cgroup), first=3 + child.preserve_fds)


def seal_descriptors(child: Child) -> None:
    """Let the program inherit only 0, 1, 2 and the descriptors that the caller preserves."""
    close_on_exec_from(3 + child.preserve_fds)


def wait_at_gate(child: Child) -> None:
    """Wait until the caller has recorded us, and until the program may run."""
    gate = child.gate
    assert gate
    os.close(gate.consenting)
    os.write(child.report, AT_GATE)
    if not os.read(gate.consent, 1):
        raise StepError("the start was called off", number=errno.ECANCELED)
    set_parent_death_signal(0)
    if gate.fifo < 0:
        return
    child.report = gate.outcome
    # The caller may end now, and others may wait for our copies of its descriptors to close.
    needed = sorted(fd for fd in (gate.fifo, gate.outcome, child.proc, child.root) if fd >= 0)
    first = 3 + child.preserve_fds
    for fd in needed:
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, _MOST_DESCRIPTORS)
    for number in _ENDING:
        _signal.signal(number, _end)
    os.read(gate.fifo, 1)


def _end(number: int, _: object) -> NoReturn:
    os._exit(128 + number)


def release_signals(child: Child) -> None:
    """Reset signals to their defaults, and let the program outlive the parent.

    Wait until another process knows the program and can report its end.
    """
    for number in IGNORED:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    if child.witness < 0:
        set_parent_death_signal(0)
        return
    _await_witness(child)
    set_parent_death_signal(0)
    os.eventfd_write(child.witness, OUTLIVES)


def _await_witness(child: Child) -> None:
    """Wait for the parent to say that we are recorded; fail if the parent dies."""
    while True:
        try:
            os.eventfd_read(child.witness)
        except BlockingIOError:
            if child.witness not in await_any(child.witness, child.parent):
                raise StepError("the parent has gone", number=errno.ECANCELED) from None
        else:
            return


def environment(child: Child) -> dict[str, str]:
    """Return the program's environment variables."""
    env = dict(text.partition("=")[::2] for text in child.process.env if "=" in text)
    env["HOME"] = env.get("HOME") or child.home  # Podman passes an empty one
    return env


def run_program(child: Child) -> NoReturn:
    """Execute the program. execve(2)."""
    try:
        os.execve(child.program, child.process.args, environment(child))
    except OSError as error:
        raise no_program(child.program, error.errno or 0, is_there=True) from None


def _check_program(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        raise no_program(path, error.errno or 0) from None
    if stat.S_ISDIR(status.st_mode):
        raise no_program(path, errno.EISDIR)
    if not _may_run(path):
        raise no_program(path, errno.EACCES)


def _may_run(path: str) -> bool:
    return os.access(path, os.X_OK, effective_ids=True)


def no_program(path: str, number: int, *, is_there: bool = False) -> StepError:
    """Return the error for a program that cannot be run, or whose interpreter is missing."""
    kind = Kind.NOT_FOUND if number in _ABSENT else Kind.NOT_EXECUTABLE
    said = f"stat {path}: " if number in _ABSENT and not is_there else ""
    reason = os.strerror(number)
    text = f"exec: {jsontext.dumps(path)}: {said}{reason[:1].lower()}{reason[1:]}"
    return StepError(text, kind=kind, number=number)


def _write_attribute(child: Child, value: str, *paths: str) -> None:
    if child.proc < 0:
        child.proc = open_plain(child.root, "/proc", os.O_PATH | os.O_DIRECTORY)
    if file_system_type(child.proc) != FileSystem.PROC:
        raise StepError("/proc in the container is not the kernel's")
    last: OSError | None = None
    for path in paths:
        try:
            fd = open_on_mount(child.proc, f"{os.getpid()}/{path}", os.O_WRONLY)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise StepError("/proc in the container is not the kernel's") from None
            if error.errno != errno.ENOENT:
                raise
            last = error
            continue
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
        return
    raise StepError(f"this host has no such security labels: {value!r}") from last
