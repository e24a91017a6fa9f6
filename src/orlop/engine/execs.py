"""Further processes in running containers."""

import socket

from orlop.model.container import Exec, ExecOptions


class Execs:
    """Asked for first, then started once; forgotten with their container."""

    async def create(self, ref: str, options: ExecOptions) -> str:
        """Return the id of a process to be started in the container *ref*."""
        raise NotImplementedError

    async def start(
        self,
        exec_id: str,
        client: socket.socket | None = None,
        *,
        detach: bool = False,
        size: tuple[int, int] | None = None,
        pending: bytes = b"",
    ) -> None:
        """Start it; unless *detach*, its streams are the *client* socket's from then on.

        *size* is height and width. The socket belongs to the engine once this returns,
        and stays the caller's when it raises. Returns when the process runs.
        """
        raise NotImplementedError

    def get(self, exec_id: str) -> Exec:
        """Return what it is now; NotFoundError "No such exec instance: …"."""
        raise NotImplementedError

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        """Change its terminal's size."""
        raise NotImplementedError
