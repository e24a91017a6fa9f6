"""The engine, events and volumes, with the docker command against a real engine."""

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
pytestmark = pytest.mark.usefixtures("image")


def test_version_shows_engine_and_api(engine: EngineProcess) -> None:
    version = json.loads(engine.out("version", "--format", "json"))
    assert version["Server"]["Platform"]["Name"] == "Orlop"
    assert version["Client"]["ApiVersion"] == version["Server"]["ApiVersion"] == "1.45"


def test_info_counts_images_and_names_the_host(engine: EngineProcess) -> None:
    info = json.loads(engine.out("info", "--format", "json"))
    assert info["Images"] >= 1
    assert info["NCPU"] == os.cpu_count()
    assert info["OSType"] == "linux"
    assert {"bridge", "host", "null", "macvlan", "vxlan"} <= set(info["Plugins"]["Network"])
    assert not info.get("ServerErrors")


def test_events_tell_of_a_containers_life(
    engine: EngineProcess, name: str, eventually: Callable[[str, str, str], None]
) -> None:
    since = str(time.time())
    engine.docker("run", "--name", name, IMAGE, "true")
    eventually(name, "{{.State.Status}}", "exited")
    engine.docker("rm", name)
    text = engine.out(
        "events", "--since", since, "--until", str(time.time()), "-f", f"container={name}",
        "--format", "{{.Action}}",
    )  # fmt: skip
    assert [x for x in text.split() if x in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def told_since(engine: EngineProcess, since: str, *filters: str) -> list[dict[str, Any]]:
    words = [word for filter_ in filters for word in ("-f", filter_)]
    lines = engine.out(
        "events", "--since", since, "--until", str(time.time()), *words, "--format", "{{json .}}"
    )
    return [json.loads(line) for line in lines.splitlines()]


def test_events_tell_which_container_mounts_a_volume(engine: EngineProcess, name: str) -> None:
    since = str(time.time())
    volume = f"of-{name}"
    engine.docker("run", "--name", name, "-v", f"{volume}:/v:ro", IMAGE, "true")
    events = told_since(engine, since, f"volume={volume}")
    told = {event["Action"]: event["Actor"]["Attributes"] for event in events}
    container = engine.out("inspect", "-f", "{{.Id}}", name)
    mounted = {"destination": "/v", "read/write": "false", "propagation": ""}
    ours = {"driver": "local", "container": container}
    assert told == {"create": {"driver": "local"}, "mount": {**ours, **mounted}, "unmount": ours}
    engine.docker("rm", name)
    engine.docker("volume", "rm", volume)


def test_events_of_an_image_have_its_labels(
    engine: EngineProcess, name: str, tmp_path: Path
) -> None:
    since, image = str(time.time()), f"{name}:1"
    engine.docker("create", "--name", name, IMAGE)
    made = engine.out("commit", "-c", f"LABEL own={name}", name, image)
    engine.docker("save", "-o", str(tmp_path / "saved.tar"), image)
    engine.docker("rmi", image)
    events = told_since(engine, since, "type=image", f"label=own={name}")
    told = [(event["Action"], event["Actor"]["Attributes"]["name"]) for event in events]
    assert told == [("tag", image), ("save", made), ("untag", made)]
    assert {event["Actor"]["Attributes"]["who"] for event in events} == {"test"}


def test_events_of_commands_name_them_and_removal_by_force_is_a_kill(
    engine: EngineProcess, name: str
) -> None:
    since = str(time.time())
    check = ["--health-cmd", "true", "--health-interval", "1s"]
    engine.docker("run", "-d", "--name", name, *check, IMAGE, "sleep", "60")
    engine.docker("exec", name, "sh", "-c", "exit 3", check=False)
    deadline = time.monotonic() + 20
    while engine.out("inspect", "-f", "{{.State.Health.Status}}", name) != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.docker("rm", "-f", name)
    lines = engine.out(
        "events", "--since", since, "--until", str(time.time()), "-f", f"container={name}",
        "--format", "json",
    ).splitlines()  # fmt: skip
    events = [(event["Action"], event["Actor"]["Attributes"]) for event in map(json.loads, lines)]
    commands = [told for action, told in events if action.startswith("exec_")]
    assert len(commands) >= 6
    assert all(len(told["execID"]) == 64 for told in commands)
    own = next(told for action, told in events if action == "exec_create: sh -c exit 3")
    ours = [action for action, told in events if told.get("execID") == own["execID"]]
    assert ours == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]
    assert [action for action, _ in events[-3:]] == ["kill", "die", "destroy"]
    assert events[-3][1]["signal"] == "9"


