"""A sandbox's life, and what it is asked, for programs that wait for the answers."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from orlop.client.client import Client
from orlop.client.http import RawStream
from orlop.client.images import split_tag
from orlop.errors import NotFoundError, WrongStateError
from orlop.sandbox.files import Files
from orlop.sandbox.options import Options
from orlop.sandbox.process import OUTPUT_LIMIT, Process, exec_body
from orlop.sandbox.result import Result


class Sandbox(Options):
    """An isolated place to run commands, gone at the end of its `with` block.

    It also goes when this object is dropped, and when the program is killed: the
    engine ends what has no owner any more, unless *keep* is set.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._id = ""
        self._holder: RawStream | None = None  # while it is open the engine keeps the sandbox

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Create it, pulling its image where that is missing; close() is then the caller's."""
        if self._id:
            raise WrongStateError("the sandbox has been started")
        body = self.body()
        with Client(self.settings()) as client:
            try:
                self._open(client, body)
            except NotFoundError as error:
                if "no such image" not in str(error).lower():
                    raise
                _pull(client, self.image)
                self._open(client, body)
        return self

    def _open(self, client: Client, body: Mapping[str, object]) -> None:
        if not self.keep:
            self._id, self._holder = client.sandboxes.open(body, name=self.name)
            return
        made = str(client.containers.create(body, name=self.name)["Id"])
        try:
            client.containers.start(made)
        except BaseException:
            client.containers.remove(made, force=True, volumes=True)
            raise
        self._id = made

    def close(self) -> None:
        """Remove it with all that runs in it, unless it is to be kept; again is no error."""
        identifier, holder = self._id, self._holder
        self._id, self._holder = "", None
        if holder is None:
            return
        try:
            with Client(self.settings()) as client:
                client.containers.remove(identifier, force=True, volumes=True)
        except NotFoundError:  # it has ended by itself
            pass
        finally:
            holder.close()

    @property
    def id(self) -> str:
        """The container's id, for `orlop` and `docker`; WrongStateError where it is not started."""
        if not self._id:
            raise WrongStateError("the sandbox is not started", hint="use `with`, or start()")
        return self._id

    @property
    def files(self) -> Files:
        """Its files: read, write, copy folders in and out."""
        return Files(self.settings(), self.id)

    def run(  # noqa: PLR0913 (each is a word of its own to a caller)
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 (as subprocess.run has it)
        timeout: float | None = None,
        output_limit: int = OUTPUT_LIMIT,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
    ) -> Result:
        """Run *command* to its end.

        After *timeout* seconds it is killed with all that it has started. What it writes
        beyond *output_limit* bytes of a stream is not kept.
        """
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
        user: str = "",
        workdir: str = "",
    ) -> Process:
        """Start *command* and return it, to be used in a `with` block, which kills what is left.

        With None for *input* its input stays open, for Process.send().
        """
        body = exec_body(
            command,
            has_input=input is None or bool(input),
            environment=environment,
            user=user,
            workdir=workdir,
        )
        process = Process(self.settings(), self.id, body, timeout=timeout)
        if input:
            process.send(input, end=True)
        return process

    def pause(self) -> None:
        """Let nothing in it run until resume()."""
        with Client(self.settings()) as client:
            client.containers.pause(self.id)

    def resume(self) -> None:
        """Let it run again."""
        with Client(self.settings()) as client:
            client.containers.unpause(self.id)

    def snapshot(self, name: str) -> str:
        """Make an image of what its files are now, for other sandboxes; return its id.

        Not of a sandbox of the image host: most of its files are this machine's.
        """
        repository, tag = split_tag(name)
        with Client(self.settings()) as client:
            return client.images.commit(self.id, query={"repo": repository, "tag": tag or "latest"})


def _pull(client: Client, image: str) -> None:
    for message in client.images.pull(image):
        if "error" in message:
            raise NotFoundError(f"cannot pull {image}: {message['error']}")
