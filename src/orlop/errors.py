"""What can go wrong, in the words of the domain.

OrlopError
├── InvalidArgumentError   the request can never succeed as written
│   ├── CommandNotFoundError       the container has no such program
│   └── CommandNotExecutableError  the program cannot be run
├── NotFoundError          the named thing does not exist
│   └── ImageNotFoundError         the image is not in the store, but may be pulled
├── AlreadyExistsError     the name is taken
├── WrongStateError        it could succeed, but not now
│   └── NotRunningError            the container does not run
├── PermissionDeniedError  the caller, or its credentials, may not do this
├── UnsupportedError       this host or build cannot do it
├── UnavailableError       a peer did not answer; worth trying again
├── ExhaustedError         a disk, a quota or a limit is full
├── CommandFailedError     a command of a build ended with a status other than 0
└── CorruptError           stored or received bytes are not what they should be

Add a class only when some caller would act differently on it. What the kernel
refuses stays an OSError until a room above can say what it means.

Each class is a kind of error, and says what the doors answer: the status of
HTTP, the status code of gRPC, and the exit code of a command that was to start a process.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class OrlopError(Exception):
    """Something a user can understand: one lower-case clause, and perhaps a *hint*."""

    status = 500
    grpc_code = 2
    exit_code = 125

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class InvalidArgumentError(OrlopError):
    """The request can never succeed as written."""

    status = 400
    grpc_code = 3


class CommandNotFoundError(InvalidArgumentError):
    """The container has no such program."""

    exit_code = 127


class CommandNotExecutableError(InvalidArgumentError):
    """The program cannot be run."""

    exit_code = 126


class NotFoundError(OrlopError):
    """The named thing does not exist."""

    status = 404
    grpc_code = 5


class ImageNotFoundError(NotFoundError):
    """The image is not in the store, but may be pulled."""


class AlreadyExistsError(OrlopError):
    """The name is taken."""

    status = 409
    grpc_code = 6


class WrongStateError(OrlopError):
    """It could succeed, but not now."""

    status = 409
    grpc_code = 9


class NotRunningError(WrongStateError):
    """The container does not run."""


class PermissionDeniedError(OrlopError):
    """The caller, or its credentials, may not do this."""

    status = 403
    grpc_code = 7


class UnsupportedError(OrlopError):
    """This host or build cannot do it."""

    status = 501
    grpc_code = 12


class UnavailableError(OrlopError):
    """A peer did not answer; worth trying again."""

    status = 503
    grpc_code = 14


class ExhaustedError(OrlopError):
    """A disk, a quota or a limit is full."""

    status = 507
    grpc_code = 8


class CommandFailedError(OrlopError):
    """A command of a build ended with *code*, a status other than 0."""

    status = 400
    grpc_code = 2

    def __init__(self, message: str, *, code: int = 1, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class CorruptError(OrlopError):
    """Stored or received bytes are not what they should be."""

    grpc_code = 15


def kind_of(error: OrlopError) -> str:
    """Return the word that messages between processes have for the class: "not_found"."""
    name = type(error).__name__.removesuffix("Error")
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def class_of(kind: str) -> type[OrlopError]:
    """Return the class here that *kind* stands for; OrlopError for a word that is none's."""
    name = "".join(part.capitalize() for part in kind.split("_")) + "Error"
    found: object = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, OrlopError) else OrlopError


def failure_of(error: OrlopError) -> "dict[str, Any]":
    """Return *error* as messages between processes tell of it."""
    return {"kind": kind_of(error), "message": error.args[0], "hint": error.hint}


def error_of(failure: "Mapping[str, Any]") -> OrlopError:
    """Return the error that *failure* tells of: failure_of()'s inverse."""
    return class_of(failure["kind"])(failure["message"], hint=failure.get("hint"))
