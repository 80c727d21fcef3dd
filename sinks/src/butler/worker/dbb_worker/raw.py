"""Raws whose exposure record is missing: their headers have it, where the environment can read them.

In a full stack environment `RawIngestTask` reads the headers, inserts the records and registers the
files. It is not part of a plain Butler installation; there the raws wait for a dimension file.
"""

from __future__ import annotations

import logging

from .faults import understand
from .items import Item, place

LOG = logging.getLogger("dbb.raw")


def ingest_raws(repository, items: list[Item]) -> None:
    """Answers for the raws that could be ingested from their headers; leaves the others open."""
    if not items:
        return
    try:
        from lsst.obs.base import RawIngestTask
    except ImportError:
        return
    config = RawIngestTask.ConfigClass()
    config.transfer = repository.transfer.get("raw_file", "direct")
    repository.calls += 1
    try:
        RawIngestTask(config=config, butler=repository.butler).run([item.path for item in items])
    except Exception as error:
        # It registers what it can and then complains of the rest: who is in is asked below.
        if understand(error).kind == "down":
            raise
        LOG.warning("RawIngestTask: %s", error)
    uris = repository.uris(repository.known([item.ref.id for item in items]).values())
    left = []
    for item in items:
        if item.ref.id in uris:
            item.done(provides=_provided(repository, item))
        else:
            left.append(item)
    taken = repository.taken([item.ref for item in left]) if left else {}
    for item in left:
        # The header's UUID counts: it is what other repositories derive from the same file.
        if (there := taken.get(place(item.ref))) is not None:
            item.done(uuids=[str(there)], provides=_provided(repository, item))


def _provided(repository, item: Item) -> list[str]:
    from .dimensions import key_text

    keys = repository.keys.needed(item.ref.dataId)
    repository.keys.add(keys)
    return [key_text(key) for key in keys]
