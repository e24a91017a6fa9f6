"""What the program writes without a container: configurations to begin with, and its features."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.oci_runtime.program import OCIBundle, Program

SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema")


def runc(*words: str | Path) -> str:
    return subprocess.run(["runc", *words], capture_output=True, text=True, check=True).stdout


def at(document: Any, words: str) -> Any:
    for word in words.split():
        document = document[word]
    return document


def test_features_has_all_that_runc_has(program: Program) -> None:
    ours, theirs = json.loads(program.ok("features")), json.loads(runc("features"))
    for words in (
        "hooks",
        "mountOptions",
        "linux namespaces",
        "linux capabilities",
        "linux seccomp actions",
        "linux seccomp operators",
        "linux seccomp archs",
    ):
        assert set(at(theirs, words)) <= set(at(ours, words)), words
    assert ours["ociVersionMin"] == theirs["ociVersionMin"]
    for kind in ("cgroup", "apparmor", "selinux"):
        assert theirs["linux"][kind].items() <= ours["linux"][kind].items()
    assert ours["linux"]["intelRdt"] == {"enabled": False}


def test_features_has_the_fields_of_the_specification(program: Program) -> None:
    written = json.loads(program.ok("features"))
    known = json.loads((SCHEMAS / "features-schema.json").read_text())["properties"]
    assert set(written) <= set(known)
    linux = json.loads((SCHEMAS / "features-linux.json").read_text())["linux"]["properties"]
    newer = {"netDevices", "memoryPolicy"}  # of 1.3, which the package has not yet
    assert set(written["linux"]) - newer <= set(linux)


def rooted(program: Program, bundle: OCIBundle, name: str) -> Path:
    """Return a bundle's folder with a root and no configuration."""
    folder = program.folder / name
    folder.mkdir()
    shutil.copytree(bundle.root, folder / "rootfs", symlinks=True)
    return folder


def without(config: Any, *names: str) -> Any:
    return {name: value for name, value in config.items() if name not in names}


def test_spec_is_runcs_but_for_what_is_newer(program: Program, bundle: OCIBundle) -> None:
    ours, theirs = rooted(program, bundle, "ours"), rooted(program, bundle, "theirs")
    for option in ((), ("--rootless",)):
        program.ok("spec", "--bundle", ours, *option)
        runc("spec", "--bundle", theirs, *option)
        one, other = (json.loads((f / "config.json").read_text()) for f in (ours, theirs))
        assert without(one, "ociVersion", "hostname", "process", "linux", "mounts") == without(
            other, "ociVersion", "hostname", "process", "linux", "mounts"
        )
        other["process"]["capabilities"].pop("ambient", None)  # not in runc 1.4
        assert one["process"] == other["process"]
        assert without(one["linux"], "namespaces") == without(other["linux"], "namespaces")
        kinds = [{entry["type"] for entry in c["linux"]["namespaces"]} for c in (one, other)]
        assert kinds[0] - kinds[1] <= {"cgroup"}
        assert kinds[1] <= kinds[0]
        places = [[m["destination"] for m in c["mounts"]] for c in (one, other)]
        assert set(places[0]) <= set(places[1])
        for folder in (ours, theirs):
            (folder / "config.json").unlink()


def test_what_spec_writes_can_be_run(program: Program, bundle: OCIBundle) -> None:
    folder = rooted(program, bundle, "made")
    program.ok("spec", "-b", folder)
    config = json.loads((folder / "config.json").read_text())
    config["process"].update(terminal=False, args=["sh", "-c", "echo $$; id -u"])
    (folder / "config.json").write_text(json.dumps(config))
    assert program.ok("run", "-b", folder, program.id()) == "1\n0\n"
    assert "Remove it first" in program.refused("spec", "-b", folder)
