"""An engine to be killed, a container that has to outlive it all, and the operations between."""

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orlop.shim.client import Client
from tests.integration.engines import EngineProcess
from tests.integration.kills.docker import Docker
from tests.integration.kills.remains import CGROUPS, Remains, assert_same, reaping, take, until
from tests.integration.kills.strikes import chosen, noting, striking

_REST_S, _LOOKS = 0.5, 30  # between two looks, and how many at most

#: Counts for ever; says goodbye and ends with 43 when asked to.
COUNT = (
    "trap 'echo bye; exit 43' TERM; i=0;"
    " while :; do echo line $i; i=$((i+1)); sleep 0.03 & wait $!; done"
)


class Scene:
    """One engine, whose containers have cgroups below one of this scene's own."""

    def __init__(self, folder: Path) -> None:
        self.engine = EngineProcess(folder)
        self.docker = Docker(self.engine.socket)
        self.cgroup = f"orlop-{uuid.uuid4().hex[:8]}"
        self.witness = ""
        self.may_lose_lines = False  # as where the process that pumps output is killed
        self.before = self.look()

    def open(self) -> None:
        """Start the engine and the witness, and remember what that takes."""
        self.engine.start()
        self.remove(self.run("true"))
        self.docker.ok("POST", "/images/prune")
        self.witness = self.run(COUNT)
        self.docker.ok("POST", f"/containers/{self.witness}/exec", {"Cmd": ["true"]})
        self.before = self._at_rest()

    def close(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.revive()
        self.engine.close()
        for hierarchy in CGROUPS.iterdir():
            with contextlib.suppress(OSError):
                os.rmdir(hierarchy / self.cgroup)

    def look(self) -> Remains:
        return take(self.engine, cgroup=self.cgroup)

    def _at_rest(self) -> Remains:
        """Look until nothing changes: the kernel takes away what was before us in its own time."""
        found = self.look()
        for _ in range(_LOOKS):
            time.sleep(_REST_S)
            last, found = found, self.look()
            if last == found:
                break
        return found

    def revive(self) -> None:
        """Start the engine if it is dead, and wait until there is a shim that answers."""
        assert self.engine.process is not None
        if self.engine.process.poll() is not None:
            self.engine.start()
        until(self._starts_something, "a container can be started again")

    def _starts_something(self) -> bool:
        """Whether the shim answers: it is asked for a signal that changes nothing."""
        try:
            ref = self.witness
            status, said = self.docker.call("POST", f"/containers/{ref}/kill?signal=CONT")
        except OSError:
            return False
        return status != 503 and "gone" not in str(said)

    def nothing_left(self, after: str) -> None:
        """Remove all but the witness, and compare what is there with what was."""
        for ref in self.all():
            self.remove(ref)
        self.docker.ok("POST", "/containers/prune")
        self.docker.ok("POST", "/images/prune")
        try:
            assert_same(self.engine, self.before, cgroup=self.cgroup, after=after)
        except AssertionError:
            self.before = self.look()  # what one test has left is no other's failure
            raise

    # Verbs

    def create(self, script: str, **host: Any) -> str:
        return str(self.docker.ok("POST", "/containers/create", self.body(script, **host))["Id"])

    def body(self, script: str, **host: Any) -> dict[str, Any]:
        return {
            "Image": "host",
            "Cmd": ["sh", "-c", script],
            "HostConfig": {"CgroupParent": f"/{self.cgroup}", **host},
        }

    def run(self, script: str, **host: Any) -> str:
        """Start a container; one that counts has counted to something when this returns."""
        ref = self.create(script, **host)
        self.docker.ok("POST", f"/containers/{ref}/start")
        if script is COUNT:
            until(lambda: self.lines(ref), "the first line")
        return ref

    def remove(self, ref: str) -> None:
        status, said = self.docker.call("DELETE", f"/containers/{ref}?force=1&v=1")
        assert status in (204, 404), said

    def all(self) -> list[str]:
        found = self.docker.ok("GET", "/containers/json?all=1")
        return [item["Id"] for item in found if item["Id"] != self.witness]

    def state(self, ref: str) -> dict[str, Any]:
        """Return State of inspect, and RestartCount with it; {} where there is none."""
        status, found = self.docker.call("GET", f"/containers/{ref}/json")
        assert status in (200, 404), found
        return {**found["State"], "Count": found["RestartCount"]} if status == 200 else {}

    def lines(self, ref: str) -> list[str]:
        """Return the lines of the log, by the file: as they were written, whatever the engine."""
        folder = self.engine.root / "containers" / ref
        names = sorted(folder.glob("*-json.log*"), key=lambda path: (len(path.name), path.name))
        found = []
        for name in reversed(names):
            written = name.read_text().splitlines()
            found += [json.loads(line)["log"].rstrip("\n") for line in written if line]
        return found

    # What must be true of a container that runs

    def assert_alive(self, ref: str) -> None:
        """Fail unless it runs, writes, and can be entered and attached to."""
        state = self.state(ref)
        assert state["Status"] == "running", state
        words = Path(f"/proc/{state['Pid']}/cmdline").read_bytes().split(b"\0")
        assert words[:2] == [b"sh", b"-c"], words
        count = len(self.lines(ref))
        until(lambda: len(self.lines(ref)) > count, "the log goes on")
        self.assert_enterable(ref)
        with contextlib.closing(self.docker.attached(ref)) as stream:
            data = b""
            while b"line" not in data:
                data += next(stream)

    def assert_enterable(self, ref: str) -> None:
        exec_id = self.docker.ok("POST", f"/containers/{ref}/exec", {"Cmd": ["sh", "-c", "exit 3"]})
        self.docker.ok("POST", f"/exec/{exec_id['Id']}/start", {"Detach": True})
        found: dict[str, Any] = {}

        def over() -> bool:
            found.update(self.docker.ok("GET", f"/exec/{exec_id['Id']}/json"))
            return not found["Running"]

        until(over, "the end of an exec")
        assert found["ExitCode"] == 3

    def assert_counted(self, ref: str, *last: str) -> None:
        """Fail unless the log has each line once, in order, and *last* in the end."""
        lines = self.lines(ref)
        if self.may_lose_lines:
            numbers = [int(line.split()[1]) for line in lines if line not in last]
            assert numbers == sorted(set(numbers)), lines
        else:
            wanted = [f"line {number}" for number in range(len(lines) - len(last))]
            assert lines == [*wanted, *last], lines


class Operation(NamedTuple):
    """prepare() returns a container; act() is what is cut short, and returns whether it was
    answered well; check() looks at the container afterwards.

    With *apart* what is started on the way cannot be traced: somebody else traces it.
    """

    prepare: Callable[[Scene], str]
    act: Callable[[Scene, str], bool]
    check: Callable[[Scene, str, bool], None]
    apart: bool = False


def _post(scene: Scene, method: str, target: str, body: Any = None) -> bool:
    """Ask, and return whether the answer was good: False if the engine died, or said no."""
    try:
        status, _ = scene.docker.call(method, target, body)
    except OSError:
        return False
    return status < 400


def _create(scene: Scene, _ref: str) -> bool:
    return _post(scene, "POST", "/containers/create?name=new", scene.body(COUNT))


def _created(scene: Scene, _ref: str, well: bool) -> None:
    state = scene.state("new")
    assert state or not well
    if state:
        assert state["Status"] == "created"
        scene.docker.ok("POST", "/containers/new/start")
        scene.assert_enterable("new")


def _start(scene: Scene, ref: str) -> bool:
    return _post(scene, "POST", f"/containers/{ref}/start")


def _started(scene: Scene, ref: str, well: bool) -> None:
    if scene.state(ref)["Status"] != "running":
        assert not well
        assert scene.state(ref)["Status"] == "created"
        assert scene.lines(ref) == []
        scene.docker.ok("POST", f"/containers/{ref}/start")
    scene.assert_alive(ref)
    scene.assert_counted(ref)


def _exec(scene: Scene, ref: str) -> bool:
    body = {"Cmd": ["sh", "-c", "sleep 0.05; exit 5"]}
    try:
        _, made = scene.docker.call("POST", f"/containers/{ref}/exec", body)
        done = _post(scene, "POST", f"/exec/{made['Id']}/start", {"Detach": False})
    except (OSError, KeyError):
        return False
    return done


def _executed(scene: Scene, ref: str, _well: bool) -> None:
    scene.assert_alive(ref)
    scene.assert_counted(ref)


def _stop(scene: Scene, ref: str) -> bool:
    return _post(scene, "POST", f"/containers/{ref}/stop?t=5")


def _stopped(scene: Scene, ref: str, well: bool) -> None:
    if not well and scene.state(ref)["Status"] == "running":
        scene.docker.ok("POST", f"/containers/{ref}/stop?t=5")
    state = scene.state(ref)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 43, 0), state
    scene.assert_counted(ref, "bye")


