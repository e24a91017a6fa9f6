"""Hooks around the commands: which runs when, what it is told, and what its failure means."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program, cgroups

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class Hooks:
    """Hooks that note their state in a file each, and fail where they are told to."""

    def __init__(self, bundle: OCIBundle, folder: Path) -> None:
        self.folder = folder / "hooks"
        self.folder.mkdir()
        self._hooks = bundle.config.setdefault("hooks", {})

    def note(self, *kinds: str, code: int = 0) -> None:
        for kind in kinds:
            script = f"cat > {self.folder / kind}; echo said by {kind}; exit {code}"
            self._hooks[kind] = [{"path": "/bin/sh", "args": ["sh", "-c", script]}]

    def ran(self) -> list[str]:
        return [kind for kind in KINDS if (self.folder / kind).exists()]

    def told(self, kind: str) -> Any:
        return json.loads((self.folder / kind).read_text())


@pytest.fixture
def hooks(bundle: OCIBundle, tmp_path: Path) -> Hooks:
    return Hooks(bundle, tmp_path)


def test_hooks_run_with_the_commands_that_they_belong_to(
    program: Program, bundle: OCIBundle, hooks: Hooks
) -> None:
    hooks.note("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    bundle.process["args"] = ["sleep", "600"]
    name = program.create(bundle)
    pid = program.pid(name)
    assert hooks.ran() == ["prestart", "createRuntime", "createContainer"]
    assert (hooks.told("createRuntime")["status"], hooks.told("createRuntime")["pid"]) == (
        "creating",
        pid,
    )
    program.ok("start", name)
    told = hooks.told("poststart")
    assert (told["id"], told["status"], told["pid"]) == (name, "running", pid)
    assert told["bundle"] == str(bundle.folder)
    program.ok("kill", name, "KILL")
    program.ended(name)
    assert "poststop" not in hooks.ran()
    program.ok("delete", name)
    assert hooks.told("poststop")["status"] == "stopped"


def test_run_runs_all_of_them(program: Program, bundle: OCIBundle, hooks: Hooks) -> None:
    hooks.note("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    assert program.run(bundle, "sh", "-c", "exit 3").returncode == 3
    assert hooks.ran() == [kind for kind in KINDS if kind != "startContainer"]


def test_a_hook_that_fails_while_the_container_is_made_leaves_nothing(
    program: Program, bundle: OCIBundle, hooks: Hooks
) -> None:
    for kind in ("prestart", "createRuntime", "createContainer"):
        hooks.note("poststop")
        hooks.note(kind, code=4)
        bundle.process["args"] = ["sleep", "600"]
        message = program.refused("create", "--bundle", bundle.write(), program.id())
        assert f"{kind} hook 0 (/bin/sh): exit status 4: said by {kind}" in message
        assert hooks.told("poststop")["status"] == "stopped"
        assert list(program.root.iterdir()) == []
        bundle.config["hooks"].clear()


def test_a_start_hook_that_fails_is_told_by_start(program: Program, bundle: OCIBundle) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo sorry; exit 5"]}
    bundle.config["hooks"] = {"startContainer": [hook]}
    bundle.process["args"] = ["sleep", "600"]
    name = program.create(bundle)
    message = program.refused("start", name)
    assert "startContainer hook 0 (/bin/sh): exit status 5: sorry" in message
    program.ended(name)


@pytest.mark.parametrize("command", ["start", "run"])
def test_a_hook_that_fails_after_the_start_is_the_end_of_the_container(
    program: Program, bundle: OCIBundle, hooks: Hooks, command: str
) -> None:
    hooks.note("poststart", code=6)
    hooks.note("poststop")
    bundle.process["args"] = ["sleep", "600"]
    if command == "start":
        name = program.create(bundle)
        message = program.refused("start", name)
    else:
        name = program.id()
        message = program.refused("run", "--detach", "--bundle", bundle.write(), name)
    assert "poststart hook 0 (/bin/sh): exit status 6: said by poststart" in message
    assert "container does not exist" in program.refused("state", name)
    assert list(program.root.iterdir()) == []
    assert cgroups([name]) == []
    pid = hooks.told("poststart")["pid"]
    assert not Path(f"/proc/{pid}/root/bin/busybox").exists()
    assert hooks.told("poststop")["status"] == "stopped"


def test_a_start_whose_hooks_fail_tells_of_the_hooks_of_its_end_too(
    program: Program, bundle: OCIBundle, hooks: Hooks
) -> None:
    hooks.note("poststart", code=6)
    hooks.note("poststop", code=7)
    bundle.process["args"] = ["sleep", "600"]
    message = program.refused("start", program.create(bundle))
    assert "poststart hook 0 (/bin/sh): exit status 6" in message
    assert "poststop hook 0 (/bin/sh): exit status 7" in message


def test_a_hook_that_fails_in_the_end_is_but_a_warning(
    program: Program, bundle: OCIBundle, hooks: Hooks, tmp_path: Path
) -> None:
    hooks.note("poststop", code=7)
    bundle.process["args"] = ["sleep", "600"]
    name = program.create(bundle)
    log = tmp_path / "log"
    program.ok("--log", log, "--log-format", "json", "delete", "--force", name)
    line = json.loads(log.read_text())
    assert line["level"] == "warning"
    assert "poststop hook 0 (/bin/sh): exit status 7" in line["msg"]
