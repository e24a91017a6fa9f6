"""Which registries are asked, and how, as certs.d says."""

from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError
from orlop.images.hosts import endpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "certs.d"


def configure(folder: Path, host: str, text: str) -> None:
    (folder / host).mkdir(parents=True)
    (folder / host / "hosts.toml").write_text(text)


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("host.example:5000", "https://host.example:5000/v2"),
        ("localhost", "http://localhost/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("127.1.2.3", "http://127.1.2.3/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("localhost.example", "https://localhost.example/v2"),
        ("127.0.0.1.example", "https://127.0.0.1.example/v2"),
    ],
)
def test_a_host_without_configuration_is_its_own_registry(
    folder: Path, domain: str, url: str
) -> None:
    (endpoint,) = endpoints(domain, [str(folder)])
    assert (endpoint.url, endpoint.primary, endpoint.namespace) == (url, True, "")


def test_mirrors_are_asked_in_the_order_of_the_file_and_the_server_last(folder: Path) -> None:
    configure(
        folder,
        "docker.io",
        """
server = "https://registry-1.docker.io"

[host."https://z.example"]
  capabilities = ["pull", "resolve"]
  ca = "z.crt"
  client = [["c.cert", "c.key"]]
  skip_verify = true
  [host."https://z.example".header]
    x-one = "1"
    x-many = ["2", "3"]

[host."http://a.example:5000/prefix"]
  capabilities = ["pull"]

[host."https://full.example/own/path"]
  override_path = true
""",
    )
    first, second, third, server = endpoints("docker.io", [str(folder)])
    assert first.url == "https://z.example/v2"
    assert (first.can("pull"), first.can("push")) == (True, False)
    assert first.tls.authorities == (str(folder / "docker.io" / "z.crt"),)
    place = folder / "docker.io"
    assert first.tls.client == ((str(place / "c.cert"), str(place / "c.key")),)
    assert first.tls.skip_verify
    assert first.headers == {"x-one": "1", "x-many": "2, 3"}
    assert (first.namespace, first.primary) == ("docker.io", False)
    assert (second.url, second.capabilities) == ("http://a.example:5000/prefix/v2", ("pull",))
    assert third.url == "https://full.example/own/path"
    assert (server.url, server.primary) == ("https://registry-1.docker.io/v2", True)


def test_plain_http_is_spoken_where_the_server_says_so(folder: Path) -> None:
    configure(folder, "host.example:5000", 'server = "http://host.example:5000"')
    (endpoint,) = endpoints("host.example:5000", [str(folder)])
    assert (endpoint.url, endpoint.namespace) == ("http://host.example:5000/v2", "")


def test_a_folder_may_be_spelled_without_a_colon(folder: Path) -> None:
    configure(folder, "host.example_5000_", 'server = "http://host.example:5000"')
    (endpoint,) = endpoints("host.example:5000", [str(folder)])
    assert endpoint.url.startswith("http://")


def test_the_default_is_for_hosts_without_a_folder(folder: Path) -> None:
    configure(folder, "_default", '[host."https://cache.example"]')
    configure(folder, "own.example", "")
    mirror, server = endpoints("some.example", [str(folder)])
    assert (mirror.url, mirror.namespace) == ("https://cache.example/v2", "some.example")
    assert (server.url, server.primary) == ("https://some.example/v2", True)
    assert len(endpoints("own.example", [str(folder)])) == 1


def test_the_first_folder_that_knows_a_host_wins(folder: Path, tmp_path: Path) -> None:
    configure(folder, "x.example", 'server = "https://first.example"')
    configure(tmp_path / "second", "x.example", 'server = "https://second.example"')
    (endpoint,) = endpoints("x.example", [str(folder), str(tmp_path / "second")])
    assert (endpoint.url, endpoint.namespace) == ("https://first.example/v2", "x.example")


def test_dockers_form_gives_certificates(folder: Path) -> None:
    place = folder / "x.example"
    place.mkdir(parents=True)
    for name in ("ca.crt", "me.cert", "me.key"):
        (place / name).touch()
    (endpoint,) = endpoints("x.example", [str(folder)])
    assert endpoint.tls.authorities == (str(place / "ca.crt"),)
    assert endpoint.tls.client == ((str(place / "me.cert"), str(place / "me.key")),)


@pytest.mark.parametrize(
    "text",
    [
        "server = ",
        'server = "ftp://x"',
        "host = 7",
        '[host."https://x"]\ncapabilities = ["fly"]',
        "[host]\nx = 7",
    ],
)
def test_a_broken_configuration_is_not_passed_over(folder: Path, text: str) -> None:
    configure(folder, "x.example", text)
    with pytest.raises(InvalidArgumentError, match=r"hosts\.toml"):
        endpoints("x.example", [str(folder)])
