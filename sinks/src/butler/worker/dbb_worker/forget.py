"""One request: files that are gone, and the datasets that were registered from them.

    UUIDs, or else the file's URI -> stored where?
        there      -> forgotten, all datasets of a zip together
        elsewhere  -> kept
        nowhere    -> nothing to do

No file is ever deleted. Outside the datastore's root datasets are pruned: their URIs are absolute, and the Butler
deletes no artifact at one. Inside it `pruneDatasets` would delete the file, so the records alone are dropped, by two
calls that are not public, and only of a Butler with which that was tested; with any other it is refused.
"""

from __future__ import annotations

import logging
import uuid

from lsst.resources import ResourcePath

from .faults import sentence, understand
from .ingest import without_member

LOG = logging.getLogger("dbb.forget")
# Major versions with which dropping records inside the root was tested.
TESTED = {"30"}


def forget(repository, given: list[dict]) -> dict:
    """Forgets the datasets of the files of one request."""
    calls = repository.calls
    items = [_Gone(item) for item in given]
    _find_by_uri(repository, [item for item in items if not item.ids])
    known = repository.known({id for item in items for id in item.ids})
    uris = repository.uris(known.values())
    for item in items:
        item.look(repository, known, uris)
    _remove(repository, [item for item in items if item.answer is None])
    return {"items": [item.answer for item in items], "calls": repository.calls - calls}


class _Gone:
    """A file that is gone. `answer` is set once."""

    def __init__(self, given: dict):
        self.k: int = given["k"]
        self.uris: list[str] = given.get("uris", [])
        self.ids = {uuid.UUID(text) for text in given.get("uuids", ())}
        self.registered: bool = given.get("registered", False)
        self.refs: list = []
        self.inside = False
        self.answer: dict | None = None

    def look(self, repository, known: dict, uris: dict) -> None:
        """Finds out which datasets go; where there are none, that is the answer."""
        here = {text for uri in self.uris for text in _spellings(repository, uri)}
        elsewhere = None
        lost = []
        for id in self.ids:
            if id not in known:
                continue
            if id not in uris:
                lost.append(known[id])
            elif without_member(uris[id]) in here:
                self.refs.append(known[id])
                self.inside |= repository.inside_root(uris[id])
            else:
                elsewhere = str(uris[id])
        if repository.removal == "purge" and elsewhere is None:
            # The Butler knows no place of theirs: nothing of them is left anywhere.
            self.refs += lost
        if self.refs:
            return
        if elsewhere is not None:
            self.close("kept_elsewhere", uri=elsewhere)
        else:
            self.close("removed" if self.registered else "not_there")

    def close(self, word: str, **fields) -> None:
        uuids = sorted(str(ref.id) for ref in self.refs)
        self.answer = {"k": self.k, "class": word, "uuids": uuids} | fields

    def done(self) -> None:
        self.close("removed")

    def file(self) -> str:
        return next(iter(self.uris), "a file whose URI is not known")


def _spellings(repository, uri: str) -> set[str]:
    """The ways the Butler may write this URI: one without a root is below one of the datastore's."""
    try:
        path = ResourcePath(uri, forceAbsolute=False, forceDirectory=False)
        if path.isabs():
            return {str(path)}
        return {str(root.join(uri, forceDirectory=False)) for root in repository.roots}
    except Exception as error:
        # One that cannot be read here is the URI of nothing that is registered here.
        LOG.info("%s is no URI: %s", uri, error)
        return set()


def _find_by_uri(repository, items: list[_Gone]) -> None:
    """The datasets of files of which nothing is known but the URI."""
    spelt = {text: item for item in items for uri in item.uris for text in _spellings(repository, uri)}
    for text, ids in repository.at(list(spelt)).items():
        spelt[text].ids |= ids


def _remove(repository, items: list[_Gone]) -> None:
    owned = [item for item in items if item.inside]
    free = [item for item in items if not item.inside]
    if owned and not _can_drop(repository.butler):
        for item in owned:
            item.close(
                "refused",
                reason="owned",
                detail=f"{item.file()} is inside the datastore's root, where this Butler would delete the file too: "
                "its record is left as it is",
            )
        owned = []
    for call, batch in ((_prune, free), (_drop, owned)):
        if batch and not _attempt(repository, call, batch) and len(batch) > 1:
            # One that cannot go does not keep the others.
            for item in batch:
                _attempt(repository, call, [item])


def _attempt(repository, call, items: list[_Gone]) -> bool:
    refs = {ref.id: ref for item in items for ref in item.refs}
    repository.calls += 1
    try:
        call(repository, list(refs.values()))
    except Exception as error:
        fault = understand(error)
        if fault.kind == "down":
            raise
        LOG.info("removal of %d datasets failed: %s: %s", len(refs), fault.kind, fault.detail)
        if len(items) == 1:
            _refuse(items[0], fault, error)
        return False
    for item in items:
        item.done()
    return True


def _refuse(item: _Gone, fault, error: Exception) -> None:
    detail = f"the Butler did not let go of {item.file()}: {sentence(error)}"
    if fault.kind in ("race", "passing", "missing_file"):
        item.close("retry_later", reason="butler", waits_for="time", detail=detail)
    else:
        item.close("refused", reason="butler", detail=detail)


def _prune(repository, refs: list) -> None:
    purge = repository.removal == "purge"
    repository.butler.pruneDatasets(refs, unstore=True, purge=purge, disassociate=purge)


def _can_drop(butler) -> bool:
    from lsst.daf.butler import version

    return version.__version__.split(".")[0] in TESTED and hasattr(getattr(butler, "_datastore", None), "forget")


def _drop(repository, refs: list) -> None:
    butler = repository.butler
    with butler.transaction():
        butler._datastore.forget(refs)
        if repository.removal == "purge":
            butler.registry.removeDatasets(refs)
