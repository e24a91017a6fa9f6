"""The same command lines in the same order to runc and to us: codes, output, errors in kind."""

import json
import os
import re
import shlex
import subprocess
import uuid
from pathlib import Path
from typing import NamedTuple

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for

#: What is done to containers A and B of a bundle whose program sleeps, one line after the other.
STORY = """
state A
create A
create A
state A
list -q
ps -f json A
exec A echo created
pause A
state A
start A
resume A
state A
start A
start A
state A
exec A sh -c "echo out; exit 3"
exec A none
exec --cwd /none A true
exec --user 1:2 -g 7 A id
exec -e X=y A sh -c "echo $X"
exec A
kill A NONE
pause A
state A
pause A
exec A true
resume A
resume A
delete A
kill A KILL
wait A
state A
kill A KILL
start A
exec A true
pause A
ps -f json A
update --pids-limit 50 A
delete A
delete A
delete --force A
kill A
start A
create ../A
create
create A B
create --none A
state
create C
kill C 0
kill C TERM
wait C
state C
start C
delete C
exec
exec --none C true
exec --process /none C
help none
run -d B
list -q
update --pids-limit 50 B
update --memory x B
kill B TERM
delete --force B
list -f json
none
--none
--log-format xml list
run --keep C
state C
delete C
exec C true
"""

#: Errors of which runc's words are looked for by those who call it.
WORDS = (
    "container does not exist",
    "cannot start an already running container",
    "cannot start a container that has stopped",
    "container not running",
    "container not paused",
    "cannot exec in a stopped container",
    "cannot exec in a paused container",
    "invalid container ID format",
    "container with given ID already exists",
    "that is not stopped: running",
    "unknown signal",
    "executable file not found in $PATH",
    "No help topic for",
    "no such file or directory",
)


class Answer(NamedTuple):
    """What is compared of an answer."""

    line: str
    code: int
    output: str
    words: list[str]  # of WORDS, in the last error of the log


class Runtime:
    """A runtime with a root of its own, and other names for A, B and C."""

    def __init__(self, program: str | Path, folder: Path, bundle: OCIBundle) -> None:
        folder.mkdir()
        self.names = {word: f"orlop-test-{uuid.uuid4().hex[:12]}" for word in "ABC"}
        self._front = [program, "--root", folder / "root"]
        self._log = folder / "log"
        self._output = folder / "output"
        self._bundle = bundle

    def tell(self, story: str) -> list[Answer]:
        """Run every line, and take away what is left."""
        try:
            return [self.answer(line) for line in story.strip().splitlines()]
        finally:
            for name in self.names.values():
                subprocess.run([*self._front, "delete", "--force", name], check=True)

    def answer(self, line: str) -> Answer:
        words = [self.names.get(word, word) for word in shlex.split(line)]
        words = [word.replace("/A", f"/{self.names['A']}") for word in words]
        if words[0] == "wait":
            wait_for(lambda: '"stopped"' in self._run(["state", words[1]])[1])
            return Answer(line, 0, "", [])
        self._bundle.process["args"] = ["true" if "--keep" in words else "sleep", "600"]
        self._bundle.write()
        code, output = self._run(words)
        return Answer(line, code, self._plain(output), self._said())

    def _run(self, words: list[str]) -> tuple[int, str]:
        """Return the exit code and what was written; a container gets the null device."""
        self._log.write_text("")
        with open(os.devnull, "r+") as null, open(self._output, "w+") as output:
            done = subprocess.run(
                [*self._front, "--log", self._log, "--log-format", "json", *words],
                stdin=null,
                stdout=null if words[0] in ("create", "run") else output,
                stderr=null,
                cwd=self._bundle.folder,
                check=False,
                timeout=60,
            )
            output.seek(0)
            return done.returncode, output.read()

    def _said(self) -> list[str]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        errors = [line["msg"] for line in lines if line["level"] == "error"]
        return [words for words in WORDS if errors and words in errors[-1]]

    def _plain(self, output: str) -> str:
        """Leave out what is new each time, and help."""
        if output.startswith(("Incorrect Usage", "NAME:")):
            return ""
        for word, name in self.names.items():
            output = output.replace(name, word)
        output = re.sub(r'"created": ?"[^"]+"', '"created"', output)
        output = re.sub(r'"pid": [1-9]\d*', '"pid"', output)
        return re.sub(r"^\[\d+\]$", "[PID]", output.rstrip("\n"))


def test_runc_and_we_tell_the_same_story(program: Program, bundle: OCIBundle) -> None:
    tmp = program.folder
    theirs = Runtime("runc", tmp / "runc", bundle).tell(STORY)
    ours = Runtime(program.script, tmp / "ours", bundle).tell(STORY)
    different = [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b]
    assert different == []
    assert {words for answer in ours for words in answer.words} >= {*WORDS} - {"No help topic for"}
