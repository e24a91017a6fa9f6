"""Op "dump": images of what runs in a container, which runs on."""

import os
from collections.abc import Mapping

from orlop.errors import OrlopError, UnsupportedError, WrongStateError
from orlop.model.oci import Config
from orlop.runtime.bundle import Bundle
from orlop.shim.channel import Channel, Message
from orlop.shim.failure import failure
from orlop.shim.helper import Helper
from orlop.shim.loop import Loop
from orlop.shim.process import Process
from orlop.shim.starts import read_config

_FILES = {"network": "net"}
_STREAMS = ("stdin", "stdout", "stderr")


class Dumps:
    """Checkpoints under way, each a helper."""

    def __init__(self, loop: Loop, processes: Mapping[str, Process]) -> None:
        self._loop = loop
        self._processes = processes
        self._helpers: set[Helper] = set()

    @property
    def pids(self) -> set[int]:
        return {helper.pid for helper in self._helpers}

    def begin(self, message: Message, asker: Channel) -> None:
        """Dump into the folder that comes along; the answer comes later."""
        process = self._running(message["id"])
        config = read_config(process.record["bundle"])
        _name_joined(config, message["joined"], process.record["pid"])
        (images,) = message["fds"]

        def ended(outcome: Message) -> None:
            self._helpers.discard(helper)
            gone = OrlopError(f"the checkpoint of {process.key} was killed")
            asker.send({"seq": message["seq"], **(outcome or {"error": failure(gone)})})

        helper = Helper(
            self._loop,
            lambda _sock: _dump(process, config, images),
            keep=[images],
            on_message=lambda *_: None,
            on_end=ended,
        )
        self._helpers.add(helper)

    def _running(self, container_id: str) -> Process:
        process = self._processes.get(container_id)
        if process is None or not process.running or process.cgroup is None:
            raise WrongStateError(f"container {container_id} is not running")
        if process.spawn is not None:
            raise UnsupportedError(
                f"sandbox {container_id[:12]} has no first process of its own to be copied",
                hint="give it a command=",
            )
        execs = [key for key in self._processes if key.startswith(f"{container_id}/")]
        if execs:
            raise WrongStateError(
                f"{len(execs)} commands run in container {container_id[:12]} that are not"
                " of its first process, and cannot be copied",
                hint="wait for their end, or have its first process start them",
            )
        return process


def _name_joined(config: Config, types: list[str], pid: int) -> None:
    """Give the namespaces of *types*, which somebody made for the container, their paths."""
    for namespace in config.get("linux", {}).get("namespaces", ()):
        if namespace["type"] in types:
            namespace["path"] = f"/proc/{pid}/ns/{_FILES[namespace['type']]}"


def _dump(process: Process, config: Config, images: int) -> None:
    from orlop.criu import conversation, dump
    from orlop.criu.options import Folders, Options, requested

    assert process.cgroup is not None
    record = process.record
    inodes = record["inodes"]
    subject = dump.Subject(
        record["pid"],
        Bundle(record["id"], record["bundle"], config),
        os.path.join(record["bundle"], "rootfs"),
        process.cgroup.directories,
        [f"pipe:[{inodes[name]}]" if name in inodes else "" for name in _STREAMS],
    )
    folders = Folders(images, None, conversation.Log(images, "", "dump.log"))
    wanted = {**requested(Options(file_locks=True), {}), "leave_running": True}
    try:
        dump.dump(conversation.DUMP, subject, wanted, folders, lambda *_: None)
    except conversation.FailedError as error:
        raise uncopied(record["id"], error.reason) from None


def uncopied(container_id: str, reason: str) -> UnsupportedError:
    """Return what to raise where CRIU could not, for its *reason*."""
    return UnsupportedError(
        f"the processes of container {container_id[:12]} cannot be copied: criu: {reason}",
        hint="end what uses that, and try again",
    )
