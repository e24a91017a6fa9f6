"""The other commands, each against a real engine."""

import io
import json
import os
import signal
import tarfile
import time
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, CommandLine


@pytest.fixture
def web(cli: CommandLine) -> str:
    """A container that runs."""
    script = "echo out; echo err >&2; exec sleep 1000"
    cli.out("run", "-d", "--name", "web", "--label", "a.b=c", IMAGE, "sh", "-c", script)
    return "web"


def state(cli: CommandLine, name: str) -> str:
    return cli.out("inspect", "-f", "{{.State.Status}}", name)


def test_ps_lists_in_a_table_a_template_or_json(cli: CommandLine, web: str) -> None:
    heading, row = cli.out("ps").splitlines()
    assert heading.split("  ")[0] == "CONTAINER ID"
    assert "web" in row
    assert "Up " in row
    assert cli.out("ps", "--format", '{{.Names}} {{.Label "a.b"}}') == "web c"
    assert json.loads(cli.out("ps", "--format", "json"))["Image"] == IMAGE
    assert cli.out("ps", "-q", "--filter", "name=other") == ""


def test_logs_show_both_streams_apart(cli: CommandLine, web: str) -> None:
    deadline = time.monotonic() + 10
    while len((done := cli.run("logs", web)).stdout + done.stderr) < len("outerr\n\n"):
        assert time.monotonic() < deadline, done
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert cli.run("logs", "--tail", "-1", web).stdout == b"out\n"
    stamped = cli.run("logs", "-t", "--tail", "1", web)
    assert len((stamped.stdout + stamped.stderr).splitlines()) == 1
    assert b"T" in stamped.stdout + stamped.stderr
    assert cli.run("logs", "--since", "1s", "--until", "0s", "no-such").returncode == 1


def test_followed_logs_end_with_the_container(cli: CommandLine) -> None:
    cli.out("run", "-d", "--name", "short", IMAGE, "sh", "-c", "echo a; sleep 1; echo b")
    assert cli.out("logs", "-f", "short") == "a\nb"


def test_life_goes_through_its_states(cli: CommandLine, web: str) -> None:
    assert cli.out("pause", web) == web
    assert state(cli, web) == "paused"
    cli.out("unpause", web)
    cli.out("restart", "-t", "0", web)
    assert state(cli, web) == "running"
    cli.out("kill", web)
    assert cli.out("wait", web) == "137"
    assert state(cli, web) == "exited"
    cli.out("start", web)
    cli.out("stop", "-t", "0", web)
    assert state(cli, web) == "exited"
    cli.out("rename", web, "renamed")
    assert cli.out("rm", "renamed") == "renamed"
    assert cli.containers() == []


def test_running_container_is_removed_by_force_only(cli: CommandLine, web: str) -> None:
    done = cli.run("rm", web)
    assert done.returncode == 1
    assert done.stderr.startswith(b"orlop: ")
    assert cli.out("rm", "-f", web) == web


def test_each_name_is_tried_and_the_failures_are_told(cli: CommandLine, web: str) -> None:
    done = cli.run("stop", "-t", "0", "no-such", web)
    assert (done.returncode, done.stdout) == (1, b"web\n")
    assert b"no-such" in done.stderr


def test_inspect_shows_json_or_what_is_asked_and_names_what_is_missing(
    cli: CommandLine, web: str
) -> None:
    (found,) = json.loads(cli.out("inspect", web))
    assert found["Config"]["Labels"]["a.b"] == "c"
    assert cli.out("inspect", "-f", "{{json .Config.Image}}", web) == f'"{IMAGE}"'
    assert cli.out("inspect", "--type", "image", "-f", "{{.Os}}", IMAGE) == "linux"
    done = cli.run("inspect", web, "no-such")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)) == 1
    assert b"no such object: no-such" in done.stderr


def test_top_shows_the_processes(cli: CommandLine, web: str) -> None:
    heading, *rows = cli.out("top", web).splitlines()
    assert heading.startswith("UID")
    assert any("sleep 1000" in row for row in rows)


def test_stats_are_shown_once(cli: CommandLine, web: str) -> None:
    form = "{{.Name}} {{.PIDs}} {{.MemUsage}} {{.CPUPerc}}"
    out = cli.out("stats", "--no-stream", "--format", form, web)
    assert out.startswith("web 1 ")
    assert out.endswith("%")


def test_changes_are_listed(cli: CommandLine, web: str) -> None:
    cli.out("exec", web, "sh", "-c", "echo x > /new; rm /etc/group")
    lines = cli.out("diff", web).splitlines()
    assert {"A /new", "C /etc", "D /etc/group"} <= set(lines)


