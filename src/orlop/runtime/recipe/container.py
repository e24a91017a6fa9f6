"""Steps written down: a container's namespaces and root.

What differs from start to start are slots:

    network     its namespace; system, a mount of sysfs of it
    cgroups     a mount that shows its cgroup, one hierarchy each; door-N, what puts it in
    layer       the folder that holds what it writes: upper-N and work-N of each overlay
    name        host name, with name-size; file-N and file-N-size: contents of its own files
    mount-N     a mount that is this start's own, detached
"""

import os
import stat

from orlop.kernel import numbers
from orlop.kernel.capabilities import BIT
from orlop.kernel.mount import MountAttr, Unmount
from orlop.kernel.namespaces import Namespace
from orlop.kernel.procedure import Result, Slot
from orlop.kernel.syscall import AT_FDCWD
from orlop.runtime.devices import LINKS, node_of
from orlop.runtime.hiding import EMPTY
from orlop.runtime.plan import MountKind, MountPlan
from orlop.runtime.recipe.writer import File, Writer

_SYS_ADMIN = 1 << BIT["CAP_SYS_ADMIN"]
_RDONLY = int(MountAttr.RDONLY)
_NOFOLLOW = 0x100


def join_namespaces(writer: Writer) -> None:
    """Join a network namespace that is ready. The others are new with the process."""
    writer.call(numbers.SETNS, Slot("network"), int(Namespace.NET))


def leave_cgroup_namespace(writer: Writer) -> None:
    """Make the cgroup that it is in the root of a new cgroup namespace."""
    writer.call(numbers.UNSHARE, int(Namespace.CGROUP))


def make_root(writer: Writer) -> None:
    """Make the root file system, attached nowhere."""
    writer.root = _overlay(writer, 0)


def make_mounts(writer: Writer) -> None:
    """Make every mount but the root, attached nowhere."""
    overlays = {layer.destination: place for place, layer in enumerate(writer.recipe.layers)}
    for index, plan in enumerate(writer.recipe.container.mounts):
        if plan.kind is MountKind.CGROUP:
            continue
        mount: File
        writer.step(f"mount {plan.destination}")
        if plan.destination in overlays:
            mount = _overlay(writer, overlays[plan.destination])
        elif plan.destination in writer.recipe.files:
            mount = _own_file(writer, plan)
        elif index in writer.recipe.given:
            mount = Slot(f"mount-{index}")
        elif index in writer.recipe.binds:
            mount = writer.clone(_source(writer, index), recursive=True)
        elif plan.fstype == "sysfs":
            mount = writer.clone(Slot("system"))
            writer.set_attributes(mount, set_=plan.options.set_)
        else:
            mount = writer.filesystem(plan.fstype, plan.source, plan.fillable)
        writer.mounts[index] = mount


def _source(writer: Writer, index: int) -> int:
    return writer.descriptors[writer.recipe.binds[index]]


def make_cgroup_mounts(writer: Writer) -> None:
    """Copy the mounts that show the container its own cgroup."""
    for index, plan in enumerate(writer.recipe.container.mounts):
        if plan.kind is MountKind.CGROUP:
            writer.mounts[index] = writer.clone(Slot("cgroups"), recursive=True)


def enter_root(writer: Writer) -> None:
    """Mount the root over that of a launcher, which is empty and read-only, and enter it.

    Not by pivot_root(2), which looks at each process of the machine. Who breaks out of a chroot
    finds nothing; but who may mount could write there, and others as well.
    """
    assert writer.root is not None
    host = writer.call(numbers.OPENAT, AT_FDCWD, b"/", os.O_PATH | os.O_CLOEXEC, 0)
    writer.attach(writer.root, host)
    writer.call(numbers.FCHDIR, writer.root)
    if writer.process.plan.capabilities.bounding & _SYS_ADMIN:
        writer.call(numbers.PIVOT_ROOT, b".", b".")
        writer.call(numbers.UMOUNT2, b".", int(Unmount.DETACH))
    else:
        writer.call(numbers.CHROOT, b".")


