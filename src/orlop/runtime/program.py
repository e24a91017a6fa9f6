"""Steps: the last ones, from the working directory to the program itself."""

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
from orlop.model.light import NoReturn
from orlop.runtime.bundle import AT_GATE, OUTLIVES
from orlop.runtime.child import Child
from orlop.runtime.failure import Kind, StepError

#: Python ignores these, and what is ignored stays so over exec.
_IGNORED = tuple(
    number
    for number in sorted(_signal.valid_signals())
    if _signal.getsignal(number) == _signal.SIG_IGN
)
#: What ends a container that waits for its start: the first of a pid namespace would not notice.
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
_MOST_INTERPRETERS = 5  # as the kernel
_MOST_DESCRIPTORS = (1 << 31) - 1
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def enter_working_directory(child: Child) -> None:
    """Change to the working directory; it cannot be outside the root.

    A container's is made if missing; for a process that comes later it has to be there.
    """
    path = child.process.cwd
    try:
        fd = open_in_root(child.root, path, _DIRECTORY)
    except FileNotFoundError:
        if child.container is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        fd = make_directories(child.root, path)
    os.fchdir(fd)
    os.close(fd)
    check_working_directory(child)


def check_working_directory(child: Child) -> None:
    """Look that the kernel has a path for where we are: there is none outside the root."""
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise StepError(f"working directory {child.process.cwd!r} is outside the container")


def find_program(child: Child) -> None:
    """Find the program, as the user and with the process's PATH, before seccomp may forbid to.

    It has to be one that the process may run with the capabilities that it will have.
    """
    _, permitted, inheritable = capget()
    capset(child.process.capabilities.effective & permitted, permitted, inheritable)
    name = child.process.args[0]
    if "/" in name:
        _check_program(name)
        child.program = name
    else:
        child.program = _search(child, name)
    refuse_ourselves(child)


def refuse_ourselves(child: Child) -> None:
    """Refuse a program, or a script's interpreter, that is reached over a magic link of /proc.

    /proc/self/exe would be our own interpreter: the host's, inside the container.
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
                raise _exec_error(path, errno.EACCES, Kind.NOT_EXECUTABLE) from None
            return
        if not path:
            return


def _interpreter(path: str) -> str:
    """Return what a script is for, or "" for a program. execve(2), "Interpreter scripts"."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.read(fd, 256)
    finally:
        os.close(fd)
    words = head[2:].split(b"\n", 1)[0].split() if head.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def _search(child: Child, name: str) -> str:
    for folder in child.process.variable("PATH").split(":"):
        path = os.path.join(folder or ".", name)
        if _may_run(path) and stat.S_ISREG(os.stat(path).st_mode):
            return path
    raise StepError(
        f'exec: "{name}": executable file not found in $PATH',
        kind=Kind.NOT_FOUND,
        number=errno.ENOENT,
    )


def label_process(child: Child) -> None:
    """Ask for the security labels that exec is to give."""
    if label := child.process.apparmor:
        _write_attribute(child, f"exec {label}", "attr/apparmor/exec", "attr/exec")
    if label := child.process.selinux:
        _write_attribute(child, label, "attr/exec")


def close_others(child: Child) -> None:
    """Close what the steps that remain do not need: it may lead to the host."""
    needed = child.last_descriptors() if child.exposed else child.descriptors()
    close_all_but((*needed, child.cgroup), first=3 + child.preserve_fds)


def seal_descriptors(child: Child) -> None:
    """Let nothing but 0, 1, 2 and what the caller wants preserved pass into the program."""
    close_on_exec_from(3 + child.preserve_fds)


def wait_at_gate(child: Child) -> None:
    """Wait until the caller has noted us, and until the program may run."""
    gate = child.gate
    if gate is None:
        return
    os.close(gate.consenting)
    os.write(child.report, AT_GATE)
    if not os.read(gate.consent, 1):
        raise StepError("the start was called off", number=errno.ECANCELED)
    set_parent_death_signal(0)
    if gate.fifo < 0:
        return
    child.report = gate.outcome
    # The caller may end now, and whoever waits for our copies of its descriptors to close with it.
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
    """Give the program signals as a fresh process has them, and let it outlive the parent.

    Not before somebody knows of it who can tell of its end.
    """
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    if child.witness < 0:
        set_parent_death_signal(0)
        return
    _await_witness(child)
    set_parent_death_signal(0)
    os.eventfd_write(child.witness, OUTLIVES)


def _await_witness(child: Child) -> None:
    """Wait for the parent to say that we are known, or end where it is dead."""
    while True:
        try:
            os.eventfd_read(child.witness)
        except BlockingIOError:
            if child.witness not in await_any(child.witness, child.parent):
                raise StepError("the parent has gone", number=errno.ECANCELED) from None
        else:
            return


def environment(child: Child) -> dict[str, str]:
    """Return the variables of the program."""
    env = dict(text.partition("=")[::2] for text in child.process.env if "=" in text)
    env["HOME"] = env.get("HOME") or child.home  # Podman writes an empty one
    return env


def run_program(child: Child) -> NoReturn:
    """Become the program. execve(2)."""
    try:
        os.execve(child.program, child.process.args, environment(child))
    except OSError as error:
        kind = Kind.NOT_FOUND if error.errno == errno.ENOENT else Kind.NOT_EXECUTABLE
        raise _exec_error(child.program, error.errno or 0, kind) from None


def _check_program(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            text = os.strerror(error.errno).lower()
            raise StepError(
                f"exec: {jsontext.dumps(path)}: stat {path}: {text}",
                kind=Kind.NOT_FOUND,
                number=error.errno,
            ) from None
        raise _exec_error(path, error.errno or 0, Kind.NOT_EXECUTABLE) from None
    if stat.S_ISDIR(status.st_mode):
        raise _exec_error(path, errno.EISDIR, Kind.NOT_EXECUTABLE)
    if not _may_run(path):
        raise _exec_error(path, errno.EACCES, Kind.NOT_EXECUTABLE)


def _may_run(path: str) -> bool:
    return os.access(path, os.X_OK, effective_ids=True)


def _exec_error(path: str, number: int, kind: Kind) -> StepError:
    text = os.strerror(number)
    text = text[:1].lower() + text[1:]
    return StepError(f"exec: {jsontext.dumps(path)}: {text}", kind=kind, number=number)


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
