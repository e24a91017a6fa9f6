"""The v2 hierarchy without those of v1 beside it, as most hosts have it."""

from orlop.runtime.cgroups.layout import detect

#: In a mount namespace of its own. A cgroup2 that is mounted anew would have other options, and
#: the host's with it.
_SCRIPT = """
unified=$1
shift
for mount; do
    shift
    [ "$mount" != -- ] || break
    umount "$mount"
done
[ "$unified" = /sys/fs/cgroup ] || mount --move "$unified" /sys/fs/cgroup
exec "$@"
"""


def v2_alone() -> list[str]:
    """Return what goes before the words of a command that is to see v2 alone."""
    host = detect()
    assert host.unified is not None
    if not host.v1:
        return []
    hidden = [hierarchy.mountpoint for hierarchy in host.v1]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _SCRIPT, "sh"]
    return [*command, host.unified.mountpoint, *hidden, "--"]
