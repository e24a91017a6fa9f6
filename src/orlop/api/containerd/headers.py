"""What containerd's clients say of a call in its headers."""

from orlop.api.grpc import header
from orlop.errors import InvalidArgumentError
from orlop.model.namespace import check_identifier


def namespace() -> str:
    """Return the namespace of the call that is being answered; InvalidArgumentError without one."""
    name = header("containerd-namespace")
    if not name:
        raise InvalidArgumentError("the call names no namespace", hint="containerd-namespace")
    return check_identifier("namespace", name)


def lease() -> str:
    """Return the lease that protects what the call makes; "" if there is none."""
    return header("containerd-lease")