def attach_mounts(writer: Writer) -> None:
    """Attach the mounts in order, making the destinations that are missing."""
    for index, plan in enumerate(writer.recipe.container.mounts):
        for folder in writer.recipe.targets[index]:
            writer.make_folder(folder)
        if _is_file(writer, index, plan):
            writer.make_file(plan.destination)
        else:
            writer.make_folder(plan.destination)
        writer.attach(writer.mounts[index], writer.open(plan.destination))
        if plan.is_sealed:
            writer.set_attributes(writer.mounts[index], set_=_RDONLY)


def _is_file(writer: Writer, index: int, plan: MountPlan) -> bool:
    if index in writer.recipe.given:
        return writer.recipe.given[index]
    if index in writer.recipe.binds:
        return not stat.S_ISDIR(os.fstat(_source(writer, index)).st_mode)
    return plan.destination in writer.recipe.files


def make_devices(writer: Writer) -> None:
    """Make the nodes and links of a /dev that is new."""
    folder = writer.open("/dev")
    for device in writer.recipe.container.devices:
        path = os.fsencode(os.path.basename(device["path"]))
        writer.call(numbers.MKNODAT, folder, path, *node_of(device))
        uid, gid = device.get("uid", 0), device.get("gid", 0)
        if uid or gid:
            writer.call(numbers.FCHOWNAT, folder, path, uid, gid, _NOFOLLOW)
    for name, target in LINKS:
        writer.call(numbers.SYMLINKAT, target.encode(), folder, name.encode())


def set_names(writer: Writer) -> None:
    """Set the host's name, which is each start's own, and the domain's."""
    writer.call(numbers.SETHOSTNAME, Slot("name"), Slot("name-size"))
    if domain := os.fsencode(writer.recipe.container.domainname):
        writer.call(numbers.SETDOMAINNAME, domain, len(domain))


def mask_paths(writer: Writer) -> None:
    """Cover files with the null device and folders with one empty, read-only file system."""
    null = empty = None
    for path, is_folder in writer.recipe.masked:
        target = writer.open(path, links=True)
        if is_folder:
            cover = writer.clone(empty) if empty else writer.filesystem("tmpfs", "", EMPTY)
            empty = empty or cover
        elif null is None:
            null = cover = writer.clone(writer.open("/dev/null"))
            writer.set_attributes(cover, set_=_RDONLY)
        else:
            cover = writer.clone(null)
        writer.attach(cover, target)


def protect_paths(writer: Writer) -> None:
    """Make paths read-only, with everything mounted below them."""
    for path in writer.recipe.readonly:
        target = writer.open(path, links=True)
        copy = writer.clone(target, recursive=True)
        writer.set_attributes(copy, set_=_RDONLY, recursive=True)
        writer.attach(copy, target)


def protect_dev(writer: Writer) -> None:
    """Make a /dev read-only that was left writable for what is made in it."""
    if writer.recipe.container.seals_dev:
        writer.set_attributes(writer.open("/dev"), set_=_RDONLY)


def make_working_directory(writer: Writer) -> None:
    """Make the working directory, and the folders above it, where they are missing."""
    for folder in writer.recipe.folders:
        writer.make_folder(folder)


def finish_root(writer: Writer) -> None:
    """Make the root read-only if asked."""
    if writer.recipe.container.root_readonly:
        writer.set_attributes(writer.open("/"), set_=_RDONLY)


def _overlay(writer: Writer, place: int) -> Result:
    layer = writer.recipe.layers[place]
    config = writer.call(numbers.FSOPEN, b"overlay", 1)
    writer.set_string(config, "source", "overlay")
    for lower in layer.lowers:
        writer.set_file(config, "lowerdir+", writer.descriptors[lower])
    for key, value in layer.options:
        writer.set_string(config, key, value or "")
    writer.set_file(config, "upperdir", Slot(f"upper-{place}"))
    writer.set_file(config, "workdir", Slot(f"work-{place}"))
    return writer.made(config, layer.attributes)


def _own_file(writer: Writer, plan: MountPlan) -> Result:
    """Make the file in this start's own folder, beside what is written; and mount it."""
    number = list(writer.recipe.files).index(plan.destination)
    name = f"file-{number}"
    file = writer.create(Slot("layer"), name, 0o644)
    writer.call(numbers.WRITE, file, Slot(name), Slot(f"{name}-size"))
    mount = writer.clone_at(Slot("layer"), name)
    if plan.options.set_:
        writer.set_attributes(mount, set_=plan.options.set_)
    return mount
