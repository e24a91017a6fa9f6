"""Many sandboxes at once: started by one request, and closed by one."""

from dataclasses import dataclass, fields

from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.sandbox.arguments import is_count
from orlop.sandbox.boxes.sandbox import Sandbox
from orlop.sandbox.closing import Closed
from orlop.sandbox.options import Options, named
from orlop.sandbox.ways.direct import way_of

MOST = 1024  # that the engine starts by one request


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BatchOptions(Options):
    """Keyword arguments of Batch and AsyncBatch: those of each sandbox, and their number."""

    count: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_count(self.count) or self.count > MOST:
            raise InvalidArgumentError(
                f"invalid number of sandboxes {self.count!r}", hint=f"1 to {MOST} in a batch"
            )
        if self.name is not None:
            raise InvalidArgumentError("the sandboxes of a batch have no name")


@named
class Batch(BatchOptions, Closed):
    """*count* sandboxes with the same options, which are there together or not at all.

        with orlop.Batch(count=100, image="busybox", memory="64m") as boxes:
            print(boxes[0].run(["hostname"]).stdout)

    They end with the block, and may be closed one by one before.

    Options beyond those of Sandbox, but without *name*:
        count: how many, 1 to 1024.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._boxes: list[Sandbox] = []

    def __enter__(self) -> list[Sandbox]:
        return self.start()

    def start(self) -> list[Sandbox]:
        """Start them; close() is then the caller's."""
        if self._boxes:
            raise WrongStateError("the batch has been started")
        options = Options(**{one.name: getattr(self, one.name) for one in fields(Options)})
        self._boxes = Sandbox.many(options, lambda: way_of(options).start_many(options, self.count))
        return list(self._boxes)

    def close(self) -> None:
        """Remove those that have not been closed; again is no error."""
        boxes = [sandbox.release() for sandbox in self._boxes if sandbox.started]
        self._boxes = []
        if boxes:
            way_of(self).close_many(boxes)
