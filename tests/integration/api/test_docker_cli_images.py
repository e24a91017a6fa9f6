"""Images, with the docker command of Debian's docker-cli against a real engine."""

import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
CREATED_S = 1735787045  # 2025-01-02T03:04:05Z
pytestmark = pytest.mark.usefixtures("image")


def test_images_lists_what_was_loaded(engine: EngineProcess) -> None:
    assert IMAGE in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()


def test_image_can_be_tagged_and_untagged(engine: EngineProcess) -> None:
    engine.docker("tag", IMAGE, "other/busybox:v1")
    image_id = engine.out("inspect", "-f", "{{.Id}}", "other/busybox:v1")
    assert image_id == engine.out("inspect", "-f", "{{.Id}}", IMAGE)
    assert "Untagged: other/busybox:v1" in engine.out("rmi", "other/busybox:v1")
    assert engine.docker("image", "inspect", "other/busybox:v1", check=False).returncode == 1
    assert engine.docker("image", "inspect", IMAGE).returncode == 0


@pytest.mark.parametrize("command", [("tag", "host", "mine"), ("save", "host"), ("rmi", "host")])
def test_the_built_in_image_stays_what_it_is(
    engine: EngineProcess, command: tuple[str, ...]
) -> None:
    refused = engine.docker(*command, check=False)
    assert refused.returncode == 1
    assert "the image host is this machine's own" in refused.stderr
    assert engine.out("run", "--rm", "host", "echo", "hello") == "hello"


