"""Objects on S3 or anything that speaks it, by obstore: the one module that imports it (extra `s3`)."""

from typing import Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from heimdall_fleet.objects.base import ObjectStoreError

_TIMEOUT = "30s"


class S3Objects:
    """Objects in `store`, which stands at `url`."""

    def __init__(self, url: str, store: S3Store) -> None:
        self._url = url.rstrip("/")
        self._store = store

    @classmethod
    def at(cls, url: str) -> Self:
        """Under `s3://bucket/prefix`. Region, endpoint and credentials come from the usual AWS variables and roles."""
        return cls(url, S3Store.from_url(url, client_options={"timeout": _TIMEOUT}))

    async def put(self, name: str, value: bytes) -> str:
        where = f"{self._url}/{name}"
        try:
            await obstore.put_async(self._store, name, value)
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{where} cannot be written: {str(error)[:300]}") from error
        return where
