"""What others are told of a container: the state of runtime.md, "State", as JSON."""

import json

from orlop.model.oci import VERSION, Config, State


def state(config: Config, *, container: str, status: str, pid: int, bundle: str) -> State:
    """Return the container's state; *pid* 0 is left out, as for one that has stopped."""
    told = State(ociVersion=VERSION, id=container, status=status, bundle=bundle)
    if pid:
        told["pid"] = pid
    if annotations := config.get("annotations"):
        told["annotations"] = annotations
    return told


def encode(told: State) -> bytes:
    """Return *told* as hooks and listeners read it."""
    return json.dumps(told).encode()