def test_history_tells_how_an_image_was_made(engine: EngineProcess) -> None:
    assert engine.out("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE) == "busybox"


def test_image_goes_to_a_registry_and_comes_back(
    engine: EngineProcess, loopback_registry: str
) -> None:
    remote = f"{loopback_registry}/team/busybox:v1"
    engine.docker("tag", IMAGE, remote)
    pushed = engine.out("push", remote)
    digest = re.search(r"v1: digest: (sha256:[0-9a-f]{64}) size: \d+", pushed)
    assert digest is not None, pushed
    engine.docker("rmi", remote)
    pulled = engine.out("pull", remote)
    assert f"Digest: {digest[1]}" in pulled
    assert f"Status: Downloaded newer image for {remote}" in pulled
    assert engine.out("run", "--rm", remote, "echo", "hello") == "hello"
    assert "Image is up to date" in engine.out("pull", remote)
    engine.docker("rmi", remote)


def test_pull_draws_bars_on_a_terminal(engine: EngineProcess, loopback_registry: str) -> None:
    remote = f"{loopback_registry}/team/bars:v1"
    engine.docker("tag", IMAGE, remote)
    engine.docker("push", remote)
    engine.docker("rmi", remote)
    with Terminal(engine, "pull", remote) as terminal:
        terminal.expect("Pulling from team/bars")
        terminal.expect("Status: ")
        assert terminal.wait() == 0
    engine.docker("rmi", remote)


def test_run_pulls_an_image_that_is_missing(engine: EngineProcess, loopback_registry: str) -> None:
    remote = f"{loopback_registry}/team/missing:v1"
    engine.docker("tag", IMAGE, remote)
    engine.docker("push", remote)
    engine.docker("rmi", remote)
    done = engine.docker("run", "--rm", remote, "echo", "pulled")
    assert done.stdout == "pulled\n"
    assert "Unable to find image" in done.stderr
    engine.docker("rmi", remote)


def test_pull_of_an_unknown_image_says_so(engine: EngineProcess, loopback_registry: str) -> None:
    done = engine.docker("pull", f"{loopback_registry}/team/nowhere:v1", check=False)
    assert done.returncode == 1
    assert "team/nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_saved_image_can_be_loaded(engine: EngineProcess, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    engine.docker("tag", IMAGE, "saved:v1")
    engine.docker("save", "-o", str(archive), "saved:v1")
    engine.docker("rmi", "saved:v1")
    assert engine.out("load", "-i", str(archive)) == "Loaded image: saved:v1"
    assert engine.out("run", "--rm", "saved:v1", "echo", "again") == "again"
    engine.docker("rmi", "saved:v1")


def test_load_of_rubbish_says_so(engine: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"rubbish" * 1000)
    done = engine.docker("load", "-i", str(tmp_path / "x.tar"), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_container_can_be_committed_to_an_image(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "--name", name, IMAGE, "sh", "-c", "echo new >/made")
    digest = engine.out("commit", "-c", "CMD cat /made", "-m", "why", name, "made:v1")
    assert digest.startswith("sha256:")
    assert engine.out("run", "--rm", "made:v1") == "new"
    engine.docker("rmi", "made:v1")


def test_import_makes_an_image_of_a_root(engine: EngineProcess, name: str, tmp_path: Path) -> None:
    engine.docker("create", "--name", name, IMAGE)
    engine.docker("export", "-o", str(tmp_path / "root.tar"), name)
    engine.docker("import", "-c", "ENV PATH=/bin", str(tmp_path / "root.tar"), "imported:v1")
    assert engine.out("run", "--rm", "imported:v1", "echo", "in") == "in"
    engine.docker("rmi", "imported:v1")


def test_an_image_for_another_platform_is_made_and_warned_of(
    engine: EngineProcess, name: str, tmp_path: Path
) -> None:
    engine.docker("create", "--name", name, IMAGE)
    engine.docker("export", "-o", str(tmp_path / "root.tar"), name)
    engine.docker("import", "--platform", "linux/s390x", str(tmp_path / "root.tar"), "foreign:1")
    try:
        assert engine.out("image", "inspect", "-f", "{{.Architecture}}", "foreign:1") == "s390x"
        words = ("run", "--rm", "foreign:1", "/bin/echo", "runs")
        done = engine.docker(*words)
        assert "platform (linux/s390x) does not match" in done.stderr
        assert done.stdout == "runs\n"
        assert engine.docker("run", "--rm", IMAGE, "true").stderr == ""
    finally:
        engine.docker("rmi", "-f", "foreign:1")


def test_search_is_refused_in_a_sentence(engine: EngineProcess) -> None:
    done = engine.docker("search", "x", check=False)
    assert "searching registries is not supported" in done.stderr


def test_skopeo_copies_from_and_to_the_engine(engine: EngineProcess, tmp_path: Path) -> None:
    layout = f"oci:{tmp_path / 'layout'}:x"
    hosts = ("--src-daemon-host", engine.url), ("--dest-daemon-host", engine.url)
    skopeo = ("skopeo", "copy", "--quiet")
    subprocess.run([*skopeo, *hosts[0], f"docker-daemon:{IMAGE}", layout], check=True)
    subprocess.run([*skopeo, *hosts[1], layout, "docker-daemon:copied:v1"], check=True)
    assert engine.out("run", "--rm", "copied:v1", "echo", "copied") == "copied"
    engine.docker("rmi", "copied:v1")


def test_images_of_a_name_are_shown_with_that_name_only(engine: EngineProcess) -> None:
    engine.docker("tag", IMAGE, "other-name:1")
    try:
        shown = engine.out("images", "--format", "{{.Repository}}:{{.Tag}}", "other-name")
        assert shown == "other-name:1"
    finally:
        engine.docker("rmi", "other-name:1")


def test_disk_usage_tells_what_images_share(engine: EngineProcess) -> None:
    child = engine.out("create", IMAGE, "true")
    engine.docker("commit", child, "grown:1")
    try:
        (shared,) = [
            image["SharedSize"]
            for image in json.loads(engine.out("system", "df", "-v", "--format", "json"))["Images"]
            if image["Repository"] == "grown"
        ]
        assert shared not in ("N/A", "0B")
    finally:
        engine.docker("rm", child)
        engine.docker("rmi", "grown:1")


def test_a_new_volume_holds_what_the_image_has_there_links_and_all(
    engine: EngineProcess, name: str
) -> None:
    script = "mkdir -p /data/in; echo x > /data/in/a; ln /data/in/a /data/b; chmod 2711 /data"
    engine.docker("run", "--name", name, IMAGE, "sh", "-c", script)
    engine.docker("commit", name, "with/data:v1")
    engine.docker("rm", name)
    try:
        shown = engine.out(
            *("run", "--rm", "-v", "/data", "with/data:v1"),
            *("stat", "-c", "%n %h %a", "/data", "/data/in/a", "/data/b"),
        )
    finally:
        engine.docker("rmi", "with/data:v1")
    assert shown.splitlines() == ["/data 3 2711", "/data/in/a 2 644", "/data/b 2 644"]


def test_filters_tell_images_of_the_same_second_apart(engine: EngineProcess) -> None:
    container = engine.out("create", IMAGE, "true")
    names = ["second-a:1", "second-b:1"]
    try:
        for name in names:
            engine.out("commit", container, name)
        listed = ["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter"]
        assert "second-b:1" in engine.out(*listed, "since=second-a:1").split()
        assert "second-a:1" in engine.out(*listed, "before=second-b:1").split()
        assert engine.out(*listed, "reference=second-*").split() == names[::-1]
    finally:
        engine.docker("rm", container)
        engine.docker("rmi", *names, check=False)


def test_save_of_a_repository_has_all_its_tags_and_each_image_once(
    engine: EngineProcess, tmp_path: Path
) -> None:
    names = ["saved:1", "saved:2", "saved-not:1"]
    for name in names:
        engine.docker("tag", IMAGE, name)
    try:
        engine.docker("save", "-o", str(tmp_path / "saved.tar"), "saved")
    finally:
        engine.docker("rmi", *names)
    with tarfile.open(tmp_path / "saved.tar") as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        (image,) = json.load(file)
        index = tar.extractfile("index.json")
        assert index is not None
        assert tar.getmember(image["Layers"][0]).mtime == CREATED_S
        entries = [entry["annotations"] for entry in json.load(index)["manifests"]]
    assert image["RepoTags"] == ["saved:1", "saved:2"]
    assert [entry["org.opencontainers.image.ref.name"] for entry in entries] == ["1", "2"]
    assert entries[0]["io.containerd.image.name"] == "docker.io/library/saved:1"
