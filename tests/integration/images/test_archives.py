"""Archives: what we save others read, what others write we load, and the hostile are refused."""

import bz2
import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.errors import AlreadyExistsError, CorruptError, NotFoundError, UnsupportedError
from orlop.images.archives.load import LoadedImage, load_folder, load_tar
from orlop.images.archives.save import Saved, save_folder, save_tar
from orlop.images.build import Base, LayerWriter, draft, import_layer, store_image
from orlop.images.changes import apply_changes
from orlop.model import image as documents
from orlop.model.digest import DiffID
from orlop.model.image import History, Process, decode_config, decode_manifest, digest_of
from orlop.model.platform import parse_platform
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from tests.integration.images import samples

NAME = "docker.io/library/sample:1"
REFERENCE = parse_reference(NAME)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "content")


@pytest.fixture
def empty(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "empty")


def saved(content: Content, path: Path, *images: Saved) -> Path:
    with path.open("wb") as out:
        save_tar(images, content, out)
    return path


def load(path: Path, content: Content) -> list[LoadedImage]:
    with path.open("rb") as stream:
        return load_tar(stream, content)


def skopeo(*arguments: str | Path) -> bytes:
    return subprocess.check_output(["skopeo", *map(str, arguments)], stderr=subprocess.STDOUT)


def tar_file(path: Path, fill: Callable[[tarfile.TarFile], None]) -> Path:
    with tarfile.open(path, "w") as tar:
        fill(tar)
    return path


def put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


@pytest.mark.parametrize("media_type", samples.ENCODERS)
def test_a_saved_image_loads_the_same(
    content: Content, empty: Content, tmp_path: Path, media_type: str
) -> None:
    sample = samples.make(content, media_type=media_type)
    other = samples.make(content, layers=[samples.tar_of({"x": b"y"})])
    path = saved(
        content,
        tmp_path / "a.tar",
        Saved(sample.record.manifest, (REFERENCE, parse_reference("localhost:5000/b:2"))),
        Saved(other.record.manifest),
    )
    first, second, third = load(path, empty)
    assert (first.names, second.names) == ((NAME,), ("localhost:5000/b:2",))
    assert first.target == second.target == sample.record.target
    assert (third.names, third.config) == ((), other.record.config)
    assert {blob.digest for blob in empty.walk()} == {blob.digest for blob in content.walk()}


@pytest.mark.parametrize("compress", [gzip.compress, None])
def test_an_archive_may_be_compressed_as_a_whole(
    content: Content,
    empty: Content,
    tmp_path: Path,
    compress: Callable[[bytes], bytes] | None,
) -> None:
    compress = compress or samples.ENCODERS[documents.OCI_LAYER_ZSTD]
    sample = samples.make(content)
    path = saved(content, tmp_path / "a.tar", Saved(sample.record.manifest, (REFERENCE,)))
    path.write_bytes(compress(path.read_bytes()))
    (image,) = load(path, empty)
    assert image.config == sample.record.config


def test_skopeo_reads_both_forms_of_what_save_writes(content: Content, tmp_path: Path) -> None:
    sample = samples.make(content)
    path = saved(content, tmp_path / "a.tar", Saved(sample.record.manifest, (REFERENCE,)))
    raw = skopeo("inspect", "--raw", f"oci-archive:{path}:1")
    assert digest_of(raw) == sample.record.target.digest
    config = json.loads(skopeo("inspect", "--config", f"docker-archive:{path}:sample:1"))
    assert config["config"]["Labels"] == {"made": "here"}
    skopeo("copy", f"docker-archive:{path}", f"dir:{tmp_path / 'copied'}")
    skopeo("copy", f"oci-archive:{path}", f"dir:{tmp_path / 'again'}")


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_loaded(
    content: Content, empty: Content, tmp_path: Path, kind: str
) -> None:
    sample = samples.make(content)
    folder = tmp_path / "layout"
    save_folder([Saved(sample.record.manifest, (REFERENCE,))], content, folder)
    path = tmp_path / "skopeo.tar"
    skopeo("copy", f"oci:{folder}:1", f"{kind}:{path}:docker.io/library/sample:1")
    (image,) = load(path, empty)
    assert image.names == (NAME,)
    manifest = decode_manifest(empty.read(image.manifest))
    config = decode_config(empty.read(manifest.config))
    assert config.config.labels == {"made": "here"}
    for layer in manifest.layers:
        empty.verify(layer.digest)


