"""Op "dump": images of what runs in a container, which stands still until "dump_end".

    engine                      shim                    helper, and criu
      | dump {id} + a folder      |                          |
      |-------------------------->| fork ------------------->| stops what runs, writes images
      |            ok             |<-------------------------| "post-dump"
      |<--------------------------|                          | waits
      | copies its files          |                          |
      | dump_end {id}             |                          |
      |-------------------------->|------------------------->| lets it run on
      |            ok             |<-------------------------| ends
      |<--------------------------|                          |

Nothing stands still for longer than they live: where one of them is killed the next one sees
the end of a connection, and CRIU, the last, lets go what it has stopped.
"""

from collections.abc import Mapping

from orlop.errors import NotRunningError, OrlopError, UnsupportedError, WrongStateError
from orlop.kernel.namespaces import FILES
from orlop.model.oci import Config
from orlop.runtime.plan import NAMESPACES
from orlop.shim.channel import LATER, Channel, Message
from orlop.shim.config import read_config
from orlop.shim.failure import failure
from orlop.shim.helper import Helper
from orlop.shim.loop import Loop
from orlop.shim.process import Process


class _Dump:
    """One that is under way; *waiting* is to be answered next, if somebody waits."""

    def __init__(self, asker: Channel, seq: int) -> None:
        self.asker = asker
        self.waiting: int | None = seq
        self.helper: Helper | None = None

    def answer(self, told: Message) -> None:
        """Tell who waits."""
        if self.waiting is not None:
            self.asker.send({"seq": self.waiting, **told})
            self.waiting = None


class Dumps:
    """Those under way, by container."""

    def __init__(self, loop: Loop, processes: Mapping[str, Process]) -> None:
        self._loop = loop
        self._processes = processes
        self._dumps: dict[str, _Dump] = {}

    @property
    def pids(self) -> set[int]:
        """Return the helpers', which are reaped here."""
        return {one.helper.pid for one in self._dumps.values() if one.helper is not None}

    def begin(self, asker: Channel, message: Message) -> object:
        """Dump into the folder that comes along."""
        from orlop.shim.imaging import dump  # rare

        process = self._running(message["id"])
        config = read_config(process.record["bundle"])
        _name_joined(config, message["joined"], process.record["pid"])
        (images,) = message["fds"]
        one = self._dumps[process.key] = _Dump(asker, message["seq"])
        try:
            one.helper = Helper(
                self._loop,
                lambda sock: dump(process, config, images, sock),
                keep=[images],
                on_message=lambda *_: one.answer({"ok": None}),
                on_end=lambda outcome: self._ended(process.key, outcome),
            )
        except BaseException:
            del self._dumps[process.key]
            raise
        return LATER

    def end(self, asker: Channel, message: Message) -> object:
        """Op "dump_end": let it run on, once it has been dumped."""
        one = self._dumps.get(message["id"])
        if one is None or one.asker is not asker or one.helper is None:
            raise WrongStateError(f"container {message['id']} is not being dumped")
        one.waiting = message["seq"]
        one.helper.consent()
        return LATER

    def lost(self, channel: Channel) -> None:
        """Let go on what was stopped for *channel*, which is gone."""
        for key, one in list(self._dumps.items()):
            if one.asker is channel and one.helper is not None:
                del self._dumps[key]
                one.helper.dismiss()

    def _ended(self, key: str, outcome: Message) -> None:
        gone = OrlopError(f"the checkpoint of {key[:12]} was killed")
        self._dumps.pop(key).answer(outcome or {"error": failure(gone)})

    def _running(self, container_id: str) -> Process:
        process = self._processes.get(container_id)
        if process is None or not process.running or process.cgroup is None:
            raise NotRunningError(f"container {container_id} is not running")
        if process.spawn is not None:
            raise UnsupportedError(
                f"sandbox {container_id[:12]} has no first process of its own to be copied",
                hint="give it a command=",
            )
        if container_id in self._dumps:
            raise WrongStateError(f"container {container_id[:12]} is being dumped")
        below = f"{container_id}/"
        execs = [one for key, one in self._processes.items() if key.startswith(below)]
        if count := sum(one.exit is None for one in execs):
            what = "a command runs" if count == 1 else f"{count} commands run"
            raise WrongStateError(
                f"{what} in container {container_id[:12]} beside its first process, and cannot"
                " be copied",
                hint="wait for the end of it, or have the first process start it",
            )
        return process


def _name_joined(config: Config, types: list[str], pid: int) -> None:
    """Give the namespaces of *types*, which somebody made for the container, their paths."""
    for namespace in config.get("linux", {}).get("namespaces", ()):
        if namespace["type"] in types:
            namespace["path"] = f"/proc/{pid}/ns/{FILES[NAMESPACES[namespace['type']]]}"