def test_a_volume_with_options_is_a_folder_of_the_host_or_a_tmpfs(
    engine: EngineProcess, tmp_path: Path
) -> None:
    bind = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}"]
    engine.docker("volume", "create", *bind, "bound")
    memory = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,uid=7"]
    engine.docker("volume", "create", *memory, "memory")
    try:
        engine.docker("run", "--rm", "-v", "bound:/etc", IMAGE, "touch", "/etc/new")
        assert {"passwd", "new"} <= set(os.listdir(tmp_path))  # and what the image has there
        shown = engine.out(
            "run", "--rm", "-v", "bound:/x:ro", IMAGE, "grep", " /x ", "/proc/mounts"
        )
        assert shown.split()[3].startswith("ro")
        kind = ["sh", "-c", "grep ' /m ' /proc/mounts; stat -c %u /m"]
        shown = engine.out("run", "--rm", "-v", "memory:/m", IMAGE, *kind)
        assert shown.startswith("tmpfs /m tmpfs")
        assert ("size=1024k" in shown, shown.split()[-1]) == (True, "7")
        (told,) = json.loads(engine.out("volume", "inspect", "memory"))
        assert told["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"}
    finally:
        engine.docker("volume", "rm", "bound", "memory")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["colour=red"], 'invalid option: "colour"'),
        (["type=tmpfs"], 'missing required option: "device"'),
        (["device=/tmp"], 'missing required option: "type"'),
        (["type=none", "device=/tmp"], "needs the option o=bind"),
        (["type=nfs", "device=:/x"], "volumes of type nfs are not supported"),
    ],
)
def test_options_of_volumes_that_cannot_be_are_named(
    engine: EngineProcess, options: list[str], sentence: str
) -> None:
    words = [f"--opt={option}" for option in options]
    done = engine.docker("volume", "create", *words, "never", check=False)
    assert (done.returncode, sentence in done.stderr) == (1, True), done.stderr


def test_an_empty_folder_of_a_volume_is_filled_from_the_image(engine: EngineProcess) -> None:
    engine.docker("run", "--rm", "-v", "parts:/v", IMAGE, "sh", "-c", "mkdir /v/a; ln -s a /v/b")
    mount = "type=volume,source=parts,target=/etc,volume-subpath=b"
    try:
        assert "passwd" in engine.out("run", "--rm", "--mount", mount, IMAGE, "ls", "/etc").split()
        shown = engine.out("run", "--rm", "-v", "parts:/v", IMAGE, "ls", "/v/a")
        assert "passwd" in shown.split()
    finally:
        engine.docker("volume", "rm", "parts")


def test_volume_keeps_what_a_container_wrote(engine: EngineProcess) -> None:
    volume = "v" + uuid.uuid4().hex[:10]
    assert engine.out("volume", "create", "--label", "a=b", volume) == volume
    engine.docker("run", "--rm", "-v", f"{volume}:/data", IMAGE, "sh", "-c", "echo kept >/data/f")
    assert engine.out("run", "--rm", "-v", f"{volume}:/data:ro", IMAGE, "cat", "/data/f") == "kept"
    assert volume in engine.out("volume", "ls", "-q").split()
    shown = json.loads(engine.out("volume", "inspect", volume))[0]
    assert shown["Labels"] == {"a": "b"}
    assert (Path(shown["Mountpoint"]) / "f").read_text() == "kept\n"
    assert engine.out("volume", "rm", volume) == volume
    assert engine.docker("volume", "inspect", volume, check=False).returncode == 1


def test_volume_in_use_is_not_removed(engine: EngineProcess, name: str) -> None:
    volume = "v" + uuid.uuid4().hex[:10]
    engine.docker("create", "--name", name, "-v", f"{volume}:/data", IMAGE)
    done = engine.docker("volume", "rm", volume, check=False)
    assert done.returncode == 1
    assert volume in done.stderr
    engine.docker("rm", name)
    engine.docker("volume", "rm", volume)


def test_host_folder_is_mounted(engine: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("from the host")
    assert (
        engine.out("run", "--rm", "-v", f"{tmp_path}:/h:ro", IMAGE, "cat", "/h/f")
        == "from the host"
    )


def test_system_df_and_prune_work(
    engine: EngineProcess, name: str, eventually: Callable[[str, str, str], None]
) -> None:
    engine.docker("run", "--name", name, IMAGE, "true")
    assert "Images" in engine.out("system", "df")
    eventually(name, "{{.State.Status}}", "exited")
    assert name not in engine.out("system", "prune", "-f")
    assert engine.docker("inspect", name, check=False).returncode == 1
