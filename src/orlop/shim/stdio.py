"""The stdio process: pumps between containers, their logs and attached clients.

A process of its own, so that a container's flood of output costs the fork server
nothing. It holds no truth: the shim has a copy of every descriptor, and puts
another stdio process in the place of a dead one.
"""

import base64
import gc
import os
import signal
import socket
import sys
import traceback

from orlop.errors import ExhaustedError, NotFoundError, NotRunningError
from orlop.shim.attachment import Attachment, parse_keys
from orlop.shim.build import BUILD
from orlop.shim.channel import Channel, Message, accept, close_all
from orlop.shim.compression import Compressions
from orlop.shim.failure import failure
from orlop.shim.fifos import Client, Fifos
from orlop.shim.loop import Loop
from orlop.shim.pump import Events, Pump

_TICK_S = 1.0
_MAX_WAITING = 64  # clients of one process that does not exist yet


class Held:
    """A process we pump for: what we need to hand everything back to a new shim."""

    def __init__(self, message: Message, fds: dict[str, int], pump: Pump) -> None:
        self.message = message
        self.fds = fds  # copies, closed by us
        self.pump = pump


class Stdio:
    """Serves protocol.py's stdio half on a listening socket."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        self._loop = loop
        self._listener = listener
        self._compressions = Compressions(loop)
        self._channels: set[Channel] = set()
        self._held: dict[str, Held] = {}
        self._kept: dict[str, dict[str, int]] = {}  # of starts that are under way
        self._waiting: dict[str, list[Client]] = {}
        self._clients: set[Client] = set()
        self._impatient: list[tuple[str, Client]] = []  # came before we knew who runs
        self._settled = False
        self._ticking = False
        self._operations = {
            "hello": self._hello,
            "add": self._add,
            "keep": self._keep,
            "drop": lambda _channel, message, _fds: self._drop_kept(message["key"]),
            "ended": self._ended,
            "close_stdin": self._close_stdin,
            "held": self._list_held,
            "reopen_log": self._reopen_log,
            "attach": self._attach,
            "detach": self._detach,
            "settled": self._settle,
            "subscribe": self._subscribe,
            "exit": self._exit,
        }
        listener.settimeout(0)
        loop.watch(listener.fileno(), self._accept)

    def _accept(self, _: int) -> None:
        sock = accept(self._listener)
        if sock is None:
            return
        gone = self._channels.discard
        self._channels.add(Channel(self._loop, sock, on_message=self._dispatch, on_close=gone))

    def _drop_waiting(self, clients: list[tuple[str, Client]]) -> None:
        for key, client in clients:
            if client in self._waiting.get(key, ()):
                client.drop()

    def _dispatch(self, channel: Channel, message: Message, fds: list[int]) -> None:
        try:
            operation = self._operations[message["op"]]
            answer = operation(channel, message, fds)
            response: Message = {"ok": answer}
        except Exception as error:
            close_all(fds)
            response = {"error": failure(error)}
        if "seq" in message:
            channel.send({"seq": message["seq"], **response})

    def _subscribe(self, channel: Channel, _message: Message, fds: list[int]) -> None:
        close_all(fds)
        channel.subscribed = True

    def _hello(self, _channel: Channel, _message: Message, _fds: list[int]) -> Message:
        clients = sum(not client.closed for client in self._clients)
        return {"pid": os.getpid(), "build": BUILD, "clients": clients}

    def _exit(self, _channel: Channel, _message: Message, _fds: list[int]) -> None:
        """End: for a shim that ends too, or one that starts another in our place."""
        self._loop.stop()

    def _tell(self, event: Message) -> None:
        for channel in list(self._channels):
            if channel.subscribed:
                channel.send(event)

    def _add(self, _channel: Channel, message: Message, fds: list[int]) -> None:
        key, names = message["key"], message["names"]
        attach = message.pop("attach", None)
        client = self._client(attach, [fds.pop()]) if attach else None
        self._drop_kept(key)
        known = self._held.get(key)
        if known is not None:
            if not known.pump.drained:
                close_all(fds)
                return
            self._drop_held(key)
        by_name = dict(zip(names, fds, strict=True))
        copies = {name: os.dup(fd) for name, fd in by_name.items() if name != "pidfd"}
        events = Events(
            drained=lambda: self._drained(key),
            stdin_closed=lambda: self._stdin_closed(key),
            idle=lambda: self._drop_held(key),
        )
        pump = Pump(
            self._loop,
            events,
            fds=copies,
            io=message["io"],
            compressions=self._compressions,
            resume=message["resume"],
        )
        self._held[key] = Held(message, by_name, pump)
        fds.clear()
        for waiting in (*self._waiting.pop(key, ()), *filter(None, (client,))):
            if not waiting.closed:
                self._begin(pump, waiting)

    def _keep(self, _channel: Channel, message: Message, fds: list[int]) -> None:
        """Keep what a shim that comes after this one finds out by how a start went."""
        self._drop_kept(message["key"])
        self._kept[message["key"]] = dict(zip(message["names"], fds, strict=True))
        fds.clear()

    def _drop_kept(self, key: str) -> None:
        close_all(list(self._kept.pop(key, {}).values()))

    def _begin(self, pump: Pump, client: Client) -> None:
        pump.attach(client)
        if not self._ticking:
            self._ticking = True
            self._loop.later(_TICK_S, self._tick)

    def _ended(self, _channel: Channel, message: Message, _fds: list[int]) -> None:
        """Finish with the process; one we do not have has nothing left to drain."""
        key = message["key"]
        held = self._held.get(key)
        if held is None or held.pump.drained:
            self._tell({"event": "drained", "key": key})
            return
        held.pump.end(message.get("status"))
        if "/" not in key:
            for other in [name for name in self._held if name.startswith(key + "/")]:
                self._held[other].pump.end()
                self._drop_held(other)
            self._drop_held(key)

    def _drained(self, key: str) -> None:
        close_all(list(self._held[key].fds.values()))
        self._held[key].fds = {}
        self._tell({"event": "drained", "key": key})

    def _drop_held(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held.pump.close()
            close_all(list(held.fds.values()))

    def _stdin_closed(self, key: str) -> None:
        held = self._held.get(key)
        if held is not None and "stdin" in held.fds:
            os.close(held.fds.pop("stdin"))
        self._tell({"event": "stdin_closed", "key": key})

    def _close_stdin(self, _channel: Channel, message: Message, _fds: list[int]) -> None:
        self._held[message["key"]].pump.close_stdin()

    def _reopen_log(self, _channel: Channel, message: Message, _fds: list[int]) -> None:
        if message["key"] not in self._held:
            raise NotRunningError(f"process {message['key']} is not running")
        self._held[message["key"]].pump.reopen_log()

    def _list_held(self, channel: Channel, message: Message, _fds: list[int]) -> None:
        """Hand everything back, a message each: to a shim that takes over from a dead one."""
        for key, fds in self._kept.items():
            part = {"key": key, "names": list(fds)}
            channel.send({"seq": message["seq"], "more": True, "ok": part}, list(fds.values()))
        for key, held in self._held.items():
            if not held.pump.drained:
                part = {"key": key, "names": list(held.fds)}
                answer = {"seq": message["seq"], "more": True, "ok": part}
                channel.send(answer, list(held.fds.values()))

    def _attach(self, _channel: Channel, message: Message, fds: list[int]) -> None:
        key = message["key"]
        held = self._held.get(key)
        running = held is not None and not held.pump.drained
        if not running and not message["wait"] and self._settled:
            raise NotFoundError(f"process {key} is not running")
        if not running and len(self._waiting.get(key, ())) >= _MAX_WAITING:
            raise ExhaustedError(f"too many clients wait for process {key}")
        client = self._client(message, fds)
        if running and held is not None:
            self._begin(held.pump, client)
            return
        self._waiting.setdefault(key, []).append(client)
        client.on_waiting_gone(lambda gone: self._forget_waiting(key, gone))
        if not message["wait"]:
            self._impatient.append((key, client))

    def _settle(self, _channel: Channel, _message: Message, _fds: list[int]) -> None:
        """Know that what was not added does not run: a successor has been told of everything."""
        self._settled = True
        self._drop_waiting(self._impatient)
        self._impatient.clear()

    def _client(self, message: Message, fds: list[int]) -> Client:
        if "fifos" in message:
            by_name = dict(zip(message["fifos"], fds, strict=True))
            fds.clear()
            pipes = Fifos(self._loop, by_name)
            self._clients.add(pipes)
            return pipes
        keys = parse_keys(message["detach_keys"])
        pending = base64.b64decode(message["pending"]) if message["stdin"] else None
        (fd,) = fds
        fds.clear()
        client = Attachment(
            self._loop,
            socket.socket(fileno=fd),
            streams=frozenset(name for name in ("stdout", "stderr") if message[name]),
            detach_keys=keys,
            pending=pending,
            tell_status=message.get("tell_status", False),
        )
        client.framed = message.get("multiplex")
        self._clients.add(client)
        return client

    def _forget_waiting(self, key: str, client: Client) -> None:
        waiting = self._waiting.get(key, [])
        if client in waiting:
            waiting.remove(client)
        if not waiting:
            self._waiting.pop(key, None)
        self._clients.discard(client)

    def _detach(self, _channel: Channel, message: Message, _fds: list[int]) -> None:
        """Send clients away that wait for a process which will not come, saying why."""
        text = message.get("message", "")
        for client in self._waiting.pop(message["key"], []):
            client.multiplex = bool(message.get("multiplex", True))
            if text:
                client.send("stderr" if "stderr" in client.streams else "stdout", text.encode())
            client.end()

    def _tick(self) -> None:
        """Drop clients that take nothing; runs only while there are clients."""
        for client in list(self._clients):
            if client.stuck:
                client.drop()
            if client.closed:
                self._clients.discard(client)
        self._ticking = bool(self._clients)
        if self._ticking:
            self._loop.later(_TICK_S, self._tick)


def serve(listener: socket.socket) -> None:
    """Pump for ever; never returns."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    gc.enable()
    loop = Loop()
    Stdio(loop, listener)
    try:
        loop.run()
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
