"""The verbs that start commands, for programs that wait for the answers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from orlop.sandbox.arguments import check_input, check_output_limit, user_text
from orlop.sandbox.processes.process import OUTPUT_LIMIT, Process
from orlop.sandbox.result import Result
from orlop.sandbox.way import Command


class Commands(Protocol):
    """Runs commands, in one sandbox or each in its own."""

    def _begin(self, command: Command) -> Process: ...

    def run(  # noqa: PLR0913 (each is a word of its own to a caller)
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 (as subprocess.run has it)
        timeout: float | None = None,
        output_limit: int = OUTPUT_LIMIT,
        environment: Mapping[str, str] | None = None,
        user: str | int = "",
        workdir: str = "",
    ) -> Result:
        """Run *command* to its end.

        After *timeout* seconds it is killed with all that it has started. What it writes
        beyond *output_limit* bytes of a stream is not kept. *input* is what it reads.
        *environment* is added to the sandbox's variables; *user* and *workdir* stand in place
        of the sandbox's.
        """
        check_output_limit(output_limit)
        process = self.exec(
            command,
            input=input,
            timeout=timeout,
            environment=environment,
            user=user,
            workdir=workdir,
        )
        with process:
            return process.result(output_limit=output_limit)

    def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = b"",  # noqa: A002
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | int = "",
        workdir: str = "",
    ) -> Process:
        """Start *command* and return it, to be used in a `with` block, which kills what is left.

        With None for *input* its input stays open, for Process.send(). The other options are
        run()'s.
        """
        if input is not None:
            check_input(input)
        wanted = Command(
            words=command,
            has_input=input is None or bool(input),
            environment=environment or {},
            user=user_text(user),
            workdir=workdir,
            timeout=timeout,
        )
        process = self._begin(wanted)
        if input:
            process.send(input, end=True)
        return process
