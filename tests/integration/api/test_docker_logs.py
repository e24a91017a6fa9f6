"""Log drivers and their options, as the docker command asks for them."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import docker as docker_sdk
import pytest

from tests.integration.engines import EngineProcess

SPOKEN = ("sh", "-c", "echo to out; echo to errors >&2")


@pytest.fixture
def sdk(engine: EngineProcess) -> Iterator[docker_sdk.DockerClient]:
    client = docker_sdk.DockerClient(base_url=engine.url)
    yield client
    client.close()


def run(engine: EngineProcess, name: str, image: str, *options: str) -> None:
    engine.docker("run", "--name", name, *options, image, *SPOKEN)


def entries(engine: EngineProcess, name: str) -> list[dict[str, object]]:
    path = Path(engine.out("inspect", "-f", "{{.LogPath}}", name))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_details_show_the_labels_variables_and_tag_that_options_name(
    engine: EngineProcess, image: str, name: str
) -> None:
    run(
        engine,
        name,
        image,
        *("--label", "team=red & blue", "--label", "tier=1", "--label", "other=x"),
        *("-e", "MODE=fast", "-e", "HIDDEN=1", "-e", "APP_PORT=80"),
        *("--log-opt", "labels=team,nobodys", "--log-opt", "labels-regex=^ti"),
        *("--log-opt", "env=MODE", "--log-opt", "env-regex=^APP_"),
        *("--log-opt", "tag={{.Name}}/{{.ImageName}}"),
    )
    attributes = {
        "team": "red & blue",
        "tier": "1",
        "MODE": "fast",
        "APP_PORT": "80",
        "tag": f"{name}/{image}",
    }
    assert [entry["attrs"] for entry in entries(engine, name)] == [attributes, attributes]
    shown = f"APP_PORT=80,MODE=fast,tag={name}%2Fbusybox%3Atest,team=red+%26+blue,tier=1"
    assert engine.docker("logs", "--details", name).stdout == f"{shown} to out\n"


def test_details_of_a_log_without_attributes_begin_with_a_space(
    engine: EngineProcess, image: str, name: str
) -> None:
    run(engine, name, image)
    shown = engine.docker("logs", "--details", name)
    assert (shown.stdout, shown.stderr) == (" to out\n", " to errors\n")
    assert engine.docker("logs", name).stdout == "to out\n"


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("{{.ID}} {{.FullID}}", "{short} {id}"),
        ("{{.ImageID}} {{.DaemonName}}", "{image} orlop"),
        ('{{upper "x"}}{{(.ExtraAttributes nil).team}}', "Xred"),
        ("{{.Command}}", "sh -c echo to out; echo to errors >&2"),
        ("plain", "plain"),
    ],
)
def test_tag_is_a_go_template_about_the_container(
    engine: EngineProcess, image: str, name: str, template: str, tag: str
) -> None:
    run(
        engine,
        name,
        image,
        *("--label", "team=red", "--log-opt", "labels=team", "--log-opt", f"tag={template}"),
    )
    full, config = engine.out("inspect", "-f", "{{.Id}} {{.Image}}", name).split()
    wanted = tag.format(short=full[:12], id=full, image=config.removeprefix("sha256:")[:12])
    (first, _) = entries(engine, name)
    assert first["attrs"] == {"tag": wanted, "team": "red"}


def test_tag_has_the_name_that_the_container_has_at_its_start(
    engine: EngineProcess, image: str, name: str
) -> None:
    engine.docker("create", "--name", f"{name}-old", "--log-opt", "tag={{.Name}}", image, *SPOKEN)
    engine.docker("rename", f"{name}-old", name)
    engine.docker("start", "-a", name)
    assert entries(engine, name)[0]["attrs"] == {"tag": name}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("tag={{.Nothing}}", "no entry for key 'Nothing'"),
        ("tag={{.ID", "unclosed"),
        ("tag={{range .ContainerArgs}}x{{end}}", "range is not supported here"),
        ("tag=" + "x" * 5000, "longer than 4096"),
        ("labels-regex=(", "log option labels-regex"),
        ("env-regex=(a+)+$", "takes too long"),
        ("nonsense=1", "unknown log option 'nonsense' for json-file"),
    ],
)
def test_option_that_no_start_could_use_is_refused_when_the_container_is_made(
    engine: EngineProcess, image: str, name: str, option: str, message: str
) -> None:
    many = "a" * 60 + "_"
    made = engine.docker(
        *("create", "--name", name, "-e", f"{many}=1", "--log-opt", option, image, *SPOKEN),
        check=False,
    )
    assert made.returncode != 0
    assert message in made.stderr
    assert "Traceback" not in engine.log()
    assert engine.out("ps", "-aq", "--filter", f"name={name}") == ""


def test_driver_local_keeps_a_log_that_rotates_into_compressed_files(
    engine: EngineProcess, image: str, name: str
) -> None:
    engine.docker(
        *("run", "--name", name, "--log-driver", "local"),
        *("--log-opt", "max-size=100k", "--log-opt", "max-file=3"),
        *(image, "seq", "10000"),
    )
    shown = engine.out("logs", name).split()
    assert shown == [str(number) for number in range(10001 - len(shown), 10001)]
    assert len(shown) > 2000
    assert engine.out("logs", "--tail", "1", name) == "10000"
    assert engine.out("inspect", "-f", "{{.HostConfig.LogConfig.Type}}{{.LogPath}}", name) == (
        "local"
    )


def test_json_file_compresses_where_it_is_asked_to(
    engine: EngineProcess, image: str, name: str
) -> None:
    engine.docker(
        *("run", "-d", "--name", name, "--log-opt", "max-size=100k", "--log-opt", "max-file=2"),
        *("--log-opt", "compress=true", image, "sh", "-c", "seq 3000; sleep 1000"),
    )
    path = Path(engine.out("inspect", "-f", "{{.LogPath}}", name))
    rotated = path.with_name(path.name + ".1.gz")
    deadline = time.monotonic() + 30
    while not rotated.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert b'"log":"' in gzip.decompress(rotated.read_bytes())
    engine.docker("rm", "-f", name)
    assert not path.parent.exists()


def test_info_lists_the_drivers(sdk: docker_sdk.DockerClient) -> None:
    drivers = ["fluentd", "journald", "json-file", "local", "syslog"]
    assert sdk.info()["Plugins"]["Log"] == drivers
