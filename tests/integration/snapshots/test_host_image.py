"""The image `host`: what is in it, and what must not be."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from orlop.images.host import HostImage, host_image
from orlop.snapshots import choose
from orlop.snapshots.interface import layer_key


@pytest.fixture(scope="module")
def image() -> HostImage:
    return host_image()


def members(image: HostImage) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(image.tar)) as tar:
        return {member.name.removeprefix("./"): member for member in tar}


def test_it_is_the_same_image_as_long_as_the_machine_is(image: HostImage) -> None:
    again = host_image()
    assert (again.diff_id, again.config) == (image.diff_id, image.config)
    assert image.config.rootfs.diff_ids == (image.diff_id,)


def test_it_holds_no_user_and_no_secret_of_the_machine(image: HostImage) -> None:
    names = members(image)
    for name in ("shadow", "gshadow", "machine-id", "ssh", "ssl/private", "fstab", "sudoers"):
        assert f"etc/{name}" not in names
    with tarfile.open(fileobj=io.BytesIO(image.tar)) as tar:
        users = tar.extractfile(next(n for n in tar.getnames() if n.endswith("etc/passwd")))
        assert users is not None
        uids = [int(line.split(b":")[2]) for line in users]
    assert all(uid < 100 or uid == 65534 for uid in uids)
    assert b"PRIVATE KEY" not in image.tar


def test_planted_secrets_are_left_out(tmp_path: Path) -> None:
    certs = tmp_path / "ssl" / "certs"
    certs.mkdir(parents=True)
    (certs / "public.pem").write_text("-----BEGIN CERTIFICATE-----")
    (certs / "both.pem").write_text("-----BEGIN RSA PRIVATE KEY-----\nhunter2")
    (certs / "closed.pem").write_text("hunter2")
    (certs / "closed.pem").chmod(0o600)
    (certs / "huge.pem").write_bytes(bytes(5 << 20))
    (tmp_path / "shadow").write_text("root:hunter2:")
    image = host_image(etc=str(tmp_path))
    assert b"hunter2" not in image.tar
    assert {name for name in members(image) if "ssl/certs/" in name} == {"etc/ssl/certs/public.pem"}


def test_temporary_folders_are_open_and_roots_own_is_not(image: HostImage) -> None:
    modes = {name: member.mode for name, member in members(image).items()}
    assert (modes["tmp"], modes["var/tmp"], modes["root"]) == (0o1777, 0o1777, 0o700)


@pytest.mark.parametrize("name", ["erofs", "overlay", "native"])
def test_programs_of_the_machine_run_in_it_and_cannot_change_it(
    image: HostImage, name: str, tmp_path: Path
) -> None:
    driver = choose.snapshots(str(tmp_path / "s"), name)
    keys = [layer_key(image.diff_id)]
    driver.add_layer(keys[0], io.BytesIO(image.tar))
    driver.prepare("one", keys, base=image.base)
    root, usr = tmp_path / "root", f"/usr/orlop-test-{os.getpid()}"
    inside = (
        f"python3 -c 'print(1 + 1)'; ls /etc/shadow; ls /home; touch {usr} && echo written;"
        "python3 -c 'import ssl, json, ctypes; print(len(ssl.OPENSSL_VERSION) > 3)'"
    )
    script = mounting(driver.mounts("one", keys), root) + f'chroot {root} /bin/sh -c "$1"'
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", inside]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not os.path.exists(usr)
    writable = [] if name == "native" else ["written"]
    assert result.stdout.split() == ["2", *writable, "True"], result.stderr
    assert (("A", usr) in list(driver.changes("one", keys))) == bool(writable)


def mounting(mounts: tuple[tuple[str, str, str, tuple[str, ...]], ...], root: Path) -> str:
    """Shell commands that make the mounts below *root*, with mount(8)."""
    places = [f"{root}-{number}" for number in range(len(mounts))]
    lines = [f"mkdir -p {root} {' '.join(places)}"]
    for (kind, source, target, options), place in zip(mounts, places, strict=True):
        place = f"{root}{target}" if target else place
        if kind == "bind":
            lines.append(f"mount --bind {source} {place}")
            lines += [f"mount -o remount,bind,ro {place}"] if "ro" in options else []
            continue
        text = ",".join(options)
        for number, lower in enumerate(places):
            text = text.replace(f"mount:{number}", lower)
        lines.append(f"mount -t {kind} -o {text} {source} {place}")
    return "; ".join(lines) + "; "
