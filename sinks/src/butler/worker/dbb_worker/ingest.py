"""One request: every file in it looked at, then as few calls of the Butler as will do.

    dimension files -> zips -> raws and products -> an answer for each

Dimension files come first because the others need them. What can be known of an item before the
Butler is called is found out first, in bulk: one bad file must not cost its batch a failed call.
"""

from __future__ import annotations

import json

from lsst.resources import ResourcePath

from .batch import Batch
from .dimensions import key_text
from .faults import sentence, understand
from .files import import_dimensions, ingest_zip
from .items import Item, place, place_text
from .raw import ingest_raws


def ingest(repository, given: list[dict]) -> dict:
    """Registers the files of one request."""
    calls = repository.calls
    repository.allow.begin()
    items = [Item.of(item) for item in given]
    for item in items:
        try:
            # Said to be a file, or the Butler makes a path of its own of it, which asks for its size again.
            item.path = ResourcePath(item.uri, forceDirectory=False)
        except Exception as error:
            item.refused("bad_field", f"`{item.uri}` is no URI this environment can read: {error}")
    for item in _of(items, "dim_file"):
        import_dimensions(repository, item)
    for item in _of(items, "zip_file"):
        ingest_zip(repository, item)
    _ingest_datasets(repository, _of(items, "raw_file", "data_product"))
    for item in items:
        if item.open:
            item.refused("unknown_kind", f"there is no kind `{item.kind}`")
    return {
        "items": [item.answer for item in items],
        "calls": repository.calls - calls,
        "new_dataset_types": sorted(repository.allow.new_types),
        "new_runs": sorted(repository.allow.new_runs),
    }


def _of(items, *kinds: str) -> list[Item]:
    return [item for item in items if item.kind in kinds and item.open]


def _open(items) -> list[Item]:
    return [item for item in items if item.open]


def _ingest_datasets(repository, items: list[Item]) -> None:
    if not items:
        return
    for item in items:
        _parse(repository, item)
    for item in _open(items):
        if why := repository.allow.objection(item.ref.datasetType, item.ref.run):
            item.refused(*why)
    repository.verifier.verify(_open(items))
    repeats = _set_repeats_aside(_open(items))
    items = [item for item in _open(items) if item.k not in repeats]
    settle_known(repository, items)
    _await_dimensions(repository, _open(items))
    repository.records.attach(_open(items))
    batches: dict[tuple, list[Item]] = {}
    for item in _open(items):
        transfer = repository.transfer.get(item.kind, "direct")
        # Files inside and outside the root in one call make the Butler split them by rules of its own.
        inside = transfer == "auto" and repository.inside_root(item.path)
        batches.setdefault((transfer, inside), []).append(item)
    for (transfer, _), batch in batches.items():
        Batch(repository, transfer).run(batch)
    for repeat, first in repeats.values():
        repeat.same_answer_as(first)


def _parse(repository, item: Item) -> None:
    try:
        try:
            ref = repository.ref(item.sidecar)
        except Exception:
            if (newer := _newer_form(item.sidecar)) is None:
                raise
            ref = repository.ref(newer)
    except Exception as error:
        if understand(error).kind == "down":
            raise
        item.refused("bad_sidecar", f"the sidecar of {item.uri} does not describe a dataset: {sentence(error)}")
        return
    if ref.isComponent():
        item.refused("bad_sidecar", f"the sidecar of {item.uri} describes a component, {ref.datasetType.name}")
        return
    item.ref = ref


def _newer_form(sidecar: str) -> str | None:
    """A sidecar of 2023, whose dimensions are `{"names": [...]}`, as it is written today."""
    try:
        document = json.loads(sidecar)
        document["datasetType"]["dimensions"] = document["datasetType"]["dimensions"]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return json.dumps(document)


def _set_repeats_aside(items: list[Item]) -> dict[int, tuple[Item, Item]]:
    """The first of several wins: an equal one waits for its answer, a different one is ambiguous."""
    repeats: dict[int, tuple[Item, Item]] = {}
    ids: dict = {}
    places: dict = {}
    for item in items:
        where = place(item.ref)
        first = ids.get(item.ref.id)
        if first is not None:
            if first.uri == item.uri and place(first.ref) == where:
                repeats[item.k] = (item, first)
            elif first.uri == item.uri:
                item.refused(
                    "ambiguous",
                    f"UUID {item.ref.id} is {place_text(item.ref)} here and {place_text(first.ref)} "
                    f"in another event for {first.uri}",
                )
            else:
                item.refused("ambiguous", f"UUID {item.ref.id} is given to both {first.uri} and {item.uri}")
            continue
        if (first := places.get(where)) is not None:
            item.refused(
                "ambiguous",
                f"{place_text(item.ref)} is given to both {first.uri} (UUID {first.ref.id}) "
                f"and {item.uri} (UUID {item.ref.id})",
            )
            continue
        ids[item.ref.id] = places[where] = item
    return repeats


def settle_known(repository, items: list[Item]) -> None:
    """Answers for datasets that the repository has already; leaves those it has lost the file of."""
    known = repository.known([item.ref.id for item in items])
    if not known:
        return
    same = []
    for item in items:
        if (there := known.get(item.ref.id)) is None:
            continue
        if place(there) == place(item.ref):
            same.append((item, there))
        else:
            item.refused(
                "conflict",
                f"UUID {there.id} is {place_text(there)} in this repository, "
                f"{place_text(item.ref)} in the sidecar of {item.uri}",
            )
    uris = repository.uris([there for _, there in same])
    for item, there in same:
        uri = uris.get(there.id)
        if uri is None:
            continue
        transfer = repository.transfer.get(item.kind, "direct")
        copied = transfer != "direct" and repository.inside_root(uri) and not repository.inside_root(item.path)
        if copied or without_member(uri) == without_member(item.path):
            item.already_there()
        else:
            item.elsewhere(str(uri))


def without_member(uri) -> str:
    """The URI of the file: of the zip, where it names a member of one."""
    return str(uri).split("#zip-path=")[0]


def _await_dimensions(repository, items: list[Item]) -> None:
    missing = repository.keys.missing(item.ref.dataId for item in items)
    if not missing:
        return
    lacking = [item for item in items if repository.keys.first_missing(item.ref.dataId, missing)]
    # A raw can bring its exposure record itself, where the environment can read its header.
    ingest_raws(repository, [item for item in lacking if item.kind == "raw_file"])
    for item in _open(lacking):
        await_dimension(item, repository.keys.first_missing(item.ref.dataId, missing))


def await_dimension(item: Item, key: tuple) -> None:
    """Answers that the item waits for this dimension record."""
    text = key_text(key)
    item.later("butler", text, f"{item.uri} needs the {text.replace(':', ' record ', 1)}, which is not there yet")
