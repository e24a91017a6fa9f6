"""Written down: how a container's first process is made, by a recipe.

The order is that of runtime/init.py. What differs from start to start are slots:

    network     its namespace; system, a mount of sysfs of it
    cgroups     a mount that shows its cgroup, one hierarchy each; door-N, what puts it in
    layer       the folder that holds what it writes: upper-N and work-N of each overlay
    name        host name, with name-size; file-N and file-N-size: contents of its own files
"""

import os
import stat
from collections.abc import Sequence

from orlop.kernel import numbers
from orlop.kernel.capabilities import BIT
from orlop.kernel.mount import MountAttr, Unmount
from orlop.kernel.namespaces import Namespace
from orlop.kernel.procedure import Result, Slot
from orlop.kernel.syscall import AT_FDCWD
from orlop.runtime.child import ContainerPlan
from orlop.runtime.devices import LINKS
from orlop.runtime.options import Options
from orlop.runtime.plan import MountKind, MountPlan
from orlop.runtime.recipe.plan import Layer, Recipe
from orlop.runtime.recipe.process import enter_cgroup, set_oom_score, write_process
from orlop.runtime.recipe.writer import Writer

_SYS_ADMIN = 1 << BIT["CAP_SYS_ADMIN"]
_RDONLY = int(MountAttr.RDONLY)
_SEALED = int(MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC)
_EMPTY = Options(set_=_SEALED)


def write_start(
    recipe: Recipe, descriptors: Sequence[int], *, doors: int, idle: bool, timed: bool = False
) -> Writer:
    """Return the procedure; *descriptors* are those that came with the recipe.

    With *idle* the first process does nothing, and has no command.
    """
    writer = Writer(timed=timed)
    enter_cgroup(writer, doors)
    writer.step("join_namespaces")
    writer.call(numbers.UNSHARE, int(Namespace.CGROUP))
    writer.call(numbers.SETNS, Slot("network"), int(Namespace.NET))
    writer.call(numbers.UMASK, 0)
    writer.step("enter_root")
    _enter_root(writer, recipe, descriptors)
    overlays = {layer.destination: place for place, layer in enumerate(recipe.layers)}
    for index, plan in enumerate(recipe.container.mounts):
        _mount(writer, recipe, index, plan, descriptors, overlays)
        if plan.destination == "/dev":
            _make_devices(writer, recipe.container)
    writer.step("set_names")
    _set_names(writer, recipe.container)
    set_oom_score(writer, recipe.process.plan)
    writer.step("mask_paths")
    _mask(writer, recipe)
    writer.step("protect_paths")
    for path in recipe.readonly:
        target = writer.open(path, links=True)
        copy = writer.clone(target, recursive=True)
        writer.set_attributes(copy, set_=_RDONLY, recursive=True)
        writer.attach(copy, target)
    _protect_dev(writer, recipe.container)
    writer.step("finish_root")
    for folder in recipe.folders:
        writer.make_folder(folder)
    if recipe.container.root_readonly:
        writer.set_attributes(writer.open("/"), set_=_RDONLY)
    write_process(writer, recipe.process, idle=idle)
    return writer


def _overlay(writer: Writer, layer: Layer, place: int, descriptors: Sequence[int]) -> Result:
    config = writer.call(numbers.FSOPEN, b"overlay", 1)
    writer.set_string(config, "source", "overlay")
    for lower in layer.lowers:
        writer.set_file(config, "lowerdir+", descriptors[lower])
    for key, value in layer.options:
        writer.set_string(config, key, value or "")
    writer.set_file(config, "upperdir", Slot(f"upper-{place}"))
    writer.set_file(config, "workdir", Slot(f"work-{place}"))
    return writer.made(config, layer.attributes)


def _enter_root(writer: Writer, recipe: Recipe, descriptors: Sequence[int]) -> None:
    """Mount the root over that of a launcher, which is empty and read-only, and enter it.

    Not by pivot_root(2), which looks at each process of the machine. Who breaks out of a chroot
    finds nothing; but who may mount could write there, and others as well.
    """
    root = _overlay(writer, recipe.layers[0], 0, descriptors)
    host = writer.call(numbers.OPENAT, AT_FDCWD, b"/", os.O_PATH | os.O_CLOEXEC, 0)
    writer.attach(root, host)
    writer.call(numbers.FCHDIR, root)
    if recipe.process.plan.capabilities.bounding & _SYS_ADMIN:
        writer.call(numbers.PIVOT_ROOT, b".", b".")
        writer.call(numbers.UMOUNT2, b".", int(Unmount.DETACH))
    else:
        writer.call(numbers.CHROOT, b".")


