"""Many sandboxes at once: started by one request, and closed by one."""

from dataclasses import dataclass
from types import TracebackType

from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.sandbox.choose import way_of
from orlop.sandbox.options import Options
from orlop.sandbox.sandbox import Sandbox


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch(Options):
    """*count* sandboxes with the same options, which are there together or not at all.

        with orlop.Batch(count=100, image="busybox", memory="64m") as boxes:
            print(boxes[0].run(["hostname"]).stdout)

    They end with the block, and may be closed one by one before.
    """

    count: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise InvalidArgumentError(f"invalid number of sandboxes {self.count}")
        if self.name is not None:
            raise InvalidArgumentError("the sandboxes of a batch have no name")
        self._boxes: list[Sandbox]
        object.__setattr__(self, "_boxes", [])

    def __enter__(self) -> list[Sandbox]:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> list[Sandbox]:
        """Start them; close() is then the caller's."""
        if self._boxes:
            raise WrongStateError("the batch has been started")
        given = self.given()
        del given["count"]
        options = Options(**given)
        for box in way_of(options).start_many(options, self.count):
            self._boxes.append(Sandbox.of(options, box))
        return list(self._boxes)

    def close(self) -> None:
        """Remove those that have not been closed; again is no error."""
        boxes = [sandbox.release() for sandbox in self._boxes if sandbox.started]
        self._boxes.clear()
        if boxes:
            way_of(self).close_many(boxes)
