"""An engine's name server, a host's resolver, and containers to ask: all in namespaces."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from orlop.network.dns.zone import Place, View
from tests.integration.names.scene import Asker, Engine, Upstream, new_namespace

WORLD = {
    b"\x05world\x07example\x00": ["192.0.2.80", "2001:db8::80"],
    b"\x04many\x07example\x00": [f"192.0.2.{number}" for number in range(1, 101)],
}
FRONT = "f" * 64


class Scene(NamedTuple):
    engine: Engine
    upstream: Upstream
    start: Callable[..., Asker]  # of a container: its letter, name, places, and what View has
    resolv_conf: Path

    def view(self, letter: str, name: str, *places: Place, **more: object) -> View:
        return View(letter * 64, name, places, **more)  # type: ignore[arg-type]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A host with a resolver on its loopback, as systemd's is, and no container yet."""
    if os.getuid():
        pytest.skip("needs root")
    with ExitStack() as stack:
        host = new_namespace()
        stack.callback(os.close, host)
        resolv_conf = tmp_path / "resolv.conf"
        resolv_conf.write_text("nameserver 127.0.0.53\n")
        upstream = Upstream(host, "127.0.0.53", dict(WORLD))
        stack.callback(upstream.close)
        engine = Engine(host, resolv_conf)
        stack.callback(engine.close)

        def start(letter: str, name: str, *places: Place, **more: object) -> Asker:
            namespace = new_namespace()
            stack.callback(os.close, namespace)
            view = View(letter * 64, name, places, **more)  # type: ignore[arg-type]
            engine.do(engine.names.put, view)
            engine.call(engine.names.open(letter * 64, namespace))
            return Asker(namespace)

        yield Scene(engine, upstream, start, resolv_conf)


@pytest.fixture
def web(scene: Scene) -> Asker:
    """A container `web` with an alias, beside `db` which has the same alias and IPv6."""
    web = scene.start("a", "web", front("10.9.0.2", aliases=("site", "www")))
    scene.start("b", "db", front("10.9.0.3", "fd00:9::3", aliases=("site",)))
    return web


def front(*addresses: str, aliases: tuple[str, ...] = (), internal: bool = False) -> Place:
    return Place(FRONT, "front", addresses, aliases, internal=internal)
