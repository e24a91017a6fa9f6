"""What the engine, the shim and the stdio process say to each other.

Unix SEQPACKET sockets at a path, mode 0600 and only for root and our own user:
one JSON object per datagram, file descriptors passed along, at most
channel.MAX_MESSAGE bytes. The caller numbers its requests: {"op", "seq", …}. The
answer carries the same number and either "ok" or "error" (errors.failure_of); one with
"more": true is a part, and others follow. What has no number is an event,
{"event", …}, sent to every connection that has said "subscribe". A peer that
leaves thousands of messages unread is disconnected; "list" tells it all again.

    engine                       shim                        stdio process
      | start {id, bundle, …}     |                             |
      |-------------------------->| pipes, or a terminal        |
      | attach {key, …} + the client's own socket               |
      |-------------------------------------------------------->|  waits for the key
      |                           | clone3                      |
      |                           | keep {key} + fds            |
      |                           |---------------------------->|  holds them, should we die
      |                           | execve, not before that     |
      |                           | add {key, io} + fds         |
      |                           |---------------------------->|  pumps to log and clients
      |       ok {pid, time_ns}   |                             |
      |<--------------------------|                             |
      |                           | the process ends:           |
      |                           | exits/<id> written, reaped  |
      |                           | ended {key, status}         |
      |                           |---------------------------->|  drains, writes the log
      |                           | drained {key}               |
      |                           |<----------------------------|
      |                           | cgroup removed              |
      |       exit {id, …}        |                             |
      |<--------------------------|                             |
      | forget {id}               |                             |
      |-------------------------->|                             |

A process is named by its key: the container's id, or "id/exec_id". A start that
fails never comes to "add", but to "drop": the caller then sends the stdio process "detach",
for clients that wait. On "exit" the log is complete and nothing of the process is left
but its exit file; attached clients may still be getting the last of their output.

An exit is also a file, `exits/<id>` or `exits/<id>.<exec_id>`, written before the
process is reaped and removed by "forget": that survives the shim.

What a kill -9 costs:

- engine: nothing. Connect again, "subscribe", then "list".
- stdio process: the shim puts another in its place and hands it copies of all
  descriptors. Attached clients are cut off. Lost is at most the block that was
  read and not yet logged; the log's unfinished line is kept in a file beside it.
- shim: containers and pumps run on. The next shim (launch.launch) adopts them;
  exits meanwhile are told by the kernel (Linux 6.15), else the status is 255.
  Of a command just started, and not yet pumped for, the first output may be lost.
- both at once: the pipes are opened again through /proc/PID/fd. A container that
  wrote in between got EPIPE; a terminal is hung up.

Requests to the shim: hello, start, dump, dump_end, restore, exec, signal, resize, close_stdin,
forget, list, counts, subscribe, shutdown {force}, renew (ending.py); for sandboxes by recipes
recipe, drop_recipe, spawn, spawn_exec, lend, kill_exec; for pods hold, take, let_go, held. To
the stdio process: hello, attach, detach, reopen_log {key}, subscribe; and from the shim only:
keep, drop, add, settled, ended, close_stdin, held, exit.
"""

from typing import Literal, NotRequired, TypedDict

from orlop.logdrivers.wire import Delivery
from orlop.model.pool import Stock


class Log(TypedDict):
    """A log, in files of the form json-file or CRI, and perhaps delivered to a log service, too.

    Sizes in bytes; the newest file has no suffix, older ones .1, .2, …
    """

    path: str
    max_size: int
    max_files: int
    attributes: NotRequired[dict[str, str]]  # that each entry has
    compress: NotRequired[bool]  # files that are rotated away
    kept: NotRequired[bool]  # False: there are no files, and it is only delivered
    delivery: NotRequired[Delivery]
    is_cri: NotRequired[bool]  # in the CRI's format, and rotated by who asks for "reopen_log"
    unfinished: NotRequired[str]  # path of what keeps an unfinished line; else beside the log


class IO(TypedDict):
    """How a process's standard streams are held."""

    terminal: bool
    stdin: bool  # keep stdin open for attached clients; else it is /dev/null
    stdin_once: bool  # close stdin when a client that had it goes or ends its input
    log: NotRequired[Log | None]


class Start(TypedDict):
    """op "start": run the bundle's process. Answer: Started."""

    id: str
    bundle: str  # directory with config.json
    rootfs: list[tuple[str, str, str, list[str]]]  # model.mount.Mount, in order
    io: IO
    timeout_s: NotRequired[float]  # until its program runs, else it is undone; 60 unless said
    #: Types of namespaces, in config.json's words, that exist already: the descriptors that
    #: come along, in order. They are joined where config.json asks for new ones.
    namespaces: NotRequired[list[str]]
    #: Destinations in config.json's words: the descriptors after those are detached mounts, which
    #: take the place of what it has there.
    mounts: NotRequired[list[str]]
    timeline: NotRequired[bool]  # tell the steps


class Execute(TypedDict):
    """op "exec": run another process in a running container. Answer: Started.

    With "attach" comes its client's socket, as with that op: it is attached once the
    process runs, and closed where it does not.
    """

    id: str
    exec_id: str
    process: dict[str, object]  # model.oci.Process
    io: IO
    timeout_s: NotRequired[float]
    attach: NotRequired["Attach"]
    group: NotRequired[str]  # name of a cgroup to make for it: runtime/cgroups/group.py
    timeline: NotRequired[bool]  # tell the steps


