"""Make a clone differ from its template: random seed, clock, hostname, machine id, boot id.

random(4): RNDADDENTROPY credits bytes, RNDRESEEDCRNG makes the generator use them at once; without
both, every clone of a template gives the same random bytes.
"""

import fcntl
import json
import os
import struct
import time

from orlop.errors import InvalidArgumentError
from orlop.kernel.mount import MountFlag, mount

_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
_LEAST_SEED_BYTES = 32
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def take(payload: bytes) -> None:
    """Become the machine that the JSON *payload* describes.

    Keys: seed (hexadecimal), time_ns (since the epoch), hostname, machine_id.
    """
    who = json.loads(payload)
    seed = bytes.fromhex(who["seed"])
    if len(seed) < _LEAST_SEED_BYTES:
        raise InvalidArgumentError("the seed of a virtual machine is too short")
    reseed(seed)
    time.clock_settime_ns(time.CLOCK_REALTIME, who["time_ns"])
    with open("/proc/sys/kernel/hostname", "w") as file:
        file.write(who["hostname"])
    with open("/etc/machine-id", "w") as file:
        file.write(who["machine_id"] + "\n")
    _new_boot_id()


def reseed(seed: bytes) -> None:
    """Mix *seed* into the kernel's generator; what it gives from now on depends on it."""
    random = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        entropy = struct.pack("ii", len(seed) * 8, len(seed)) + seed
        fcntl.ioctl(random, _RNDADDENTROPY, entropy)
        fcntl.ioctl(random, _RNDRESEEDCRNG)
    finally:
        os.close(random)


def _new_boot_id() -> None:
    """Cover the kernel's boot id, which a clone inherits and which cannot be set."""
    value = bytearray(os.urandom(16))
    value[6], value[8] = value[6] & 0x0F | 0x40, value[8] & 0x3F | 0x80  # RFC 9562: version 4
    text = value.hex()
    with open("/run/boot_id", "w") as file:
        file.write("-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])) + "\n")
    mount("/run/boot_id", _BOOT_ID, flags=MountFlag.BIND)
