"""What tests of downloads share: a blob, a client without patience, and a clock."""

from orlop.images.auth import Credentials
from orlop.images.exchange import Patience
from orlop.images.hosts import Endpoint
from orlop.images.registry import Registry, Source
from orlop.model import image as documents
from orlop.model.image import Descriptor, digest_of
from orlop.store.content import Content
from tests.integration.images import servers

DATA = bytes(range(256)) * 12_000
BLOB = Descriptor(media_type=documents.OCI_LAYER, digest=digest_of(DATA), size=len(DATA))
LOGIN = Credentials(username=servers.USER, password=servers.PASSWORD)


class Clock:
    """Remembers for how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def patience(self, attempts: int = 4) -> Patience:
        return Patience(attempts=attempts, first_wait_s=0.1, sleep=self.slept.append)


def connect(server: servers.Server, clock: Clock, login: Credentials | None = None) -> Registry:
    source = Source(
        repository="some/image",
        endpoints=(Endpoint(url=f"{server.url}/v2", primary=True, headers={"X-Secret": "s"}),),
        credentials=login,
    )
    return Registry(source, patience=clock.patience(), timeout_s=5)


def fetched(content: Content) -> bool:
    if content.has(BLOB.digest):
        content.verify(BLOB.digest)
        return True
    return False
