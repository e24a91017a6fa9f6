"""Hooks: programs that a bundle wants to be run while its container comes and goes.

    kind             by          in namespaces of  when
    prestart         the parent  the runtime       all is mounted, the root not yet entered
    createRuntime    the parent  the runtime       just after
    createContainer  the child   the container     just after
    startContainer   the child   the container     before the program, as its user
    poststart        the caller  the runtime       the program runs
    poststop         the caller  the runtime       the container is deleted

A hook gets the container's state on stdin and its own arguments and environment,
nothing of ours; it works in the bundle. A startContainer hook works in the process's directory,
and has the process's environment if it has none of its own. What a hook writes is kept for the
error. runtime-spec config.md, "POSIX-platform Hooks".
"""

import os
import select
import signal
import socket
import time

from orlop.errors import InvalidArgumentError, OrlopError
from orlop.kernel.process import close_on_exec_from, pidfd_open
from orlop.model.light import Mapping, NoReturn, Sequence
from orlop.model.light_context import suppress
from orlop.model.oci import Config, Hook
from orlop.runtime import failure
from orlop.runtime.bundle import Bundle
from orlop.runtime.failure import StepError
from orlop.runtime.state import encode, state

#: What runs before the program does.
BEFORE = ("prestart", "createRuntime", "createContainer", "startContainer")
KINDS = (*BEFORE, "poststart", "poststop")
_BY_PARENT = ("prestart", "createRuntime")
_MOST_OUTPUT = 16 << 10
_LONGEST_POLL_MS = (1 << 31) - 1  # poll(2)


class Hooks:
    """What parent and child share while a container with hooks is made.

    The child says that it is before the root, and goes on when the parent's hooks
    have ended well. Where there are none of the parent's, nothing is said.
    """

    def __init__(self, bundle: Bundle, wanted: Mapping[str, Sequence[Hook]]) -> None:
        self._bundle = bundle
        self._wanted = {**wanted}
        self._near: socket.socket | None = None
        self._far: socket.socket | None = None
        if any(kind in self._wanted for kind in _BY_PARENT):
            self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def run_for_runtime(self, what: str, pid: int) -> None:
        """Run the parent's hooks when child *pid* waits for them; OrlopError for one that fails.

        A child that has failed before that tells by its report.
        """
        if self._near is None or self._far is None:
            return
        self._far.close()
        with self._near as near:
            if not near.recv(1):
                return
            self.run_by_parent(what, pid)
            near.send(b"g")

    def run_by_parent(self, what: str, pid: int) -> None:
        """Run the parent's hooks for process *pid*; OrlopError for one that fails."""
        try:
            for kind in _BY_PARENT:
                self._run(kind, "creating", pid, self._bundle.path)
        except (StepError, OSError) as error:
            raise failure.decode(what, failure.encode("run_hooks", error)) from error

    def await_runtime(self) -> None:
        """Let the parent run its hooks."""
        if self._near is None or self._far is None:
            return
        self._near.close()
        with self._far as far:
            far.send(b"h")
            if not far.recv(1):
                raise StepError("a hook of the runtime's failed")

    def run_before_root(self) -> None:
        """Run what belongs into the container's namespaces and still sees the host's files.

        Not in the root, as runc: a program of the host's could load what is the image's there.
        CVE-2025-23266.
        """
        self._run("createContainer", "creating", os.getpid(), self._bundle.path)

    def run_before_program(self, environment: Mapping[str, str]) -> None:
        """Run what the container has itself, as the one who will be its program.

        A hook without an environment gets the program's.
        """
        env = [f"{name}={value}" for name, value in environment.items()]
        hooks: list[Hook] = [
            {"env": env, **hook} for hook in self._wanted.get("startContainer", ())
        ]
        self._wanted["startContainer"] = hooks
        self._run("startContainer", "created", os.getpid(), "")

    def close(self) -> None:
        """Close what is still open on the parent's side."""
        for end in (self._near, self._far):
            if end is not None:
                end.close()

    def _run(self, kind: str, status: str, pid: int, folder: str) -> None:
        if hooks := self._wanted.get(kind):
            told = _state(self._bundle.config, self._bundle.id, status, pid, self._bundle.path)
            run(kind, hooks, told, folder=folder)


