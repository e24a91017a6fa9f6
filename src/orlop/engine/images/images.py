"""Images: what containers are made from."""

from collections.abc import AsyncIterator, Sequence

from orlop.engine.answers import (
    Deleted,
    HistoryStep,
    ImageRecord,
    ImageSummary,
    ProgressCallback,
    Pruned,
)
from orlop.engine.requests import NO_FILTERS, CommitRequest, Credentials, Filters
from orlop.model.image import Descriptor


class Images:
    def resolve(self, ref: str) -> ImageRecord:
        """Return the image that a name, a digest or an id (or its start) means.

        NotFoundError "No such image: …". `host` is built in.
        """
        raise NotImplementedError

    async def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        credentials: Credentials | None = None,
        progress: ProgressCallback,
    ) -> ImageRecord:
        """Fetch and unpack an image; what is here already is not fetched again.

        The first progress, once the registry has shown the manifest, is "Pulling from
        library/alpine" with the tag as its id; then one id a layer. What came of it
        ("Digest: …", "Status: …") is said by who renders the record.
        """
        raise NotImplementedError

    async def push(
        self, reference: str, *, credentials: Credentials | None = None, progress: ProgressCallback
    ) -> Descriptor:
        """Send an image; returns the manifest as the registry has it now."""
        raise NotImplementedError

    async def tag(self, source: str, target: str) -> None:
        raise NotImplementedError

    async def remove(
        self, ref: str, *, force: bool = False, prune: bool = True
    ) -> Sequence[Deleted]:
        """Take away the tag, or with the last tag the image; *prune*: untagged parents as well."""
        raise NotImplementedError

    async def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - Docker's word
        filters: Filters = NO_FILTERS,
    ) -> Sequence[ImageSummary]:
        raise NotImplementedError

    def history(self, ref: str) -> Sequence[HistoryStep]:
        raise NotImplementedError

    async def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """Return a tar that is a docker archive and an OCI layout at once."""
        raise NotImplementedError

    async def load(
        self, source: AsyncIterator[bytes], *, progress: ProgressCallback
    ) -> Sequence[str]:
        """Read what save() wrote (ours, docker's, skopeo's); returns names, or ids without one."""
        raise NotImplementedError

    async def import_(
        self,
        source: AsyncIterator[bytes],
        reference: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
    ) -> str:
        """Make a one-layer image of a tar of a root file system; returns its id."""
        raise NotImplementedError

    async def commit(self, container: str, reference: str, request: CommitRequest) -> str:
        """Make an image of a container's changes; returns its id."""
        raise NotImplementedError

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove untagged images, with filter dangling=false all that no container uses."""
        raise NotImplementedError