def _remove(scene: Scene, ref: str) -> bool:
    return _post(scene, "DELETE", f"/containers/{ref}?force=1")


def _removed(scene: Scene, ref: str, well: bool) -> None:
    state = scene.state(ref)
    assert not (state and well), state
    if state.get("Status") == "exited":
        assert state["ExitCode"] == 137
    assert state.get("Status", "gone") in ("running", "exited", "gone"), state


def _end(scene: Scene, ref: str) -> bool:
    """Have the container end by itself, and wait until the engine knows or is dead."""
    record = json.loads((scene.engine.run / "running" / ref).read_text())
    os.kill(record["pid"], signal.SIGTERM)
    return _post(scene, "POST", f"/containers/{ref}/wait?condition=removed")


def _gone(scene: Scene, ref: str, _well: bool) -> None:
    until(lambda: not scene.state(ref), "the removal of a container with --rm")


def _restarted(scene: Scene, ref: str, _well: bool) -> None:
    """It ends with 9 each time, and may be tried twice."""
    until(lambda: scene.state(ref)["Status"] == "exited", "the end of its tries")
    state = scene.state(ref)
    assert (state["ExitCode"], state["Count"]) == (9, 2), state
    assert scene.lines(ref) == ["x"] * 3 or scene.may_lose_lines