def test_umoci_unpacks_what_save_writes_and_what_it_makes_is_loaded(
    content: Content, empty: Content, tmp_path: Path
) -> None:
    layers = [samples.tar_of({"a": b"1", "b": b"2"}), samples.tar_of({".wh.a": b""})]
    sample = samples.make(content, layers=layers)
    folder = tmp_path / "layout"
    save_folder(
        [Saved(sample.record.manifest, (parse_reference("localhost/x:1"),))], content, folder
    )
    image = f"{folder}:1"
    subprocess.run(["umoci", "unpack", "--image", image, tmp_path / "bundle"], check=True)
    assert sorted(entry.name for entry in (tmp_path / "bundle" / "rootfs").iterdir()) == ["b"]
    change = ["--config.user", "7", "--tag", "localhost/x:2"]
    subprocess.run(["umoci", "config", "--image", image, *change], check=True)
    by_name = {loaded.names[0]: loaded for loaded in load_folder(folder, empty)}
    changed = decode_manifest(empty.read(by_name["localhost/x:2"].manifest))
    assert decode_config(empty.read(changed.config)).config.user == "7"


def test_images_in_dockers_terms_are_saved_in_those_of_oci(
    empty: Content, content: Content, tmp_path: Path
) -> None:
    sample = samples.make(content)
    path = saved(content, tmp_path / "a.tar", Saved(sample.record.manifest, (REFERENCE,)))
    skopeo("copy", f"docker-archive:{path}", f"docker-archive:{tmp_path / 'docker.tar'}:sample:1")
    (loaded,) = load(tmp_path / "docker.tar", empty)
    assert loaded.manifest.media_type == documents.DOCKER_MANIFEST
    save_folder([Saved(loaded.manifest, (REFERENCE,))], empty, tmp_path / "layout")
    image = f"{tmp_path / 'layout'}:1"
    subprocess.run(["umoci", "unpack", "--image", image, tmp_path / "bundle"], check=True)
    (again,) = load_folder(tmp_path / "layout", empty)
    assert again.config == loaded.config


def test_the_content_store_itself_is_a_layout_that_others_read(content: Content) -> None:
    sample = samples.make(content)
    content.publish({NAME: sample.record.manifest})
    raw = skopeo("inspect", "--raw", f"oci:{content.root}:{NAME}")
    assert digest_of(raw) == sample.record.target.digest
    listed = subprocess.check_output(["umoci", "ls", "--layout", content.root], text=True)
    assert listed.split() == [NAME]


def test_old_docker_archives_share_layers_by_symbolic_link(empty: Content, tmp_path: Path) -> None:
    layer = samples.tar_of({"a": b"b"})
    diff_id = digest_of(layer)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
        }
    ).encode()
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}]

    def fill(tar: tarfile.TarFile) -> None:
        put(tar, "1/layer.tar", layer)
        link(tar, "2/layer.tar", "../1/layer.tar")
        put(tar, "c.json", config)
        put(tar, "manifest.json", json.dumps(manifest).encode())

    (image,) = load(tar_file(tmp_path / "a.tar", fill), empty)
    assert image.config == digest_of(config)
    assert len(decode_manifest(empty.read(image.manifest)).layers) == 2


_LOW, _TOP = "a" * 64, "b" * 64


def legacy(
    path: Path,
    *,
    repositories: object = None,
    top: object = None,
    layer: bytes = samples.tar_of({"low": b"1"}),
) -> Path:
    """Write an archive as Docker did before 1.10: two layers, each an image."""
    made = "2015-01-02T03:04:05Z"
    step = {"Cmd": ["/bin/sh", "-c", "#(nop) ADD <file>"]}
    low = {"id": _LOW, "created": made, "container_config": step, "Size": 1, "os": "linux"}
    config = {"Cmd": ["sh"], "Env": ["A=b"], "Entrypoint": None}
    default = {"id": _TOP, "parent": _LOW, "created": made, "author": "me", "config": config}
    documents = {
        f"{_TOP}/VERSION": b"1.0",
        f"{_TOP}/json": json.dumps(default if top is None else top).encode(),
        f"{_TOP}/layer.tar": samples.tar_of({"top": b"2"}),
        f"{_LOW}/VERSION": b"1.0",
        f"{_LOW}/json": json.dumps(low).encode(),
        f"{_LOW}/layer.tar": layer,
    }
    if repositories is not None:
        documents["repositories"] = json.dumps(repositories).encode()

    def fill(tar: tarfile.TarFile) -> None:
        for name, data in documents.items():
            put(tar, name, data)

    return tar_file(path, fill)


