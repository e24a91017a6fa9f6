"""Commands that cannot be: the right exit code, one sentence, and nothing left."""

from pathlib import Path

import pytest

from tests.integration.faults.clients import PROGRAMS, run
from tests.integration.kills.scene import Scene

CLIENTS = sorted(PROGRAMS)

#: words after `run --rm`, exit code, and what has to be in the sentence
RUNS: dict[str, tuple[str, int, str]] = {
    "no such command": ("host no-such-command", 127, "no-such-command"),
    "no such path": ("host /no/such/path", 127, "/no/such/path"),
    "not executable": ("host /etc/passwd", 126, "/etc/passwd"),
    "a folder": ("host /etc", 126, "/etc"),
    "a memory size that is none": ("-m lots host true", 125, "lots"),
    "too little memory": ("-m 1k host true", 125, "memory"),
    "cpus that are no number": ("--cpus many host true", 125, "many"),
    "cpus that are not there": ("--cpuset-cpus 4000 host true", 125, "4000"),
    "a capability that is none": ("--cap-add NO_SUCH host true", 125, "NO_SUCH"),
    "a user that is none": ("-u nobody-knows host true", 125, "nobody-knows"),
    "a folder that is a file": ("-w /etc/passwd host true", 125, "passwd"),
    "a relative folder": ("-w relative host true", 125, "relative"),
    "a network that is none": ("--network nowhere host true", 125, "nowhere"),
    "a restart policy that is none": ("--restart never host true", 125, "restart"),
    "a signal that is none": ("--stop-signal NOSUCH host true", 125, "NOSUCH"),
    "a device that is none": ("--device /dev/no-such host true", 125, "/dev/no-such"),
    "a sysctl of the host": ("--sysctl kernel.panic=1 host true", 125, "kernel.panic"),
    "a sysctl that is none": ("--sysctl net.no.such=1 host true", 125, "net"),
    "an ulimit that is none": ("--ulimit nosuch=1 host true", 125, "nosuch"),
    "a source that is none": (
        "--mount type=bind,src=/no/such,dst=/x host true", 125, "/no/such"
    ),
    "a mount over the root": ("-v /tmp:/ host true", 125, "/"),
    "a profile that is none": ("--security-opt seccomp=/no/such host true", 125, "/no/such"),
    "a name that is none": ("--name a/b host true", 125, "a/b"),
    "volumes of nobody": ("--volumes-from nobody host true", 125, "nobody"),
    "a namespace of nobody": ("--pid container:nobody host true", 125, "nobody"),
    "an image that is no name": ("UPPER/Case:x true", 125, "case"),
    "a platform that is none": ("--platform no/such/thing/here host true", 125, "no/such"),
}  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_cannot_be_says_why(scene: Scene, client: str, name: str) -> None:
    words, code, sentence = RUNS[name]
    if (client, name) == ("docker", "a sysctl that is none"):
        code = 127  # docker reads "no such file" in the error's text
    failed = run(scene.engine, client, "run", "--rm", *words.split())
    assert (failed.code, sentence.lower() in failed.error.lower()) == (code, True), failed


@pytest.mark.parametrize("client", CLIENTS)
def test_a_name_in_use_is_refused_and_says_by_whom(scene: Scene, client: str) -> None:
    name = scene.docker.ok("GET", f"/containers/{scene.witness}/json")["Name"].lstrip("/")
    failed = run(scene.engine, client, "run", "--name", name, "host", "true")
    assert failed.code == 125
    assert scene.witness in failed.error


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("exec WITNESS no-such-command", 127, "no-such-command"),  # 126 for docker, of its version
        ("exec WITNESS /etc/passwd", 126, "/etc/passwd"),
        ("exec -u nobody-knows WITNESS true", 126, "nobody-knows"),
        ("exec -w /no/such WITNESS true", 126, "/no/such"),
        ("exec nobody true", 1, "nobody"),
        ("start nobody", 1, "nobody"),
        ("stop nobody", 1, "nobody"),
        ("kill -s NOSUCH WITNESS", 1, "NOSUCH"),
        ("rm WITNESS", 1, "running"),
        ("rename WITNESS a/b", 1, "a/b"),
        ("unpause WITNESS", 1, "not paused"),
        ("update -m 1k WITNESS", 1, "memory"),
        ("cp WITNESS:/no/such /tmp", 1, "/no/such"),
        ("logs nobody", 1, "nobody"),
        ("inspect nobody", 1, "nobody"),
        ("rmi nobody", 1, "nobody"),
        ("tag nobody other", 1, "nobody"),
        ("volume rm nobody", 1, "nobody"),
        ("volume create a/b", 1, "a/b"),
        ("load -i FOLDER/none.tar", 1, "none.tar"),
    ],
)
def test_a_verb_that_cannot_be_says_why(
    scene: Scene, tmp_path: Path, client: str, words: str, code: int, sentence: str
) -> None:
    there = {"WITNESS": scene.witness[:12], "FOLDER": str(tmp_path)}
    for word, value in there.items():
        words = words.replace(word, value)
    failed = run(scene.engine, client, *words.split())
    code = 126 if (client, code) == ("docker", 127) else code
    assert (failed.code, sentence.lower() in failed.error.lower()) == (code, True), failed