def test_limits_are_updated(cli: CommandLine, web: str) -> None:
    cli.out("update", "--cpu-shares", "512", "--pids-limit", "77", web)
    assert cli.out("inspect", "-f", "{{.HostConfig.CpuShares}}", web) == "512"
    assert cli.run("update", web).returncode == 1


def test_file_is_copied_in_and_out(cli: CommandLine, web: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    (tmp_path / "a").chmod(0o640)
    cli.out("cp", str(tmp_path / "a"), f"{web}:/tmp/b")
    assert cli.out("exec", web, "cat", "/tmp/b") == "content"
    cli.out("cp", f"{web}:/tmp/b", str(tmp_path / "c"))
    assert (tmp_path / "c").read_text() == "content"
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o640
    done = cli.run("cp", f"{web}:/no/such", str(tmp_path))
    assert done.returncode == 1
    assert b"/no/such" in done.stderr


def test_folder_is_copied_as_cp_would(cli: CommandLine, web: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    (folder / "link").symlink_to("deep/file")
    cli.out("cp", str(folder), f"{web}:/tmp")
    cli.out("cp", f"{folder}/.", f"{web}:/root")
    out = cli.out("exec", web, "sh", "-c", "cat /tmp/folder/deep/file /root/link")
    assert out == "xx"
    cli.out("cp", f"{web}:/tmp/folder", str(tmp_path / "new"))
    assert (tmp_path / "new" / "deep" / "file").read_text() == "x"
    assert os.readlink(tmp_path / "new" / "link") == "deep/file"
    archive = cli.run("cp", f"{web}:/tmp/folder", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert "folder/deep/file" in tar.getnames()


def test_copy_out_never_leaves_its_destination(cli: CommandLine, web: str, tmp_path: Path) -> None:
    """A link in the copy must not lead a later entry of it out of the destination."""
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    cli.out("exec", web, "sh", "-c", f"mkdir -p /t/d; ln -s {outside} /t/d/l; echo x > /t/d/z")
    cli.out("cp", f"{web}:/t/d", str(target))
    assert os.readlink(target / "d" / "l") == str(outside)
    cli.out("exec", web, "sh", "-c", "rm /t/d/l; mkdir /t/d/l; echo pwned > /t/d/l/f")
    cli.run("cp", f"{web}:/t/d", str(target))
    assert list(outside.iterdir()) == []


def test_image_is_committed_saved_loaded_and_removed(
    cli: CommandLine, web: str, tmp_path: Path
) -> None:
    cli.out("exec", web, "sh", "-c", "echo kept > /kept")
    assert cli.out("commit", "-c", 'CMD ["cat", "/kept"]', web, "mine:1").startswith("sha256:")
    assert cli.out("run", "--rm", "mine:1") == "kept"
    cli.out("tag", "mine:1", "mine:2")
    assert cli.out("images", "--format", "{{.Tag}}", "mine").split() == ["1", "2"]
    assert "CREATED BY" in cli.out("history", "mine:1")
    cli.out("save", "-o", str(tmp_path / "mine.tar"), "mine:1")
    assert "Untagged: mine:2" in cli.out("rmi", "mine:2")
    cli.out("rmi", "mine:1")
    assert cli.run("rmi", "mine:1").returncode == 1
    assert "mine:1" in cli.out("load", "-i", str(tmp_path / "mine.tar"))
    assert cli.out("run", "--rm", "mine:1") == "kept"
    cli.out("rmi", "mine:1")


def test_file_system_is_exported_and_imported(cli: CommandLine, web: str, tmp_path: Path) -> None:
    file = tmp_path / "root.tar"
    cli.out("export", "-o", str(file), web)
    with tarfile.open(file) as tar:
        assert "bin/busybox" in tar.getnames()
    cli.out("import", "-c", 'CMD ["/bin/echo", "imported"]', str(file), "flat:1")
    assert cli.out("run", "--rm", "flat:1") == "imported"
    cli.out("rmi", "flat:1")


def test_archive_that_cannot_be_written_leaves_no_half(cli: CommandLine, tmp_path: Path) -> None:
    done = cli.run("save", "-o", str(tmp_path / "x.tar"), "no-such-image:1")
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_volume_outlives_its_containers(cli: CommandLine) -> None:
    assert cli.out("volume", "create", "--label", "a=b", "kept") == "kept"
    cli.out("run", "--rm", "-v", "kept:/data", IMAGE, "sh", "-c", "echo x > /data/f")
    assert cli.out("run", "--rm", "-v", "kept:/data", IMAGE, "cat", "/data/f") == "x"
    assert cli.out("volume", "ls", "--format", '{{.Name}} {{.Label "a"}}') == "kept b"
    assert cli.out("volume", "inspect", "-f", "{{.Name}}", "kept") == "kept"
    assert cli.out("volume", "rm", "kept") == "kept"
    assert cli.run("volume", "rm", "kept").returncode == 1


def test_system_commands_answer(cli: CommandLine, web: str) -> None:
    assert "Server:" in cli.out("version")
    assert "Containers: 1" in cli.out("info")
    assert cli.out("info", "-f", "{{.OSType}}") == "linux"
    heading, *rows = cli.out("system", "df").splitlines()
    assert heading.split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [row.split("  ")[0] for row in rows][:3] == ["Images", "Containers", "Local Volumes"]
    cli.out("stop", "-t", "0", web)
    assert "Total reclaimed space" in cli.out("system", "prune", "-f")
    assert cli.containers() == []


def test_layers_in_use_are_not_reclaimable_because_another_image_shares_them(
    cli: CommandLine, web: str
) -> None:
    if "ORLOP_HOST" in cli.environment:
        pytest.skip("dockerd does not tell how much is reclaimable")
    shown = ("system", "df", "--format", "{{.Type}}: {{.Reclaimable}}")
    assert cli.out(*shown).splitlines()[0] == "Images: 0B (0%)"
    cli.out("commit", web, "child:test")  # whose own layer is of some kB
    assert cli.out(*shown).splitlines()[0].endswith("(0%)")
    cli.out("rm", "-f", web)
    assert cli.out(*shown).splitlines()[0].endswith("(100%)")
    cli.out("rmi", "child:test")


def test_events_tell_what_happened(cli: CommandLine) -> None:
    cli.out("run", "--rm", "--name", "seen", IMAGE, "true")
    words = ("events", "--since", "1m", "--until", "0s", "--filter", "container=seen")
    actions = cli.out(*words, "--format", "{{.Action}}").split()
    wanted = [action for action in actions if action in ("create", "start", "die", "destroy")]
    assert wanted == ["create", "start", "die", "destroy"]


def test_prune_asks_first(cli: CommandLine) -> None:
    cli.out("create", "--name", "kept", IMAGE)
    assert "[y/N]" in cli.out("container", "prune", stdin=b"n\n")
    assert len(cli.containers()) == 1
    cli.out("container", "prune", stdin=b"y\n")
    assert cli.containers() == []


def test_interrupted_command_ends_with_130_and_says_nothing(cli: CommandLine) -> None:
    with cli.start("events", "--since", "1m", "--format", "{{.Action}}") as process:
        cli.out("volume", "create", "noise")
        cli.out("volume", "rm", "noise")
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")


def test_what_is_not_there_need_not_be_removed_by_force(cli: CommandLine) -> None:
    done = cli.run("rm", "-f", "no-such")
    assert (done.returncode, done.stdout) == (0, b"")
    assert cli.run("rm", "no-such").returncode == 1


def test_copies_are_ours_unless_owners_are_kept(cli: CommandLine, web: str, tmp_path: Path) -> None:
    cli.out("exec", web, "sh", "-c", "echo x > /owned; chown 5:6 /owned")
    for words, owner in (((), (os.geteuid(), os.getegid())), (("-a",), (5, 6))):
        cli.out("cp", *words, f"{web}:/owned", str(tmp_path / "copy"))
        status = (tmp_path / "copy").stat()
        assert (status.st_uid, status.st_gid) == owner


def test_the_whole_root_is_copied_without_what_the_kernel_makes_up(
    cli: CommandLine, web: str
) -> None:
    archive = cli.run("cp", f"{web}:/.", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = {name.removeprefix("./").rstrip("/") for name in tar.getnames()}
    assert {"proc", "sys", "bin/busybox"} <= names
    assert [name for name in names if name.startswith(("proc/", "sys/"))] == []


def test_copies_that_are_ours_have_no_rights_of_the_containers_making(
    cli: CommandLine, web: str, tmp_path: Path
) -> None:
    cli.out("exec", web, "sh", "-c", "echo x > /setid; chmod 6755 /setid; mknod /null c 1 3")
    for words, mode in (((), 0o755), (("-a",), 0o6755)):
        cli.out("cp", *words, f"{web}:/setid", str(tmp_path / "copy"))
        assert (tmp_path / "copy").stat().st_mode & 0o7777 == mode
    done = cli.run("cp", f"{web}:/null", str(tmp_path / "null"))
    assert (done.returncode, b"is a device" in done.stderr) == (1, True)
    assert not (tmp_path / "null").exists()
    cli.out("cp", "-a", f"{web}:/null", str(tmp_path / "null"))
    assert (tmp_path / "null").is_char_device()


def test_a_folder_that_is_a_layout_is_loaded(cli: CommandLine, tmp_path: Path) -> None:
    cli.out("save", "-o", str(tmp_path / "a.tar"), IMAGE)
    with tarfile.open(tmp_path / "a.tar") as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    assert cli.out("load", "-i", str(tmp_path / "layout")) == f"Loaded image: {IMAGE}"