def test_an_archive_of_docker_before_1_10_is_loaded(empty: Content, tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.tar", repositories={"sample": {"1": _TOP, "low": _LOW}})
    top, low = load(path, empty)
    assert (top.names, low.names) == ((NAME,), ("docker.io/library/sample:low",))
    config = decode_config(empty.read_document(top.config))
    assert (config.config.cmd, config.config.env) == (("sh",), ("A=b",))
    assert (config.os, config.architecture, config.author) == ("linux", "amd64", "me")
    below, above = (samples.tar_of(files) for files in ({"low": b"1"}, {"top": b"2"}))
    diff_ids = [DiffID(digest_of(below)), DiffID(digest_of(above))]
    assert list(config.rootfs.diff_ids) == diff_ids
    assert [step.created_by for step in config.history] == ["/bin/sh -c #(nop) ADD <file>", ""]
    assert rb"ADD \u003cfile\u003e" in empty.read_document(top.config)  # as Docker writes it
    manifest = decode_manifest(empty.read(top.manifest))
    assert [DiffID(layer.digest) for layer in manifest.layers] == diff_ids
    assert list(decode_config(empty.read_document(low.config)).rootfs.diff_ids) == diff_ids[:1]


def test_an_old_archive_without_names_has_the_images_that_are_nobodys_parent(
    empty: Content, tmp_path: Path
) -> None:
    (image,) = load(legacy(tmp_path / "a.tar"), empty)
    assert image.names == ()
    assert len(decode_manifest(empty.read(image.manifest)).layers) == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"top": {"id": _TOP, "parent": "c" * 64}}, "has no file"),
        ({"top": {"id": _TOP, "parent": _TOP}, "repositories": {"a": {"b": _TOP}}}, "127 layers"),
        ({"top": []}, "is not valid"),
        ({"top": {"config": 7}}, "not valid"),
        ({"repositories": {"a": {"b": "../../etc"}}}, "has no file"),
        ({"repositories": {"a": "b"}}, "repositories is not valid"),
        ({"repositories": {"A b": {"c": _TOP}}}, "names an image"),
        ({"layer": gzip.compress(samples.tar_of({"x": b""}))}, "compressed layers"),
    ],
)
def test_an_old_archive_that_is_not_right_is_refused(
    empty: Content, tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(CorruptError, match=said):
        load(legacy(tmp_path / "a.tar", **wrong), empty)  # type: ignore[arg-type] # as given


def test_a_folder_that_holds_something_is_not_saved_over(content: Content, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        save_folder([Saved(samples.make(content).record.manifest)], content, tmp_path)


def test_a_damaged_blob_stops_a_save(content: Content) -> None:
    sample = samples.make(content)
    path = content.path(sample.manifest.layers[0].digest)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptError):
        save_tar([Saved(sample.record.manifest)], content, io.BytesIO())


def hostile(tmp_path: Path, secret: Path) -> dict[str, Path]:
    """Return archives that want something that they should not get."""
    layer = samples.tar_of({"a": b"b"})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    ).encode()

    def archive(name: str, config_name: str, *layers: str, links: dict[str, str]) -> Path:
        manifest = [{"Config": config_name, "Layers": list(layers)}]

        def fill(tar: tarfile.TarFile) -> None:
            put(tar, "c.json", config)
            put(tar, "layer.tar", layer)
            put(tar, "../../escaped", b"x")
            put(tar, "/tmp/orlop-escaped", b"x")
            for source, target in links.items():
                link(tar, source, target)
            put(tar, "manifest.json", json.dumps(manifest).encode())

        return tar_file(tmp_path / name, fill)

    return {
        "config outside": archive("1", f"../../../..{secret}", "layer.tar", links={}),
        "layer by link outside": archive("2", "c.json", "l", links={"l": str(secret)}),
        "links in a circle": archive("3", "c.json", "a", links={"a": "b", "b": "a"}),
        "too few layers": archive("4", "c.json", links={}),
        "layer of other content": archive("5", "c.json", "c.json", links={}),
    }


@pytest.mark.parametrize(
    "attack",
    [
        "config outside",
        "layer by link outside",
        "links in a circle",
        "too few layers",
        "layer of other content",
    ],
)
def test_a_hostile_archive_reaches_nothing_outside(
    empty: Content, tmp_path: Path, attack: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"{}")
    path = hostile(tmp_path, secret)[attack]
    with pytest.raises(CorruptError):
        load(path, empty)
    assert not Path("/tmp/orlop-escaped").exists()
    assert not list(tmp_path.rglob("escaped"))
    assert not empty.has(digest_of(b"{}"))


