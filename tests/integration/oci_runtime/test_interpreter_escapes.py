"""Containers that try to change the interpreter that `orlop-runtime` runs from (CVE-2019-5736).

The victim is a copy of ours, so that a test that fails breaks nothing.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from orlop.lifecycle import unsealed
from tests.integration.engines import EngineProcess
from tests.integration.oci_runtime.program import SCRIPT, OCIBundle, Program, wait_for
from tests.integration.runtime.test_runtime_escapes import swap_forever

SEALED = Path("/run/orlop-sealed")
#: Python that the host's interpreter is made to run inside, to be written to once it has gone.
EXPLOIT = """\
#!/proc/self/exe
import os
victim = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(victim, True)
script = f"sleep 0.3; {{ echo > /proc/self/fd/{victim}; }} 2> /tmp/result; echo done >> /tmp/result"
os.execv("/bin/sh", ["sh", "-c", script])
"""


class Victim(Program):
    """`orlop-runtime` with an interpreter of its own, and the place where that is sealed."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        self.interpreter = self.bin / interpreter.name
        shutil.copy(interpreter, self.interpreter)
        (folder / "lib").symlink_to(Path(sys.base_prefix, "lib"))
        (self.bin / "orlop-main").write_text(f"#!{self.interpreter}\n")
        super().__init__(folder, script=Path(shutil.copy(SCRIPT, self.bin)))
        self.environment["PYTHONPATH"] = str(Path(orlop.__file__).parents[1])
        self.place = SEALED / str(self.bin)[1:]
        self.digest = self.hash()

    def hash(self) -> str:
        return hashlib.sha256(self.interpreter.read_bytes()).hexdigest()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if os.path.ismount(self.place / "bin"):
                subprocess.run(["umount", self.place / "bin"], check=True)
            shutil.rmtree(self.place, ignore_errors=True)
            unsealed.forget(str(self.bin))
        assert self.hash() == self.digest


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Victim(tmp_path)
    yield made
    made.close()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def with_the_hosts_python(bundle: OCIBundle) -> OCIBundle:
    """Give the container all that the host's interpreter needs to run inside."""
    for folder in {"/usr", sys.base_prefix}:
        bundle.mount(folder, folder, "ro")
    for name in ("lib", "lib64"):
        (bundle.root / name).symlink_to(f"usr/{name}")
    bundle.process["env"].append(f"PYTHONHOME={sys.base_prefix}")
    return bundle


def result_of(bundle: OCIBundle) -> str:
    result = bundle.root / "tmp/result"
    wait_for(lambda: result.exists() and "done" in result.read_text())
    return result.read_text()


def test_a_program_swapped_between_create_and_start_writes_to_no_interpreter(
    victim: Victim, bundle: OCIBundle
) -> None:
    with_the_hosts_python(bundle)
    program = bundle.program("/bin/x", "#!/bin/sh\n")
    bundle.process["args"] = ["/bin/x"]
    name = victim.create(bundle)
    program.write_text(EXPLOIT)
    victim.ok("start", name)
    assert "Read-only file system" in result_of(bundle)
    assert victim.hash() == victim.digest


def test_a_program_swapped_all_the_time_writes_to_no_interpreter(
    victim: Victim, bundle: OCIBundle
) -> None:
    with_the_hosts_python(bundle)
    good = bundle.program("/bin/x", "#!/bin/sh\nexit 7\n")
    bad = bundle.program("/bin/y", EXPLOIT)
    name = victim.running(bundle)
    swapper = swap_forever(good, bad)
    try:
        codes = {victim.call("exec", name, "/bin/x").returncode for _ in range(40)}
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert 7 in codes
    if (bundle.root / "tmp/result").exists():  # the race was won, for nothing
        assert "Read-only file system" in result_of(bundle)
    assert victim.hash() == victim.digest


@pytest.mark.parametrize("entry", ["/proc/self/exe", "/bin/x-script", "/bin/x-nested", "/bin/x"])
def test_the_interpreter_is_no_program_of_a_container(
    victim: Victim, bundle: OCIBundle, entry: str
) -> None:
    with_the_hosts_python(bundle)
    bundle.program("/bin/x-script", EXPLOIT)
    bundle.program("/bin/x-nested", "#! /bin/x-script\n")
    (bundle.root / "bin/x").symlink_to("/proc/1/exe")
    bundle.process["args"] = [entry]
    assert "permission denied" in victim.refused("run", "--bundle", bundle.write(), victim.id())
    name = victim.running(bundle)
    if entry != "/bin/x":  # /proc/1/exe is the container's own by then
        assert "permission denied" in victim.refused("exec", name, entry)
    assert not (bundle.root / "tmp/result").exists()


