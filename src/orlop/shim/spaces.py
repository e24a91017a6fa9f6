"""The namespaces of pods, which no process keeps: descriptors that outlive the engine.

The stdio process has copies, so they outlive the shim, too.
"""

from collections.abc import Callable
from typing import Any

from orlop.errors import NotFoundError
from orlop.shim.channel import LATER, Channel, Message
from orlop.shim.pumps import Pumps
from orlop.shim.records import key_of


class Spaces:
    """Answers the requests about them; *pumps* holds them."""

    def __init__(self, pumps: Pumps) -> None:
        self._pumps = pumps

    def operations(self) -> dict[str, Callable[[Channel, Message], Any]]:
        """Return what answers each request, by its name."""
        return {
            "hold": self._hold,
            "take": self._take,
            "let_go": lambda _channel, message: self._pumps.let_go(key_of(message)),
            "held": lambda _channel, _message: list(self._pumps.held),
        }

    def _hold(self, _channel: Channel, message: Message) -> None:
        key, fds = key_of(message), message["fds"]
        held = dict(zip(message["names"], fds, strict=True))
        self._pumps.check_room(len(fds))
        self._pumps.hold(key, held)
        fds.clear()

    def _take(self, channel: Channel, message: Message) -> Any:
        key = key_of(message)
        if key not in self._pumps.held:
            raise NotFoundError(f"nothing is held for {key}")
        held = self._pumps.held[key]
        answer = {"seq": message.get("seq"), "ok": {"names": list(held)}}
        channel.send(answer, list(held.values()))
        return LATER
