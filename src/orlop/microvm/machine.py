"""One virtual machine: a QEMU of the kind `microvm`, its control socket and its agent's.

Both sockets are pairs whose other ends QEMU inherits: no path to connect to, nothing that listens.
QEMU dies with the thread that started it, and its end closes both.
"""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from orlop.errors import UnavailableError, UnsupportedError
from orlop.kernel.namespaces import Namespace, unshare
from orlop.kernel.process import set_parent_death_signal
from orlop.microvm import system
from orlop.microvm.link import Link
from orlop.microvm.network import make_tap
from orlop.microvm.qmp import Qmp

PROGRAM = "qemu-system-x86_64"
BOOT_TIMEOUT_S = 120.0  # emulated, on a busy host
_ANSWER_TIMEOUT_S = 60.0

#: What a guest kernel need not find out or do. Figures: docs/decisions/microvm.md.
_QUICK = (
    "quiet reboot=t panic=-1 cryptomgr.notests noreplace-smp 8250.nr_uarts=1 nowatchdog"
    " rcupdate.rcu_expedited=1 audit=0 i8042.noaux i8042.nokbd i8042.noprobe pci=lastbus=0"
)
#: QEMU, qemu(1) -sandbox: no new programs, no other users, no scheduling of others.
_SECCOMP = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_MOST_SAID = 64 << 10
_MHZ = "cpu MHz"
#: How large the guest takes each disk to be; its file system says how much of it there is.
_DISK_BYTES = 1 << 44


class Kind(NamedTuple):
    """What machines of one kind have in common."""

    kernel: str
    initrd: str
    accelerator: str  # kvm or tcg
    memory_mib: int = 256
    cpus: int = 1


class Disks(NamedTuple):
    """Paths of what a machine has as its disks; "" for a disk that nothing may read."""

    image: str  # EROFS, read only
    writes: str


NO_DISKS = Disks("", "")


