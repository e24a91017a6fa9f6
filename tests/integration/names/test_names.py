"""What containers find at 127.0.0.11, asked with the programs that people ask with."""

from orlop.network.dns.zone import Place
from tests.integration.names.conftest import FRONT, Scene, front
from tests.integration.names.scene import Asker, command_in


def test_names_of_containers_are_found(web: Asker) -> None:
    for name in ("db", "DB", "db.front", "b" * 12):
        assert web.dig(name) == ["10.9.0.3"], name
    assert web.dig("web") == ["10.9.0.2"]
    assert web.dig("www") == ["10.9.0.2"]
    assert web.dig("db", "AAAA") == ["fd00:9::3"]
    assert web.status("db") == "NOERROR qr rd ra"


def test_all_who_have_a_name_are_found_under_it(web: Asker) -> None:
    assert web.dig("site") == ["10.9.0.2", "10.9.0.3"]
    firsts = {web._dig("+short", "site").split("\n")[0] for _ in range(40)}
    assert firsts == {"10.9.0.2", "10.9.0.3"}


def test_a_name_without_ipv6_is_known_and_has_no_such_address(scene: Scene, web: Asker) -> None:
    assert web.status("web", "AAAA") == "NOERROR qr rd ra"
    assert web.dig("web", "AAAA") == [""]
    assert web.dig("web", "MX") == [""]
    assert not scene.upstream.asked


def test_addresses_have_names(web: Asker) -> None:
    assert web.dig("-x", "10.9.0.3") == ["db.front."]
    assert web.dig("-x", "fd00:9::3") == ["db.front."]
    assert web.status("-x", "10.9.0.77").startswith("NXDOMAIN")


def test_busybox_and_the_c_library_find_them_too(web: Asker) -> None:
    asked = command_in(web.namespace, "busybox", "nslookup", "db", "127.0.0.11")
    assert asked.returncode == 0
    assert "10.9.0.3" in asked.stdout
    assert "fd00:9::3" in asked.stdout


def test_a_container_that_is_gone_is_not_found(scene: Scene, web: Asker) -> None:
    scene.engine.do(scene.engine.names.close, "b" * 64)
    assert web.dig("site") == ["10.9.0.2"]
    assert web.status("db").startswith("NXDOMAIN")


def test_a_change_is_seen_at_once(scene: Scene, web: Asker) -> None:
    renamed = scene.view("b", "store", front("10.9.0.8"))
    scene.engine.do(scene.engine.names.put, renamed)
    assert web.dig("store") == ["10.9.0.8"]
    assert web.status("db").startswith("NXDOMAIN")


def test_nobody_hears_of_networks_that_he_is_not_on(scene: Scene, web: Asker) -> None:
    apart = scene.start("c", "apart", Place("e" * 64, "back", ("10.8.0.2",)))
    assert apart.status("web").startswith("NXDOMAIN")
    assert apart.status("-x", "10.9.0.2").startswith("NXDOMAIN")
    assert web.status("apart").startswith("NXDOMAIN")


def test_links_are_names_for_one_container_alone(scene: Scene, web: Asker) -> None:
    place = Place(FRONT, "front", ("10.9.0.4",), links={"store": "db"})
    assert scene.start("c", "client", place).dig("store") == ["10.9.0.3"]
    assert web.status("store").startswith("NXDOMAIN")


def test_many_of_one_name_are_cut_short_over_udp_and_whole_over_tcp(
    scene: Scene, web: Asker
) -> None:
    for number in range(100):
        letter = format(number, "02x") * 32
        place = front(f"10.9.1.{number}", aliases=("crowd",))
        scene.engine.do(scene.engine.names.put, scene.view("", "", place)._replace(
            container=letter, name=f"crowd{number}"
        ))  # fmt: skip
    wanted = sorted(f"10.9.1.{number}" for number in range(100))
    assert web.dig("+tcp", "crowd") == wanted
    assert web.dig("crowd") == wanted  # dig goes on over TCP
    cut = web.status("+ignore", "+noedns", "crowd")
    assert cut == "NOERROR qr tc rd ra"
    assert 20 < len(web.dig("+ignore", "+noedns", "crowd")) < 40
    assert web.status("+ignore", "+bufsize=4096", "crowd") == "NOERROR qr rd ra"


def test_an_unknown_version_of_edns_is_refused_by_name(web: Asker) -> None:
    assert web.status("+edns=7", "+noednsnegotiation", "db").startswith("BADVERS")