def _try_and_wait(scene: Scene, ref: str) -> bool:
    def over() -> bool:
        assert scene.engine.process is not None
        if scene.engine.process.poll() is not None:
            return True
        try:
            state = scene.state(ref)
            # A try that failed is made again; and struck again, while we look on.
            return bool((state["Status"] == "exited" and state["Count"] == 2) or state["Error"])
        except (OSError, AssertionError):
            return scene.engine.process.poll() is not None

    well = _start(scene, ref)
    if well:
        until(over, "the last try")
    return well


def _tried(scene: Scene, ref: str, well: bool) -> None:
    if not well and scene.state(ref)["Status"] == "created":
        scene.docker.ok("POST", f"/containers/{ref}/start")
    _restarted(scene, ref, well)


def _fork(scene: Scene, ref: str) -> bool:
    target = f"/sandboxes/{ref}/fork?count=2&processes=1&keep=1"
    return _post(scene, "POST", target, scene.body(COUNT))


def _forked(scene: Scene, ref: str, well: bool) -> None:
    """Those that were not ready are nobody's, and go; the others go on where *ref* was."""
    scene.assert_alive(ref)
    scene.assert_counted(ref)

    def settled() -> bool:
        states = [scene.state(fork) for fork in scene.all() if fork != ref]
        return all(not state or state["Status"] == "running" for state in states)

    until(settled, "forks that run, and no others")
    forks = [fork for fork in scene.all() if fork != ref]
    assert len(forks) == 2 or not well
    for fork in forks:
        scene.assert_alive(fork)
        assert scene.lines(fork)[0] != "line 0"


_TWICE = {"Name": "on-failure", "MaximumRetryCount": 2}

OPERATIONS = {
    "create": Operation(lambda _: "", _create, _created),
    "start": Operation(lambda scene: scene.create(COUNT), _start, _started),
    "exec": Operation(lambda scene: scene.run(COUNT), _exec, _executed),
    "stop": Operation(lambda scene: scene.run(COUNT), _stop, _stopped),
    "remove": Operation(lambda scene: scene.run(COUNT), _remove, _removed),
    "end of --rm": Operation(lambda scene: scene.run(COUNT, AutoRemove=True), _end, _gone),
    "restarts": Operation(
        lambda scene: scene.create("echo x; exit 9", RestartPolicy=_TWICE), _try_and_wait, _tried
    ),
    "fork": Operation(lambda scene: scene.run(COUNT), _fork, _forked, apart=True),
}


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Scene]:
    """Yield a scene that has begun; nothing of it stays."""
    scene = Scene(folder)
    with reaping():
        try:
            scene.open()
            yield scene
        finally:
            scene.close()


def answering(scene: Scene, name: str) -> int:
    """Return the pid of who answers at the socket *name*: the shim, or the stdio process."""
    client = Client(str(scene.engine.run / name))
    try:
        return int(client.call({"op": "hello"})["ok"]["pid"])
    finally:
        client.close()


def kill_everywhere(scene: Scene, name: str, victim: Callable[[], int], notes: Path) -> None:
    """Do the operation once, and then again for each of its steps, with *victim* killed there."""
    operation = OPERATIONS[name]
    ref = operation.prepare(scene)
    with noting(victim(), notes, follow=not operation.apart) as points:
        operation.act(scene, ref)
    operation.check(scene, ref, True)
    scene.nothing_left(f"{name}, with no kill at all")
    for point in chosen(points):
        ref = operation.prepare(scene)
        with striking(victim(), point, follow=not operation.apart):
            well = operation.act(scene, ref)
        scene.revive()
        try:
            operation.check(scene, ref, well)
        except AssertionError as error:
            raise AssertionError(f"{name}, killed at {point}: {error}") from error
        scene.nothing_left(f"{name}, killed at {point}")
    scene.assert_alive(scene.witness)
    scene.assert_counted(scene.witness)