def _mount(
    writer: Writer,
    recipe: Recipe,
    index: int,
    plan: MountPlan,
    descriptors: Sequence[int],
    overlays: dict[str, int],
) -> None:
    writer.step(f"mount {plan.destination}")
    options = plan.options
    late_read_only = plan.fstype == "tmpfs" and options.set_ & _RDONLY
    if plan.destination in overlays:
        place = overlays[plan.destination]
        mount = _overlay(writer, recipe.layers[place], place, descriptors)
    elif plan.destination in recipe.files:
        mount = _own_file(writer, recipe, plan)
    elif index in recipe.binds:
        fd = descriptors[recipe.binds[index]]
        mount = writer.clone(fd, recursive=True)
    elif plan.kind is MountKind.CGROUP:
        mount = writer.clone(Slot("cgroups"), recursive=True)
    elif plan.fstype == "sysfs":
        mount = writer.clone(Slot("system"))
        writer.set_attributes(mount, set_=options.set_)
    else:
        made = options._replace(set_=options.set_ & ~_RDONLY) if late_read_only else options
        mount = writer.filesystem(plan.fstype, plan.source, made)
    is_file = plan.destination in recipe.files or (
        index in recipe.binds and not _is_folder(descriptors[recipe.binds[index]])
    )
    for folder in recipe.targets[index]:
        writer.make_folder(folder)
    if is_file:
        writer.make_file(plan.destination)
    else:
        writer.make_folder(plan.destination)
    writer.attach(mount, writer.open(plan.destination))
    if late_read_only and plan.destination != "/dev":
        writer.set_attributes(mount, set_=_RDONLY)


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _own_file(writer: Writer, recipe: Recipe, plan: MountPlan) -> Result:
    """Make the file in this start's own folder, beside what is written; and mount it."""
    number = list(recipe.files).index(plan.destination)
    name = f"file-{number}"
    file = writer.create(Slot("layer"), name, 0o644)
    writer.call(numbers.WRITE, file, Slot(name), Slot(f"{name}-size"))
    mount = writer.clone_at(Slot("layer"), name)
    if plan.options.set_:
        writer.set_attributes(mount, set_=plan.options.set_)
    return mount


def _make_devices(writer: Writer, container: ContainerPlan) -> None:
    kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK}
    folder = writer.open("/dev")
    for device in container.devices:
        path = os.fsencode(os.path.basename(device["path"]))
        mode = kinds[device["type"]] | stat.S_IMODE(device.get("fileMode", 0o666))
        number = os.makedev(device["major"], device["minor"])
        writer.call(numbers.MKNODAT, folder, path, mode, number)
        uid, gid = device.get("uid", 0), device.get("gid", 0)
        if uid or gid:
            nofollow = 0x100
            writer.call(numbers.FCHOWNAT, folder, path, uid, gid, nofollow)
    for name, target in LINKS:
        writer.call(numbers.SYMLINKAT, target.encode(), folder, name.encode())


def _set_names(writer: Writer, container: ContainerPlan) -> None:
    writer.call(numbers.SETHOSTNAME, Slot("name"), Slot("name-size"))
    if container.domainname:
        name = os.fsencode(container.domainname)
        writer.call(numbers.SETDOMAINNAME, name, len(name))


def _mask(writer: Writer, recipe: Recipe) -> None:
    """As runtime/hiding.py; /dev/null is the node that was just made in a /dev of our own."""
    null = empty = None
    for path, is_folder in recipe.masked:
        target = writer.open(path, links=True)
        if is_folder:
            cover = writer.clone(empty) if empty else writer.filesystem("tmpfs", "", _EMPTY)
            empty = empty or cover
        elif null is None:
            null = cover = writer.clone(writer.open("/dev/null"))
            writer.set_attributes(cover, set_=_RDONLY)
        else:
            cover = writer.clone(null)
        writer.attach(cover, target)


def _protect_dev(writer: Writer, container: ContainerPlan) -> None:
    for plan in container.mounts:
        if plan.destination == "/dev" and plan.options.set_ & _RDONLY:
            writer.set_attributes(writer.open("/dev"), set_=_RDONLY)
