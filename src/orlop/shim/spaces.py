"""The namespaces of pods, which no process keeps: descriptors that outlive the engine.

The stdio process has copies, so they outlive the shim, too.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orlop.errors import NotFoundError
from orlop.kernel.process import pidfd_send_signal
from orlop.shim.channel import LATER, Channel, Message
from orlop.shim.pumps import Pumps
from orlop.shim.records import key_of

PAUSE = "pause"  # the pidfd of the first process in the namespace "pid"
_SIGKILL = 9


class Spaces:
    """Answers the requests about them; *pumps* holds them."""

    def __init__(self, pumps: Pumps) -> None:
        self._pumps = pumps

    def operations(self) -> dict[str, Callable[[Channel, Message], Any]]:
        """Return what answers each request, by its name."""
        return {
            "hold": self._hold,
            "take": self._take,
            "pause": self._pause,
            "let_go": self._let_go,
            "held": lambda _channel, _message: list(self._pumps.held),
        }

    def _hold(self, _channel: Channel, message: Message) -> None:
        key, fds = key_of(message), message["fds"]
        held = dict(zip(message["names"], fds, strict=True))
        self._pumps.check_room(len(fds))
        self._pumps.hold(key, held)
        fds.clear()

    def _pause(self, channel: Channel, message: Message) -> Any:
        """Start a pid namespace's first process, in the namespaces of "names"; hold them both."""
        from orlop.runtime.pause import begin  # few pods have one

        key = key_of(message)
        self._pumps.check_room(2)
        pidfd, namespace = begin(dict(zip(message["names"], message["fds"], strict=True)))
        self._pumps.hold(key, {PAUSE: pidfd, "pid": namespace})
        return self._take(channel, message)

    def _let_go(self, _channel: Channel, message: Message) -> None:
        key = key_of(message)
        pidfd = self._pumps.held.get(key, {}).get(PAUSE)
        if pidfd is not None:
            with suppress(ProcessLookupError):
                pidfd_send_signal(pidfd, _SIGKILL)
        self._pumps.let_go(key)

    def _take(self, channel: Channel, message: Message) -> Any:
        key = key_of(message)
        if key not in self._pumps.held:
            raise NotFoundError(f"nothing is held for {key}")
        held = self._pumps.held[key]
        answer = {"seq": message.get("seq"), "ok": {"names": list(held)}}
        channel.send(answer, list(held.values()))
        return LATER
