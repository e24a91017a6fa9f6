"""Names that are not ours: who is asked, from where, and what becomes of the answer."""

import fcntl
import os
import struct
import time

from orlop.network.dns.message import Code
from orlop.network.dns.zone import Place
from tests.integration.names.conftest import WORLD, Scene, front
from tests.integration.names.scene import Asker, Upstream, command_in, new_namespace, wire


def test_the_hosts_server_is_asked_though_it_is_on_the_hosts_loopback(
    scene: Scene, web: Asker
) -> None:
    assert web.dig("world.example") == ["192.0.2.80"]
    assert web.dig("world.example", "AAAA") == ["2001:db8::80"]
    assert web.dig("+tcp", "world.example") == ["192.0.2.80"]
    assert web.status("nowhere.example").startswith("NXDOMAIN")
    assert all(address[0] == "127.0.0.1" for address, _ in scene.upstream.asked)


def test_ports_and_ids_cannot_be_guessed(scene: Scene, web: Asker) -> None:
    with web.socket() as asking:
        for number in range(30):
            asking.send(wire("world.example", id_=number))
            assert asking.recv(600)[:2] == number.to_bytes(2, "big")
    ports = [address[1] for address, _ in scene.upstream.asked]
    ids = [message[:2] for _, message in scene.upstream.asked]
    assert len(set(ports)) > 20
    assert len(set(ids)) > 20
    assert ids != sorted(ids)


def test_an_answer_with_another_id_is_not_taken(scene: Scene, web: Asker) -> None:
    scene.upstream.lies = True
    assert web.dig("world.example") == ["192.0.2.80"]


def test_edns_passes_both_ways(scene: Scene, web: Asker) -> None:
    assert web.status("+bufsize=2000", "+nocookie", "+ignore", "many.example") == "NOERROR qr rd ra"
    assert scene.upstream.asked[-1][1].endswith(struct.pack("!BHHIH", 0, 41, 2000, 0, 0))


def test_a_long_answer_is_fetched_over_tcp(scene: Scene, web: Asker) -> None:
    assert web.status("+noedns", "+ignore", "many.example").startswith("NOERROR qr tc")
    assert web.dig("+noedns", "many.example") == sorted(WORLD[b"\x04many\x07example\x00"])


def test_who_is_on_internal_networks_alone_asks_nobody_outside(scene: Scene, web: Asker) -> None:
    inner = scene.start("c", "inner", front("10.9.0.4", internal=True))
    assert inner.dig("db") == ["10.9.0.3"]
    for words in (["world.example"], ["+tcp", "world.example"], ["-x", "192.0.2.80"]):
        assert inner.status(*words).startswith("SERVFAIL"), words
    assert not scene.upstream.asked
    both = (front("10.9.0.5", internal=True), Place("0" * 64, "bridge", ("10.7.0.2",), named=False))
    assert scene.start("d", "both", *both).dig("world.example") == ["192.0.2.80"]


def test_servers_of_its_own_are_asked_from_where_the_container_is(scene: Scene) -> None:
    asker = scene.start("c", "own", front("10.9.0.4"), servers=("127.0.0.77",))
    assert asker.status("world.example").startswith("SERVFAIL")  # nobody there, nor asked on host
    own = Upstream(asker.namespace, "127.0.0.77", {b"\x05world\x07example\x00": ["192.0.2.99"]})
    try:
        assert asker.dig("world.example") == ["192.0.2.99"]
        assert asker.dig("+tcp", "world.example") == ["192.0.2.99"]
    finally:
        own.close()
    assert not scene.upstream.asked


def test_the_next_server_is_asked_when_one_fails_or_is_slow(scene: Scene, web: Asker) -> None:
    second = Upstream(scene.engine.host, "127.0.0.54", {b"\x03two\x00": ["192.0.2.2"]})
    try:
        use(scene, "127.0.0.55", "127.0.0.53", "127.0.0.54")  # nobody, one, two
        scene.upstream.code = Code.SERVFAIL
        assert web.dig("two") == ["192.0.2.2"]
        scene.upstream.silent = True
        assert web.dig("two") == ["192.0.2.2"]
        asked = len(scene.upstream.asked)
        assert web.dig("two") == ["192.0.2.2"]
        assert len(scene.upstream.asked) == asked  # who was silent rests
    finally:
        second.close()


def test_a_question_that_got_lost_is_asked_again(scene: Scene, web: Asker) -> None:
    scene.upstream.silent = True
    with web.socket() as asking:
        asking.send(wire("world.example"))
        deadline = time.monotonic() + 5
        while not scene.upstream.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        scene.upstream.silent = False
        assert asking.recv(600).endswith(bytes([192, 0, 2, 80]))
    assert len(scene.upstream.asked) == 2


def test_without_any_answer_the_failure_is_told(scene: Scene, web: Asker) -> None:
    scene.upstream.code = Code.REFUSED
    assert web.status("world.example").startswith("REFUSED")
    scene.upstream.silent = True
    assert web.status("world.example").startswith("SERVFAIL")


def test_a_change_of_the_hosts_servers_is_noticed(scene: Scene, web: Asker) -> None:
    assert web.status("two").startswith("NXDOMAIN")
    second = Upstream(scene.engine.host, "127.0.0.54", {b"\x03two\x00": ["192.0.2.2"]})
    try:
        use(scene, "127.0.0.54")
        assert web.dig("two") == ["192.0.2.2"]
        scene.resolv_conf.unlink()
        time.sleep(1.1)
        assert web.dig("two") == ["192.0.2.2"]  # the last that was known
    finally:
        second.close()


def test_with_ndots_a_bare_name_stays_at_home(scene: Scene, web: Asker) -> None:
    asker = scene.start("c", "dots", front("10.9.0.4"), searches=True)
    assert asker.status("unknown").startswith("NOERROR")
    assert not scene.upstream.asked
    assert asker.dig("db") == ["10.9.0.3"]
    assert asker.dig("world.example") == ["192.0.2.80"]


def test_the_namespace_goes_when_the_container_does(scene: Scene) -> None:
    namespace = new_namespace()
    inode = os.fstat(namespace).st_ino
    letter = "e" * 64
    scene.engine.do(scene.engine.names.put, scene.view("e", "brief", front("10.9.0.9")))
    scene.engine.call(scene.engine.names.open(letter, namespace))
    link = f"/proc/self/fd/{namespace}"
    assert command_in(namespace, "readlink", "/proc/self/ns/net").stdout.strip() == os.readlink(
        link
    )
    before = held(inode)
    scene.engine.do(scene.engine.names.close, letter)
    after = held(inode)
    os.close(namespace)
    assert before
    assert not after


def held(inode: int) -> bool:
    """Whether a socket of this process is in the namespace."""
    return any(namespace_of(int(name)) == inode for name in os.listdir("/proc/self/fd"))


def namespace_of(one: int) -> int:
    try:
        fd = fcntl.ioctl(one, 0x894C)  # SIOCGSKNS
    except OSError:  # no socket
        return 0
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def use(scene: Scene, *servers: str) -> None:
    """Give the host other servers, and wait until they must have been seen."""
    scene.resolv_conf.write_text("".join(f"nameserver {one}\n" for one in servers))
    time.sleep(1.1)
