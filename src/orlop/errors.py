"""What can go wrong, in the words of the domain.

OrlopError
├── InvalidArgumentError   the request can never succeed as written
├── NotFoundError          the named thing does not exist
├── AlreadyExistsError     the name is taken
├── WrongStateError        it could succeed, but not now
├── PermissionDeniedError  the caller, or its credentials, may not do this
├── UnsupportedError       this host or build cannot do it
├── UnavailableError       a peer did not answer; worth trying again
├── ExhaustedError         a disk, a quota or a limit is full
└── CorruptError           stored or received bytes are not what they should be

Add a class only when some caller would act differently on it. What the kernel
refuses stays an OSError until a room above can say what it means.
"""


class OrlopError(Exception):
    """Something a user can understand: one lower-case clause, and perhaps a *hint*."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class InvalidArgumentError(OrlopError):
    """The request can never succeed as written."""


class NotFoundError(OrlopError):
    """The named thing does not exist."""


class AlreadyExistsError(OrlopError):
    """The name is taken."""


class WrongStateError(OrlopError):
    """It could succeed, but not now."""


class PermissionDeniedError(OrlopError):
    """The caller, or its credentials, may not do this."""


class UnsupportedError(OrlopError):
    """This host or build cannot do it."""


class UnavailableError(OrlopError):
    """A peer did not answer; worth trying again."""


class ExhaustedError(OrlopError):
    """A disk, a quota or a limit is full."""


class CorruptError(OrlopError):
    """Stored or received bytes are not what they should be."""


def kind_of(error: OrlopError) -> str:
    """Return the word that messages between processes have for the class: "not_found"."""
    name = type(error).__name__.removesuffix("Error")
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def class_of(kind: str) -> type[OrlopError]:
    """Return the class here that *kind* stands for; OrlopError for a word that is none's."""
    name = "".join(part.capitalize() for part in kind.split("_")) + "Error"
    found: object = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, OrlopError) else OrlopError