def test_who_may_trace_a_process_that_waits_cannot_write_to_its_interpreter(
    victim: Victim, bundle: OCIBundle, tmp_path: Path
) -> None:
    bundle.capable("CAP_SYS_PTRACE")
    attacker = victim.running(bundle)
    second = OCIBundle(tmp_path / "second")
    second.namespace("pid", f"/proc/{victim.pid(attacker)}/ns/pid")
    second.process["args"] = ["true"]
    waiting = victim.create(second)
    script = """
        for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in *python*) exec 9<$p/exe;; esac
        done
        touch /tmp/opened
        while [ ! -e /tmp/gone ]; do sleep 0.02; done
        { echo > /proc/self/fd/9; } 2> /tmp/result
        echo done >> /tmp/result
    """
    null = subprocess.DEVNULL
    victim.ok("exec", "--detach", attacker, "sh", "-c", script, stdout=null, stderr=null)
    wait_for((bundle.root / "tmp/opened").exists)
    victim.ok("start", waiting)
    victim.ended(waiting)
    (bundle.root / "tmp/gone").touch()
    assert "Read-only file system" in result_of(bundle)
    assert victim.hash() == victim.digest


def test_where_nothing_can_be_mounted_a_copy_in_memory_is_what_runs(
    victim: Victim, bundle: OCIBundle
) -> None:
    (bundle.root / "output").touch()
    bundle.process["args"] = ["true"]
    bundle.write()
    interpreter = victim.environment | {"PYTHONHOME": sys.base_prefix}
    name = victim.id()
    words = ["--root", str(victim.root), "create", "--bundle", str(bundle.folder), name]
    main = "from orlop.programs.oci.script import unsealed; unsealed()"
    subprocess.run(
        [victim.interpreter, "-c", main, *words],
        env=interpreter,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    assert os.readlink(f"/proc/{victim.pid(name)}/exe").startswith("/memfd:")


def test_a_name_among_the_modules_that_is_no_module_is_left_out() -> None:
    """As typing.io, until Python 3.13."""
    script = """
import sys
from orlop.programs.oci import sealed_code
sys.modules["pseudo.name"] = type("Pseudo", (), {})
index, _ = sealed_code.gathered()
assert "pseudo.name" not in index and "orlop.runtime.init" in index
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.fixture
def log_of_a_failure(victim: Victim, bundle: OCIBundle, tmp_path: Path) -> str:
    """The log of a victim that could not be sealed."""
    broken = tmp_path / "library"
    shutil.copytree(Path(orlop.__file__).parent, broken / "orlop")
    (broken / "orlop/runtime/broken.py").write_text("this is no Python\n")
    sound, victim.environment["PYTHONPATH"] = victim.environment["PYTHONPATH"], str(broken)
    log = tmp_path / "log"
    bundle.process["args"] = ["true"]
    victim.ok("--log", log, "run", "--bundle", bundle.write(), victim.id())
    victim.environment["PYTHONPATH"] = sound
    return log.read_text()


def test_a_place_that_cannot_be_made_is_removed_and_the_log_says_why(
    victim: Victim, log_of_a_failure: str
) -> None:
    assert "could not be sealed" in log_of_a_failure
    assert "broken.py" in log_of_a_failure
    assert not victim.place.exists()


@pytest.mark.usefixtures("log_of_a_failure")
def test_info_tells_of_a_runtime_that_is_not_sealed_until_it_is(
    victim: Victim, engine: EngineProcess
) -> None:
    def told() -> str:
        command = [str(SCRIPT.with_name("orlop")), "-H", engine.url, "info"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    (line,) = told().splitlines()
    assert f"WARNING: the interpreter of {victim.script} could not be sealed (SyntaxError" in line
    victim.ok("--version")
    assert told() == ""


def test_the_sealed_interpreter_is_made_once_and_follows_the_installed_one(victim: Victim) -> None:
    victim.ok("--version")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert mounts.count(str(victim.place)) == 1
    victim.ok("--version")
    assert Path("/proc/self/mountinfo").read_text() == mounts
    sealed = victim.place / "bin" / victim.interpreter.name
    replaced = victim.interpreter.with_name("new")
    shutil.copy(victim.interpreter, replaced)
    replaced.rename(victim.interpreter)
    sealed.stat()  # keeps the old one in the kernel's cache
    victim.ok("--version")
    assert sealed.stat().st_mtime_ns == victim.interpreter.stat().st_mtime_ns
    assert Path("/proc/self/mountinfo").read_text().count(str(victim.place)) == 1


def test_a_sealed_interpreter_whose_package_is_gone_is_made_anew(victim: Victim) -> None:
    copied = victim.folder / "copied"
    shutil.copytree(Path(orlop.__file__).parent, copied / "orlop")
    elsewhere, victim.environment["PYTHONPATH"] = victim.environment["PYTHONPATH"], str(copied)
    victim.ok("--version")
    assert str(copied).encode() in (victim.place / "index").read_bytes()
    shutil.rmtree(copied)
    victim.environment["PYTHONPATH"] = elsewhere
    victim.ok("--version")
    assert elsewhere.encode() in (victim.place / "index").read_bytes()


def test_a_sealed_place_that_was_removed_in_part_is_made_anew(victim: Victim) -> None:
    victim.ok("--version")
    for name in ("code", "index", "start"):
        (victim.place / name).unlink()
    victim.ok("--version")
    assert (victim.place / "start").exists()
    subprocess.run(["umount", victim.place / "bin"], check=True)
    victim.ok("--version")
    assert os.path.ismount(victim.place / "bin")


def test_a_module_that_has_changed_since_is_read_anew(victim: Victim) -> None:
    """A place made earlier keeps the code of modules, and must not keep it too long."""
    copied = victim.folder / "copied"
    shutil.copytree(Path(orlop.__file__).parent, copied / "orlop")
    victim.environment["PYTHONPATH"] = str(copied)
    before = victim.ok("--version")
    manual = copied / "orlop/programs/oci/manual.py"
    manual.write_text(manual.read_text().replace("python: ", "changed: "))
    assert victim.ok("--version") == before.replace("python: ", "changed: ") != before


@pytest.mark.parametrize("how", ["relative", "link", "space"])
def test_the_program_is_found_however_it_is_called(victim: Victim, how: str) -> None:
    if how == "relative":
        victim.script = Path("bin/orlop-runtime")
    if how == "link":
        link = victim.folder / "elsewhere"
        link.symlink_to(victim.script)
        victim.script = link
    if how == "space":
        victim.bin.rename(victim.folder / "b in")
        (victim.folder / "bin").symlink_to("b in")
        victim.script = victim.folder / "b in/orlop-runtime"
    try:
        for _ in range(2):
            assert "orlop-runtime version" in victim.ok("--version", cwd=victim.folder)
    finally:
        for mount in SEALED.glob(f"{str(victim.folder)[1:]}/**/bin"):
            if os.path.ismount(mount):
                subprocess.run(["umount", mount], check=True)
        shutil.rmtree(SEALED / str(victim.folder)[1:], ignore_errors=True)


def test_a_process_on_its_way_into_a_container_imports_nothing_more() -> None:
    """It would be the container's module, run with our rights."""
    script = "from orlop.runtime import init\ninit.shield(None)\nimport this"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'this'"


def test_what_is_imported_inside_a_container_is_not_the_containers(
    victim: Victim, bundle: OCIBundle
) -> None:
    """Modules of ours that the image has too, and that would be seen if they were run."""
    package = Path(orlop.__file__).parent
    for folder in (Path(os.__file__).parent, package):
        trap = bundle.root / str(folder)[1:]
        trap.mkdir(parents=True, exist_ok=True)
        for module in folder.glob("**/*.py"):
            copy = trap / module.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("open('/tmp/trapped', 'w').write(__file__)\n")
    bundle.process["user"] = {"uid": 1000, "gid": 1001}
    victim.sh(bundle, "true")
    for args in (["/no/such"], ["/etc/passwd"]):
        bundle.process["args"] = args
        victim.refused("run", "--bundle", bundle.write(), victim.id())
    assert not (bundle.root / "tmp/trapped").exists()