def plan_hooks(config: Config) -> dict[str, Sequence[Hook]]:
    """Return the hooks by kind, checked; InvalidArgumentError names the field that is wrong."""
    wanted: dict[str, Sequence[Hook]] = {}
    given: dict[str, list[Hook]] = {**config.get("hooks", {})}  # type: ignore[dict-item] # TypedDict
    for kind in KINDS:
        if kind in given:
            wanted[kind] = given[kind]
        for index, hook in enumerate(wanted.get(kind, ())):
            where = f"hooks.{kind}[{index}]"
            if not hook.get("path", "").startswith("/"):
                raise InvalidArgumentError(f"{where}.path is not an absolute path")
            if hook.get("timeout", 1) <= 0:
                raise InvalidArgumentError(f"{where}.timeout is not greater than zero")
    return wanted


def run_poststart(config: Config, *, container: str, pid: int, bundle: str) -> None:
    """Run the hooks for a program that has started; OrlopError for the first that fails.

    The specification wants the container to be ended then.
    """
    if hooks := plan_hooks(config).get("poststart"):
        told = _state(config, container, "running", pid, bundle)
        try:
            run("poststart", hooks, told, folder=bundle)
        except (StepError, OSError) as error:
            raise OrlopError(f"container {container}: {error}") from error


def run_poststop(config: Config, *, container: str, bundle: str) -> list[str]:
    """Run the hooks for a container that is gone, all of them; returns what failed, as warnings."""
    failed = []
    told = _state(config, container, "stopped", 0, bundle)
    for index, hook in enumerate(plan_hooks(config).get("poststop", ())):
        try:
            run("poststop", (hook,), told, folder=bundle, first=index)
        except (StepError, OSError) as error:
            failed.append(f"container {container}: {error}")
    return failed


def run(kind: str, hooks: Sequence[Hook], told: bytes, *, folder: str = "", first: int = 0) -> None:
    """Run *hooks* one after the other, in *folder* if it is named; StepError for one that fails."""
    for index, hook in enumerate(hooks, first):
        name = f"{kind} hook {index} ({hook['path']})"
        ended, said = _run_one(hook, told, folder)
        if ended:
            said = f": {said}" if said else ""
            raise StepError(f"{name}: {ended}{said}")


def _state(config: Config, container: str, status: str, pid: int, bundle: str) -> bytes:
    return encode(state(config, container=container, status=status, pid=pid, bundle=bundle))


def _run_one(hook: Hook, told: bytes, folder: str) -> tuple[str, str]:
    """Run one hook; how it failed or "", and what it said."""
    stdin = os.memfd_create("state")
    os.write(stdin, told)
    os.lseek(stdin, 0, os.SEEK_SET)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _become(hook, stdin, writer, folder)
    os.close(stdin)
    os.close(writer)
    with suppress(OSError):  # it does so itself; whoever comes first
        os.setpgid(pid, pid)
    try:
        ended, said = _wait(pid, reader, hook.get("timeout"))
    finally:
        os.close(reader)
    return ended, said.decode(errors="replace").strip()


def _become(hook: Hook, stdin: int, output: int, folder: str) -> NoReturn:
    try:
        os.setpgid(0, 0)
        for number, fd in enumerate((stdin, output, output)):
            os.dup2(fd, number)
        close_on_exec_from(3)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(0o022)
        if folder:
            os.chdir(folder)
        env = dict(text.partition("=")[::2] for text in hook.get("env", ()) if "=" in text)
        os.execve(hook["path"], hook.get("args") or [hook["path"]], env)
    except BaseException as error:
        text = error.strerror if isinstance(error, OSError) else None
        os.write(2, (text or str(error)).encode(errors="replace"))
    finally:
        os._exit(127)


def _wait(pid: int, output: int, timeout_s: int | None) -> tuple[str, bytes]:
    """Wait for the hook, but not for what it may have left running with our pipe."""
    said, in_time = b"", False
    try:
        said, in_time = _listen(pid, output, timeout_s)
    finally:
        if not in_time:
            os.killpg(pid, signal.SIGKILL)  # its group, and all that it started there
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not in_time:
        return f"it ran longer than its timeout of {timeout_s} s", said
    if code < 0:
        return f"signal {-code}", said
    return f"exit status {code}" if code else "", said


def _listen(pid: int, output: int, timeout_s: int | None) -> tuple[bytes, bool]:
    """Return what the hook wrote until it ended, and whether it did so in time."""
    said = b""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pidfd = pidfd_open(pid)
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    try:
        while True:
            left_ms = None
            if deadline is not None:
                left_ms = max(0, min(_LONGEST_POLL_MS, 1000 * (deadline - time.monotonic())))
            ready = [fd for fd, _ in poller.poll(left_ms)]
            if output in ready:
                part = os.read(output, 4096)
                said = (said + part)[-_MOST_OUTPUT:]
                if not part:
                    poller.unregister(output)
            elif ready or left_ms == 0:
                return said, bool(ready)
    finally:
        os.close(pidfd)
