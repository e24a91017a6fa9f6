"""The API spoken by hand: versions, absent parts, statuses and bodies of errors."""

import base64
import json
import socket
from typing import Any

import pytest

from tests.integration.engines import EngineProcess


def ask(
    engine: EngineProcess, method: str, target: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and decoded body of one request."""
    data = b"" if body is None else json.dumps(body).encode()
    headers = {"Content_Type": "application/json", **headers} if data else headers
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(data)}", "", ""]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall("\r\n".join(lines).encode() + data)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}
    is_json = fields.get("content-type") == "application/json" and "chunked" not in str(fields)
    return int(status.split()[1]), fields, json.loads(content) if is_json else content


def test_ping_tells_what_clients_negotiate_from(engine: EngineProcess) -> None:
    for method, body in (("GET", b"OK"), ("HEAD", b"")):
        status, headers, content = ask(engine, method, "/_ping")
        assert (status, content) == (200, body)
        assert headers["api-version"] == "1.45"
        assert headers["ostype"] == "linux"
        assert headers["docker-experimental"] == "false"
        assert headers["builder-version"] == "1"


@pytest.mark.parametrize("version", ["", "/v1.24", "/v1.40", "/v1.45"])
def test_versions_that_are_spoken(engine: EngineProcess, version: str) -> None:
    assert ask(engine, "GET", f"{version}/version")[0] == 200


@pytest.mark.parametrize(("version", "words"), [("v1.99", "too new"), ("v1.12", "too old")])
def test_versions_that_are_not_spoken(engine: EngineProcess, version: str, words: str) -> None:
    status, _, answer = ask(engine, "GET", f"/{version}/info")
    assert status == 400
    assert words in answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/build", 400),
        ("POST", "/session", 501),
        ("POST", "/networks/create", 400),
        ("POST", "/networks/none/connect", 400),
        ("POST", "/plugins/pull", 501),
        ("GET", "/images/search?term=x", 501),
        ("GET", "/nodes", 503),
        ("GET", "/services", 503),
        ("POST", "/swarm/init", 503),
        ("GET", "/secrets/x", 503),
        ("GET", "/nowhere", 404),
        ("GET", "/networks/nowhere", 404),
        ("GET", "/networks/bridge?scope=swarm", 404),
        ("PUT", "/info", 405),
        ("GET", "/containers/x/start", 405),
    ],
)
def test_what_is_not_there_says_so_in_a_sentence(
    engine: EngineProcess, method: str, path: str, status: int
) -> None:
    answered, _, answer = ask(engine, method, path)
    assert answered == status
    assert len(answer["message"]) > 10
    assert "Traceback" not in answer["message"]


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        ("POST", "/containers/x/stop?t=soon", "parameter t"),
        ("POST", "/containers/x/wait?condition=later", "condition"),
        ("GET", "/containers/json?filters=%7B", "parameter filters"),
        ("GET", "/containers/json?filters=%5B1%5D", "parameter filters"),
        ("GET", "/containers/json?filters=%7B%22shape%22%3A%5B%22round%22%5D%7D", "shape"),
        ("GET", "/containers/json?limit=many", "limit"),
        ("GET", "/events?since=yesterday", "parameter since"),
        ("POST", "/containers/x/resize?h=1", "h and w"),
        ("POST", "/images/create", "fromImage"),
        ("POST", "/images/create?fromImage=UPPER", "UPPER"),
        ("GET", "/images/get", "names"),
        ("POST", "/commit", "container"),
    ],
)
def test_wrong_parameters_are_named(
    engine: EngineProcess, method: str, target: str, field: str
) -> None:
    status, _, answer = ask(engine, method, target)
    assert status == 400, answer
    assert field in answer["message"]


@pytest.mark.parametrize("given", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_must_say_that_it_is_json(engine: EngineProcess, image: str, given: str) -> None:
    for target, body in (
        ("/containers/create", {"Image": image}),
        ("/volumes/create", {"Name": "never"}),
        ("/networks/create", {"Name": "never"}),
    ):
        status, _, answer = ask(engine, "POST", target, body, Content_Type=given)
        assert status == 400, answer
        assert "must be 'application/json'" in answer["message"]


def test_networks_are_listed_with_a_slash_at_the_end_too(engine: EngineProcess) -> None:
    status, _, listed = ask(engine, "GET", "/v1.45/networks/")
    assert status == 200
    assert {"bridge", "host", "none"} <= {network["Name"] for network in listed}


def test_resize_of_a_process_without_a_terminal_does_nothing(
    engine: EngineProcess, image: str, name: str
) -> None:
    engine.docker("run", "-d", "--name", name, image, "sleep", "60")
    assert ask(engine, "POST", f"/containers/{name}/resize?h=9&w=9")[0] == 200
    made = ask(engine, "POST", f"/containers/{name}/exec", {"Cmd": ["sleep", "60"]})[2]["Id"]
    assert ask(engine, "POST", f"/exec/{made}/start", {"Detach": True})[0] == 200
    assert ask(engine, "POST", f"/exec/{made}/resize?h=9&w=9")[0] == 200


@pytest.mark.parametrize("mode", ["PidMode", "IpcMode"])
def test_a_container_to_be_joined_must_exist_and_is_kept_by_its_id(
    engine: EngineProcess, image: str, name: str, mode: str
) -> None:
    body = {"Image": image, "HostConfig": {mode: "container:nobody"}}
    status, _, answer = ask(engine, "POST", "/containers/create", body)
    assert (status, answer["message"]) == (400, "No such container: nobody")
    owner = engine.out("create", "--name", name, image)
    body["HostConfig"] = {mode: f"container:{name}"}
    made = ask(engine, "POST", "/containers/create", body)[2]["Id"]
    try:
        shape = ask(engine, "GET", f"/containers/{made}/json")[2]
        assert shape["HostConfig"][mode] == f"container:{owner}"
    finally:
        engine.docker("rm", made)


def test_path_parameters_are_decoded_and_never_paths(engine: EngineProcess) -> None:
    for name in ("..%2F..%2Fetc", "%00", "%ff", "a%20b", "..", "%2e%2e%2f"):
        status, _, answer = ask(engine, "GET", f"/containers/{name}/json")
        assert status in (400, 404), (name, answer)
        status, _, answer = ask(engine, "DELETE", f"/volumes/{name}")
        assert status in (400, 404), (name, answer)


def test_bad_registry_credentials_are_refused(engine: EngineProcess) -> None:
    target = "/images/create?fromImage=127.0.0.1:1/x"
    for header in ("!!!", base64.urlsafe_b64encode(b"{").decode()):
        status, _, answer = ask(engine, "POST", target, X_Registry_Auth=header)
        assert status == 400, answer
        assert "X-Registry-Auth" in answer["message"]


def test_container_shape_has_what_was_asked(engine: EngineProcess, image: str, name: str) -> None:
    body = {
        "Image": image,
        "Cmd": ["sleep", "1"],
        "Env": ["A=b"],
        "Labels": {"l": "1"},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000},
        "HostConfig": {
            "Memory": 64 << 20,
            "NetworkMode": "none",
            "Binds": ["/tmp:/t:ro", "named:/n"],
            "Tmpfs": {"/scratch": "size=1m"},
            "CapAdd": ["NET_ADMIN"],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}],
        },
    }
    status, _, created = ask(engine, "POST", f"/containers/create?name={name}", body)
    assert (status, created["Warnings"]) == (201, []), created
    status, _, shape = ask(engine, "GET", f"/containers/{name}/json")
    assert (status, shape["Id"]) == (200, created["Id"])
    assert (shape["Path"], shape["Args"]) == ("sleep", ["1"])
    assert "A=b" in shape["Config"]["Env"]
    assert shape["Config"]["Labels"]["l"] == "1"
    assert shape["State"]["Health"]["Status"] in ("starting", "none")
    host = shape["HostConfig"]
    asked = body["HostConfig"]
    assert isinstance(asked, dict)
    for field in ("Memory", "NetworkMode", "Binds", "Tmpfs", "RestartPolicy", "Ulimits"):
        assert host[field] == asked[field], field
    mounts = {mount["Destination"]: mount for mount in shape["Mounts"]}
    assert mounts["/t"]["RW"] is False
    assert mounts["/n"]["Name"] == "named"
    assert mounts["/n"]["Source"].endswith("/volumes/named/_data")
    assert ask(engine, "POST", f"/containers/create?name={name}", body)[0] == 409
    assert ask(engine, "DELETE", f"/containers/{name}?v=1")[0] == 204
    assert ask(engine, "DELETE", "/volumes/named")[0] == 204


def test_exec_in_one_request_ends_its_frames_with_the_exit_code(
    engine: EngineProcess, image: str, name: str
) -> None:
    """What Docker needs create, start and inspect for."""
    engine.docker("run", "-d", "--name", name, image, "sleep", "600")
    body = {"Cmd": ["sh", "-c", "echo out; exit 7"], "AttachStdout": True, "AttachStderr": True}
    status, headers, content = ask(
        engine, "POST", f"/containers/{name}/exec?start=1", body, Upgrade="tcp"
    )
    assert status in (101, 200)
    out, code = b"\1\0\0\0\0\0\0\4out\n", b"\4\0\0\0\0\0\0\0017"
    assert content == out + code
    exec_id = headers["orlop-exec-id"]
    assert ask(engine, "GET", f"/exec/{exec_id}/json")[2]["ExitCode"] == 7
    assert ask(engine, "POST", "/containers/absent/exec?start=1", body)[0] == 404


def test_a_terminal_has_the_size_of_create_from_its_start(
    engine: EngineProcess, image: str, name: str
) -> None:
    body = {"Image": image, "Cmd": ["stty", "size"], "Tty": True}
    body["HostConfig"] = {"ConsoleSize": [33, 77]}
    assert ask(engine, "POST", f"/containers/create?name={name}", body)[0] == 201
    assert ask(engine, "POST", f"/containers/{name}/start")[0] == 204
    assert ask(engine, "POST", f"/containers/{name}/wait")[0] == 200
    assert engine.out("logs", name) == "33 77"
    assert engine.out("inspect", "-f", "{{.HostConfig.ConsoleSize}}", name) == "[33 77]"


def test_an_impossible_console_size_is_refused(engine: EngineProcess, image: str) -> None:
    body = {"Image": image, "Tty": True, "HostConfig": {"ConsoleSize": [70000, 1]}}
    assert ask(engine, "POST", "/containers/create", body)[0] == 400


@pytest.mark.parametrize("made_with", [False, True])
@pytest.mark.parametrize("started_with", [False, True])
def test_an_exec_is_framed_as_its_start_says(
    engine: EngineProcess, image: str, name: str, *, made_with: bool, started_with: bool
) -> None:
    engine.docker("run", "-d", "--name", name, image, "sleep", "1000")
    body = {"Cmd": ["echo", "hi"], "AttachStdout": True, "Tty": made_with}
    exec_id = ask(engine, "POST", f"/containers/{name}/exec", body)[2]["Id"]
    status, headers, output = ask(
        engine, "POST", f"/exec/{exec_id}/start", {"Detach": False, "Tty": started_with}
    )
    text = b"hi\r\n" if made_with else b"hi\n"
    kind = "raw" if started_with else "multiplexed"
    assert (status, headers["content-type"]) == (200, f"application/vnd.docker.{kind}-stream")
    assert output == (text if started_with else bytes([1, 0, 0, 0, 0, 0, 0, len(text)]) + text)
