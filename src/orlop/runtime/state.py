"""The state of a container for others: runtime.md, "State", as JSON."""

import json

from orlop.model.oci import VERSION, Config, State


def state(config: Config, *, container: str, status: str, pid: int, bundle: str) -> State:
    """Return the container's state; a *pid* of 0 is left out, as for a stopped container."""
    told = State(ociVersion=VERSION, id=container, status=status, bundle=bundle)
    if pid:
        told["pid"] = pid
    if annotations := config.get("annotations"):
        told["annotations"] = annotations
    return told


def encode(told: State) -> bytes:
    """Encode *told* for hooks and listeners."""
    return json.dumps(told).encode()
