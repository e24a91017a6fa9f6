"""Clones of one template share its memory, and nothing that identifies a machine."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orlop.errors import UnavailableError
from orlop.microvm import setup
from orlop.microvm.machine import Kind, Machine
from orlop.microvm.system import interpreter
from orlop.microvm.template import Template, remove_unused, template
from tests.integration.microvm.conftest import ROOT

_WHO = """
import os, time
def read(path):
    return open(path).read().strip()
print([os.getrandom(32).hex(), os.urandom(32).hex(), read("/etc/machine-id"),
       read("/proc/sys/kernel/random/boot_id"), read("/proc/sys/kernel/random/uuid"),
       os.uname().nodename, str(time.time())])
"""


@pytest.fixture(scope="module")
def clones(saved: Template) -> Iterator[list[Machine]]:
    with ExitStack() as undo:
        yield [undo.enter_context(saved.clone(f"clone-{number}")) for number in range(4)]


def python(machine: Machine, code: str) -> str:
    output = machine.agent.run([interpreter(), "-I", "-S", "-c", code])
    assert output.status == 0, output.stderr
    return output.stdout.decode().strip()


def test_no_two_clones_share_random_bytes_or_an_identity(clones: list[Machine]) -> None:
    told = [json.loads(python(machine, _WHO).replace("'", '"')) for machine in clones]
    for values in zip(*told, strict=True):
        assert len(set(values)) == len(clones), values
    assert [who[5] for who in told] == ["clone-0", "clone-1", "clone-2", "clone-3"]


def test_a_clone_has_the_clock_of_the_host(clones: list[Machine]) -> None:
    before = time.time()
    seen = float(python(clones[0], "import time; print(time.time())"))
    assert before - 1 < seen < time.time() + 1


def test_what_a_clone_writes_stays_its_own(saved: Template, clones: list[Machine]) -> None:
    memory = Path(saved.folder, "memory")
    before = digest(memory)
    for number, machine in enumerate(clones[:2]):
        python(machine, f"open('/run/mine', 'w').write('{number}' * 5_000_000)")
    read = "print(set(open('/run/mine').read()))"
    assert [python(machine, read) for machine in clones[:2]] == ["{'0'}", "{'1'}"]
    assert python(clones[2], "import os; print(os.path.exists('/run/mine'))") == "False"
    with saved.clone("later") as later:
        assert python(later, "import os; print(os.path.exists('/run/mine'))") == "False"
    assert digest(memory) == before


def test_a_template_is_used_again(saved: Template) -> None:
    before = Path(saved.folder, "memory").stat()
    assert template(str(ROOT), saved.kind) == saved
    assert Path(saved.folder, "memory").stat() == before
    assert not Path(saved.folder).with_name("building").exists()


def test_only_templates_that_nobody_uses_are_removed(saved: Template, tmp_path: Path) -> None:
    parent = tmp_path / "templates"
    for name, age_s in (("old", 25 * 3600), ("used", 3600)):
        (parent / name).mkdir(parents=True)
        os.utime(parent / name, (time.time() - age_s,) * 2)
    remove_unused(str(parent))
    assert [path.name for path in parent.iterdir()] == ["used"]
    assert Path(saved.folder).stat().st_mtime > time.time() - 3600


def test_the_guests_system_is_built_again_when_a_file_of_the_host_changes(
    kind: Kind, tmp_path: Path
) -> None:
    image = Path(kind.kernel).parent
    root = tmp_path / "microvm"
    (root / "images").mkdir(parents=True)
    (root / "images" / "before").symlink_to(image)
    (root / "current").symlink_to("images/before")
    source = json.loads((image.parents[1] / "source").read_text())
    (root / "source").write_text(json.dumps(source))
    assert setup.current(str(tmp_path)) == str(image)
    source["files"][setup.__file__] = [0, 0]
    (root / "source").write_text(json.dumps(source))
    built = setup.current(str(tmp_path))
    assert built == str(root / "images" / image.name)
    assert setup.current(str(tmp_path)) == built


def test_a_damaged_template_is_refused_in_a_sentence(saved: Template, tmp_path: Path) -> None:
    (tmp_path / "memory").symlink_to(f"{saved.folder}/memory")
    (tmp_path / "state").write_bytes(b"no state")
    with pytest.raises(UnavailableError, match="QEMU"):
        Template(saved.kind, str(tmp_path)).clone("damaged")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
