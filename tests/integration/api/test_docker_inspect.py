"""What `docker inspect` shows of a container, compared with what the container has."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engines import EngineProcess


def made(engine: EngineProcess, image: str, name: str, *options: str) -> Any:
    """Return what inspect shows of a new container."""
    engine.docker("create", "--name", name, *options, image, "sleep", "60")
    (shape,) = json.loads(engine.out("inspect", name))
    return shape


@pytest.mark.parametrize(
    ("option", "masked"),
    [("--init", True), ("--privileged", None), ("--security-opt=systempaths=unconfined", [])],
)
def test_masked_and_read_only_paths_are_shown(
    engine: EngineProcess, image: str, name: str, option: str, masked: object
) -> None:
    host = made(engine, image, name, option)["HostConfig"]
    if masked is True:
        assert "/proc/kcore" in host["MaskedPaths"]
        assert "/proc/sys" in host["ReadonlyPaths"]
    else:
        assert (host["MaskedPaths"], host["ReadonlyPaths"]) == (masked, masked)


@pytest.mark.parametrize(
    ("words", "shown"), [([], "orlop"), (["--runtime", "runc"], "runc")], ids=["default", "named"]
)
def test_the_runtime_has_the_name_that_was_given_and_info_lists_it(
    engine: EngineProcess, image: str, name: str, words: list[str], shown: str
) -> None:
    assert made(engine, image, name, *words)["HostConfig"]["Runtime"] == shown
    listed = json.loads(engine.out("info", "-f", "{{json .Runtimes}}"))
    assert listed[shown] == {"path": "orlop-runtime"}
    assert engine.out("info", "-f", "{{.DefaultRuntime}}") == "orlop"


def test_the_paths_of_hosts_hostname_and_resolv_conf_are_those_of_the_container(
    engine: EngineProcess, image: str, name: str
) -> None:
    made(engine, image, name, "--add-host", "marked:192.0.2.9")
    engine.docker("start", name)
    (shape,) = json.loads(engine.out("inspect", name))
    for field, path in (
        ("HostsPath", "/etc/hosts"),
        ("HostnamePath", "/etc/hostname"),
        ("ResolvConfPath", "/etc/resolv.conf"),
    ):
        assert Path(shape[field]).read_text() == engine.docker("exec", name, "cat", path).stdout
    assert "192.0.2.9" in Path(shape["HostsPath"]).read_text()


@pytest.mark.parametrize("options", [{}, {"max-size": "1m"}, {"max-file": "2", "max-size": "3k"}])
def test_log_options_are_shown_as_they_were_given(
    engine: EngineProcess, image: str, name: str, options: dict[str, str]
) -> None:
    words = [f"--log-opt={key}={value}" for key, value in options.items()]
    shown = made(engine, image, name, *words)["HostConfig"]["LogConfig"]
    assert shown == {"Type": "json-file", "Config": options}


def test_tmpfs_is_shown_among_mounts_only_if_it_was_asked_for_as_a_mount(
    engine: EngineProcess, image: str, name: str
) -> None:
    shape = made(engine, image, name, "--tmpfs=/a", "--mount=type=tmpfs,target=/b")
    assert [mount["Destination"] for mount in shape["Mounts"]] == ["/b"]
    assert shape["HostConfig"]["Tmpfs"] == {"/a": ""}
    assert shape["HostConfig"]["Mounts"] == [{"Type": "tmpfs", "Target": "/b"}]