class Dump(TypedDict):
    """op "dump": write images of what runs in a container, by CRIU: dumps.py.

    With a folder's descriptor. It stands still from before the answer until op "dump_end", with
    the same id, has come. "unsupported" where CRIU cannot; "wrong_state" where commands run in
    it that were not started by its first process.
    """

    id: str
    joined: list[str]  # types of namespaces that were made for it, as Start.namespaces


class Restore(Start):
    """op "restore": as "start", but it goes on where images have it. Answer: Started.

    The folder of images is the last descriptor. It is undone if the connection ends before.
    """


class Started(TypedDict):
    pid: int  # as the host sees it
    time_ns: int  # when the program began to run
    steps: NotRequired[list[tuple[str, str, int, int]]]  # model.timeline.Step, if asked for


class Running(TypedDict):
    """An item of "list"'s answer, beside those that are an Exit.

    One whose start is under way is in it, too; should that fail yet, its exit is told.
    """

    id: str
    exec_id: NotRequired[str]
    pid: int
    running: Literal[True]


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


class Hold(TypedDict):
    """op "hold": hold the descriptors that come along until "let_go" {id}, whoever dies.

    "take" {id} answers with the names, and copies of the descriptors; "held" with all ids.
    """

    id: str
    names: list[str]


class Counts(TypedDict):
    """Answer to op "counts": numbers now, by what is counted, for the engine's gauges."""

    processes: dict[str, int]
    pools: dict[str, Stock]
    queues: dict[str, int]  # what waits


class Exit(TypedDict):
    """event "exit", the content of an exit file, and an item of "list"'s answer."""

    id: str
    exec_id: NotRequired[str]
    pid: int
    status: int  # exit code, or 128 + signal
    signal: int  # 0 unless ended by one
    time_ns: int
    oom: bool
    usage: NotRequired[list[int]]  # of one with a group: usage.py


class Recipe(TypedDict):
    """op "recipe": know what containers have in common, for "spawn". As Start, never started.

    Answered "unsupported" where only "start" can start them.
    """

    id: str
    bundle: str
    rootfs: list[tuple[str, str, str, list[str]]]
    disk_bytes: NotRequired[int]  # that a container may write; else 1 GiB


class DropRecipe(TypedDict):
    """op "drop_recipe": forget it; what was started by it runs on."""

    id: str


class Spawn(TypedDict):
    """op "spawn": start a container by a recipe. Answer: Started, with "cgroup".

    With "streams" stdin, stdout and stderr come along, pipes or sockets; with "written" after
    them what it is to find written, a file system as "lend" tells, its own from then on; then
    with "network" a network namespace. "meta" is told by "list". Answered "unsupported" where only
    "start" can start it, or say what is wrong. Its exit is told once, and not written down.
    """

    id: str
    recipe: str
    name: str  # its host name
    args: list[str]  # none: its first process does nothing
    env: list[str]
    folder: str
    timed: NotRequired[bool]  # the answer has "steps": model/timeline.py
    streams: NotRequired[bool]
    network: NotRequired[int]  # how many descriptors: of a namespace, and of a sysfs of it
    files: NotRequired[dict[str, str]]  # contents in the place of the recipe's, by paths
    written: NotRequired[bool]
    meta: NotRequired[object]


class SpawnExec(TypedDict):
    """op "spawn_exec": run another process in such a container. Answer: Started.

    "process" is what has to be the same for one recipe to serve: without args, env and cwd.
    """

    id: str
    exec_id: str
    name: str  # the sandbox's host name
    group: str
    process: dict[str, object]
    args: list[str]
    env: list[str]
    folder: str
    streams: bool
    timed: NotRequired[bool]  # as in Spawn


class Used(TypedDict):
    """op "usage": what such a container has used. Answer: numbers as in usage.py."""

    id: str


class Lend(TypedDict):
    """op "lend": let us look at what such a container writes. Answer: Lent."""

    id: str


class Lent(TypedDict):
    """With a descriptor: a file system in memory, which has a folder upper-N for each overlay."""

    overlays: list[str]  # where they are in the root, that of the root itself first


class KillExec(TypedDict):
    """op "kill_exec": kill all of a group; one that is gone is no error."""

    id: str
    group: str


class Attach(TypedDict):
    """op "attach" to the stdio process, with the client's socket as descriptor.

    The stdio process owns the socket from then on and closes it at the end: when
    the process has ended and its output is sent, when the detach keys are typed
    (terminals only), or when the client has 1 MiB unread, so that the process has
    to wait for it, and accepts nothing for 10 s. A key that is not known yet waits
    for its "add" if "wait" says so, else it is not_found. Output is plain bytes or has
    Docker's 8-byte frame headers, as "multiplex" says.
    """

    key: str
    wait: bool
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: str  # "ctrl-p,ctrl-q"; "" for none
    pending: str  # base64 of bytes the client sent before the hand-over
    multiplex: NotRequired[bool]  # whether in frames; unless said, if there is no terminal
    #: Frames end with one more: stream 4, the exit code in decimal, and the usage if it is known.
    tell_status: NotRequired[bool]


class AttachFifos(TypedDict):
    """op "attach" to the stdio process, with named pipes in the place of a socket: fifos.py.

    *fifos* names the streams of the descriptors that come along; "stdin" is open for reading.
    """

    key: str
    wait: bool
    fifos: list[str]


class Detach(TypedDict):
    """op "detach" to the stdio process: send away the clients that wait for *key*."""

    key: str
    message: NotRequired[str]  # the last thing they get, as if on stderr
    multiplex: NotRequired[bool]  # whether in frames; True unless said
