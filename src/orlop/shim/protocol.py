"""What the engine, the shim and the stdio process say to each other.

Unix SEQPACKET sockets at a path, mode 0600: one JSON object per datagram, file
descriptors passed along. The caller numbers its requests ("seq"); the answer
carries the same number and either "ok" or "error". What has no number is an
event, sent to every connection that has said "subscribe".

    engine                       shim                        stdio process
      | start {id, bundle, …}     |                             |
      |-------------------------->| pipes, or a terminal        |
      |                           | add {key, log} + fds        |
      |                           |---------------------------->|
      |                           | clone3 …                    |
      |       ok {pid, time_ns}   |                             |
      |<--------------------------|                             |
      | attach {key, …} + the client's own socket               |
      |-------------------------------------------------------->|  copies until the end
      |                           | the process ends            |
      |                           | ended {key}                 |
      |                           |---------------------------->|  drains, writes the log
      |                           | drained {key}               |
      |                           |<----------------------------|
      |       exit {id, …}        |                             |
      |<--------------------------|                             |
      | forget {id}               |                             |
      |-------------------------->|                             |

A process is named by its key: the container's id, or "id/exec_id". An exit is
also a file, `exits/<id>` or `exits/<id>.<exec_id>`, written before the process
is reaped and removed by "forget": that survives the shim.
"""

from typing import NotRequired, TypedDict


class Log(TypedDict):
    """A json-file log. Sizes in bytes; the newest file has no suffix, older ones .1, .2, …"""

    path: str
    max_size: int
    max_files: int


class IO(TypedDict):
    """How a process's standard streams are held."""

    terminal: bool
    stdin: bool  # keep stdin open for attached clients; else it is /dev/null
    stdin_once: bool  # close stdin when the first client that had it goes
    log: NotRequired[Log | None]


class Start(TypedDict):
    """op "start": run the bundle's process. Answer: Started."""

    id: str
    bundle: str  # directory with config.json
    rootfs: list[tuple[str, str, str, list[str]]]  # model.mount.Mount, in order
    io: IO


class Execute(TypedDict):
    """op "exec": run another process in a running container. Answer: Started."""

    id: str
    exec_id: str
    process: dict[str, object]  # model.oci.Process
    io: IO


class Started(TypedDict):
    pid: int
    time_ns: int


class Signal(TypedDict):
    """op "signal": to one process (by pidfd), never by a recycled pid."""

    id: str
    exec_id: NotRequired[str]
    signal: int


class Resize(TypedDict):
    """op "resize": the terminal's new size."""

    id: str
    exec_id: NotRequired[str]
    height: int
    width: int


class Forget(TypedDict):
    """op "forget": the exit status is stored; drop every trace of the process."""

    id: str
    exec_id: NotRequired[str]


class Exit(TypedDict):
    """event "exit", the content of an exit file, and an item of "list"'s answer."""

    id: str
    exec_id: NotRequired[str]
    pid: int
    status: int  # exit code, or 128 + signal
    signal: int  # 0 unless ended by one
    time_ns: int
    oom: bool


class Attach(TypedDict):
    """op "attach" to the stdio process, with the client's socket as descriptor.

    The stdio process owns the socket from then on and closes it at the end. A
    key that is not known yet waits for its "add" (attach comes before start);
    "detach" drops such waiting clients.
    """

    key: str
    stdin: bool
    stdout: bool
    stderr: bool
    multiplex: bool  # Docker's 8-byte frame headers; False for terminals
    detach_keys: str  # "ctrl-p,ctrl-q"; "" for none
    pending: str  # base64 of bytes the client sent before the hand-over


class Failure(TypedDict):
    """Value of "error". kind: an errors.py class name without "Error", in snake case, or
    "command_not_found" (127), "command_not_executable" (126)."""

    kind: str
    message: str
    hint: str | None