class Machine:
    """A running QEMU. close() ends it at once."""

    def __init__(
        self,
        kind: Kind,
        arguments: Sequence[str],
        *,
        memory: str | None = None,
        disks: Disks = NO_DISKS,
        tap: int | None = None,
    ) -> None:
        """Start QEMU with *arguments* beside those of *kind*, and take up its control protocol.

        With *tap*, the descriptor of a tap device, this process is in namespaces of the machine's
        own already. Raises UnsupportedError if QEMU is not installed, UnavailableError if it ends
        at once.
        """
        self.kind = kind
        with ExitStack() as undo:
            agent, their_agent = (undo.enter_context(end) for end in socket.socketpair())
            control, their_control = (undo.enter_context(end) for end in socket.socketpair())
            agent.settimeout(BOOT_TIMEOUT_S)
            control.settimeout(_ANSWER_TIMEOUT_S)
            said = os.memfd_create("qemu")
            undo.callback(os.close, said)
            card = tap if tap is not None else os.dup(said)
            if tap is None:
                undo.callback(os.close, card)
            ends = (their_agent.fileno(), their_control.fileno(), card)
            words = [*_devices(kind, memory, *ends), *_drives(disks), *arguments]
            confine = functools.partial(_confine, card) if tap is None else None
            self._process = _spawn(words, ends, said, confine)
            undo.callback(self._end)
            their_agent.close()
            their_control.close()
            try:
                self.control = Qmp(control)
            except UnavailableError as error:
                raise UnavailableError(f"{error}: {_last_line(said)}") from error
            self.agent = Link(agent)
            self._agent = agent
            self._undo = undo.pop_all()

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    @property
    def channel(self) -> socket.socket:
        """The agent's socket, for who takes over from *agent*."""
        return self._agent

    def set_timeout(self, timeout_s: float) -> None:
        """Bound each wait for the agent."""
        self._agent.settimeout(timeout_s)

    def close(self) -> None:
        """Kill the machine and wait until it has ended. Closing twice does no harm."""
        self._undo.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def program() -> str:
    """Return the path of QEMU. Raises UnsupportedError if it is not installed."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise UnsupportedError(f"{PROGRAM} is not installed", hint="install qemu-system-x86")
    return found


def boot(kind: Kind, *, memory: str | None = None, timeout_s: float = BOOT_TIMEOUT_S) -> Machine:
    """Boot a machine; returns when its agent waits for requests.

    Raises UnavailableError if the agent has not greeted after *timeout_s*; QEMU has ended then.
    """
    with ExitStack() as undo:
        machine = undo.enter_context(Machine(kind, _kernel(kind, _clock(kind)), memory=memory))
        machine.set_timeout(timeout_s)
        machine.agent.greet()
        machine.set_timeout(_ANSWER_TIMEOUT_S)
        undo.pop_all()
    return machine


def command_line(kind: Kind) -> list[str]:
    """Return what machines of *kind* are booted by, but for what changes from boot to boot.

    These are descriptors, the memory's file and the processor's frequency.
    """
    return [*_devices(kind, None, 0, 0, 0), *_drives(NO_DISKS), *_kernel(kind, "")]


def _kernel(kind: Kind, clock: str) -> list[str]:
    append = f"{_QUICK} {clock} rdinit={system.interpreter()}"
    append += " -- " + " ".join(system.command()[1:])
    return ["-kernel", kind.kernel, "-initrd", kind.initrd, "-append", append]


def _devices(kind: Kind, memory: str | None, agent: int, control: int, tap: int) -> list[str]:
    """Return the arguments that a template and its clones must share: QEMU saves by device."""
    backing = ["-object", memory] if memory else []
    return [
        program(), "-M", "microvm,pcie=on" + (",memory-backend=mem" if memory else ""), *backing,
        "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
        "-sandbox", _SECCOMP, "-bios", "qboot.rom", "-serial", "file:/dev/null",
        "-m", f"{kind.memory_mib}", "-smp", f"{kind.cpus}",
        "-accel", kind.accelerator, "-cpu", "host" if kind.accelerator == "kvm" else "max",
        "-chardev", f"socket,id=agent,fd={agent}", "-device", "virtio-serial-pci",
        "-device", "virtserialport,chardev=agent,name=orlop.agent",
        "-netdev", f"tap,id=card,fd={tap}", "-device", "virtio-net-pci,netdev=card,romfile=",
        "-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control",
    ]  # fmt: skip


def _drives(disks: Disks) -> list[str]:
    """Return the arguments for both disks: the guest learns their size once, in the template."""
    words: list[str] = []
    for name, path in disks._asdict().items():
        source = f"driver=file,filename={path}" if path else f"driver=null-co,size={_DISK_BYTES}"
        access = "read-only=on" if name == "image" else "discard=unmap,cache.no-flush=on"
        words += ["-blockdev", f"{source},node-name={name},{access}"]
        words += ["-device", f"virtio-blk-pci,drive={name}"]
    return words


def _spawn(
    words: list[str], pass_fds: tuple[int, ...], said: int, confine: Callable[[], None] | None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        words,
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        cwd="/",
        env={},
        preexec_fn=confine,
    )


def _last_line(said: int) -> str:
    lines = os.pread(said, _MOST_SAID, 0).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


def _confine(card: int) -> None:
    """Tie QEMU's life to its starter's, and give it a network with nothing but its tap.

    The tap becomes the descriptor *card*, which is on QEMU's command line already.
    """
    set_parent_death_signal(signal.SIGKILL)
    unshare(Namespace.NET | Namespace.IPC)
    os.dup2(make_tap(), card)


def _clock(kind: Kind) -> str:
    """Return what an emulated guest cannot measure: on a busy host it hangs when it tries."""
    if kind.accelerator == "kvm":
        return ""
    khz = 2_000_000
    with contextlib.suppress(OSError, ValueError), open("/proc/cpuinfo") as file:
        khz = next(int(float(line.split(":")[1]) * 1000) for line in file if line.startswith(_MHZ))
    return f"tsc_early_khz={khz} lpj={khz * 4} no_timer_check tsc=reliable"
