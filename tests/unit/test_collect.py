"""The collector takes what nothing needs, and only that."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.model import image as documents
from orlop.model.digest import DiffID, Digest
from orlop.model.image import Descriptor, ImageConfig, Index, Manifest, RootFS, digest_of
from orlop.store.builds import BuildRecord
from orlop.store.collect import Item, Sweeper, collect
from orlop.store.content import Blob, Content
from orlop.store.metadata import ImageRecord, Metadata


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content.create(tmp_path / "content")


@pytest.fixture
def metadata(tmp_path: Path, content: Content) -> Iterator[Metadata]:
    with Metadata(tmp_path / "metadata.db", content) as metadata:
        yield metadata


def stored(content: Content, data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=content.add(data), size=len(data))


def make_image(content: Content, *layers: bytes) -> ImageRecord:
    diff_ids = tuple(DiffID(digest_of(layer)) for layer in layers)
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS("layers", diff_ids))
    manifest = Manifest(
        schema_version=2,
        config=stored(content, documents.encode(config), documents.OCI_CONFIG),
        layers=tuple(stored(content, layer, documents.OCI_LAYER) for layer in layers),
    )
    target = stored(content, documents.encode(manifest), documents.OCI_MANIFEST)
    index = Index(schema_version=2, manifests=(target,))
    return ImageRecord(
        name="docker.io/library/x:1",
        target=stored(content, documents.encode(index), documents.OCI_INDEX),
        manifest=target,
        config=manifest.config.digest,
        created_ns=1,
    )


def here(content: Content) -> set[Digest]:
    return {blob.digest for blob in content.walk()}


def test_an_image_keeps_all_that_its_index_leads_to(content: Content, metadata: Metadata) -> None:
    metadata.images.put(make_image(content, b"shared", b"own"))
    before = here(content)
    stray = content.add(b"stray")
    garbage = collect(content, metadata)
    assert garbage.removed == [("blob", stray)]
    assert garbage.reclaimed_bytes == len(b"stray")
    assert here(content) == before


def test_a_removed_image_leaves_only_what_others_share(
    content: Content, metadata: Metadata
) -> None:
    one, two = make_image(content, b"shared", b"one"), make_image(content, b"shared", b"two")
    for name, record in (("a", one), ("b", two)):
        metadata.images.put(
            ImageRecord(
                name=name,
                target=record.target,
                manifest=record.manifest,
                config=record.config,
                created_ns=1,
            )
        )
    metadata.images.remove("a")
    collect(content, metadata)
    assert not content.has(digest_of(b"one"))
    assert content.has(digest_of(b"shared"))
    assert content.has(digest_of(b"two"))
    metadata.images.remove("b")
    collect(content, metadata)
    assert here(content) == set()


def test_what_is_leased_stays_until_the_lease_ends(content: Content, metadata: Metadata) -> None:
    with metadata.leases.hold() as lease:
        lease.add(digest_of(b"wanted"))
        content.add(b"wanted")
        collect(content, metadata)
        assert content.has(digest_of(b"wanted"))
    collect(content, metadata)
    assert not content.has(digest_of(b"wanted"))


def test_interrupted_downloads_are_reclaimed(content: Content, metadata: Metadata) -> None:
    with content.writer(digest_of(b"never")) as writer:
        writer.write(b"nev")
    assert collect(content, metadata, dry_run=True).reclaimed_bytes == 3
    collect(content, metadata, partial=False)
    assert len(list(content.abandoned())) == 1
    collect(content, metadata)
    assert list(content.abandoned()) == []


def test_a_dry_run_counts_and_removes_nothing(content: Content, metadata: Metadata) -> None:
    content.add(b"stray")
    assert collect(content, metadata, dry_run=True).reclaimed_bytes == 5
    assert content.has(digest_of(b"stray"))


def test_layers_are_swept_by_the_marks_of_images(content: Content, metadata: Metadata) -> None:
    metadata.images.put(make_image(content, b"layer"))
    layers = {digest_of(b"layer"), digest_of(b"gone")}
    sweeper = Sweeper(
        "layer",
        items=lambda: [Item(layer, 10) for layer in layers],
        live=lambda live, key: key in live.layers,
        remove=lambda key: layers.remove(Digest(key)),
    )
    assert collect(content, metadata, sweepers=[sweeper]).reclaimed_bytes == 10
    assert layers == {digest_of(b"layer")}


def test_a_lease_waits_for_a_collection_to_end(tmp_path: Path) -> None:
    seen = threading.Event()
    found: list[bool] = []

    class Interrupted(Content):
        """A pull begins between mark and sweep, and gets as far as it can."""

        def walk(self) -> Iterator[Blob]:
            puller.start()
            seen.wait(0.2)
            return super().walk()

    content = Interrupted.create(tmp_path / "content")
    stray = content.add(b"stray")
    with Metadata(tmp_path / "db", content) as metadata:

        def pull() -> None:
            with metadata.leases.hold() as lease:
                lease.add(stray)
                found.append(content.has(stray))
                seen.set()

        puller = threading.Thread(target=pull)
        collect(content, metadata)
        puller.join()
    assert found == [content.has(stray)]


def test_the_cache_of_builds_keeps_layers_and_images(content: Content, metadata: Metadata) -> None:
    image = make_image(content, b"of an image")
    layer = stored(content, b"of a step", documents.OCI_LAYER)
    diff_id = DiffID(digest_of(b"unpacked"))
    metadata.builds.put(BuildRecord(key="image", blob=image.manifest))
    metadata.builds.put(BuildRecord(key="step", blob=layer, diff_id=diff_id))
    kept: set[str] = set()
    sweeper = Sweeper(
        "layer", items=lambda: [Item(diff_id, 1)], live=lambda live, key: key in live.layers,
        remove=kept.add,
    )  # fmt: skip
    removed = collect(content, metadata, sweepers=[sweeper]).removed
    assert removed == [("blob", image.target.digest)]  # the index, which the cache does not name
    metadata.builds.remove("step")
    assert collect(content, metadata, sweepers=[sweeper]).removed == [
        ("blob", layer.digest),
        ("layer", diff_id),
    ]