def test_a_blob_that_is_not_what_its_name_says_is_refused(
    content: Content, empty: Content, tmp_path: Path
) -> None:
    sample = samples.make(content)
    path = saved(content, tmp_path / "a.tar", Saved(sample.record.manifest, (REFERENCE,)))
    victim = f"blobs/{sample.manifest.layers[0].digest.replace(':', '/')}"
    other = tmp_path / "b.tar"
    with tarfile.open(path) as source, tarfile.open(other, "w") as target:
        for entry in source:
            file = source.extractfile(entry) if entry.isfile() else None
            data = file.read() if file else b""
            if entry.name == victim:
                data = data[:-1] + bytes([data[-1] ^ 1])
            target.addfile(entry, io.BytesIO(data))
    with pytest.raises(CorruptError, match="not what its name says"):
        load(other, empty)


def test_a_layout_whose_blob_is_a_link_out_of_it_is_refused(
    content: Content, empty: Content, tmp_path: Path
) -> None:
    sample = samples.make(content)
    folder = tmp_path / "layout"
    save_folder([Saved(sample.record.manifest, (REFERENCE,))], content, folder)
    blob = folder / "blobs" / sample.manifest.layers[0].digest.replace(":", "/")
    outside = tmp_path / "outside"
    blob.rename(outside)
    blob.symlink_to(outside)
    with pytest.raises((CorruptError, OSError)):
        load_folder(folder, empty)
    assert not empty.has(sample.manifest.layers[0].digest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar at all",
        gzip.compress(b"no tar either" * 100),
        gzip.compress(bytes(4096))[:-9],
        samples.tar_of({"something": b"else"}),
        samples.tar_of({"manifest.json": b"["}),
        samples.tar_of({"manifest.json": b'[{"Config": 7}]'}),
        samples.tar_of({"oci-layout": b"{}", "index.json": b'{"manifests": 7}'}),
        samples.tar_of({"manifest.json": b" " * (9 << 20)}),
    ],
)
def test_what_is_no_archive_is_said_to_be_none(empty: Content, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(CorruptError):
        load(path, empty)


def test_an_outer_compression_that_we_do_not_read_is_named(empty: Content, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bz2.compress(bytes(10_000)))
    with pytest.raises(UnsupportedError, match="bzip2"):
        load(path, empty)


def test_an_archive_without_the_platform_says_so(
    content: Content, empty: Content, tmp_path: Path
) -> None:
    made = {"linux/s390x": samples.make(content, platform=parse_platform("linux/s390x"))}
    record = samples.make_index(content, made, NAME)
    folder = tmp_path / "layout"
    save_folder([Saved(record.manifest, (REFERENCE,))], content, folder)
    index = json.loads(content.read(record.target))
    (folder / "index.json").write_text(json.dumps(index))
    blob = folder / "blobs" / record.target.digest.replace(":", "/")
    blob.write_bytes(content.read(record.target))
    entry = {"digest": record.target.digest, "size": record.target.size}
    entry |= {"mediaType": documents.OCI_INDEX}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(NotFoundError, match="no image for"):
        load_folder(folder, empty, platform=parse_platform("linux/amd64"))
    (image,) = load_folder(folder, empty, platform=parse_platform("linux/s390x"))
    assert image.target.digest == record.target.digest


def test_an_imported_root_file_system_is_an_image_for_umoci(
    content: Content, tmp_path: Path
) -> None:
    tar = samples.tar_of({"hello": b"there"})
    layer = import_layer(io.BytesIO(gzip.compress(tar)), content)
    assert str(layer.diff_id) == digest_of(tar)
    process = apply_changes(Process(), ['CMD ["/hello"]', "ENV A=1 B='two words'", "WORKDIR srv"])
    history = History(created="2026-01-02T03:04:05Z", comment="imported")
    built = store_image(content, draft().extended(process, history, layer))
    base = Base(
        decode_manifest(content.read(built.descriptor)), decode_config(content.read(built.config))
    )
    with LayerWriter(content) as writer:
        writer.write(samples.tar_of({"more": b"!"}))
        upper = writer.finish()
    step = History(created_by="commit")
    child = store_image(content, draft(base).extended(base.config.config, step, upper))
    content.publish({"localhost/child:1": child.descriptor})
    image = f"{content.root}:localhost/child:1"
    subprocess.run(["umoci", "unpack", "--image", image, tmp_path / "bundle"], check=True)
    root = tmp_path / "bundle" / "rootfs"
    assert sorted(entry.name for entry in root.iterdir()) == ["hello", "more"]
    run = json.loads((tmp_path / "bundle" / "config.json").read_text())["process"]
    assert run["args"] == ["/hello"]
    assert "B=two words" in run["env"]
    assert run["cwd"] == "/srv"


def test_what_is_no_tar_is_not_imported(content: Content) -> None:
    with pytest.raises(CorruptError):
        import_layer(io.BytesIO(b"x" * 5000), content)
    assert list(content.walk()) == []
    assert list(content.abandoned()) == []
