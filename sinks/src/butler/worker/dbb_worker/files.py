"""Files that are a call of their own: dimension records to import, zips of datasets."""

from __future__ import annotations

import json
import logging
import uuid
import zipfile

from lsst.daf.butler import DatasetRef
from lsst.resources import ResourcePath

from .bounded import TooLong, read_file, read_member
from .dimensions import Export, key_text
from .faults import sentence, understand
from .items import Item, place, place_text

LOG = logging.getLogger("dbb.files")
_INDEX = "_butler_zip_index.json"


def import_dimensions(repository, item: Item) -> None:
    """Imports a dimension file; `provides` its records' keys and the file itself."""
    repository.verifier.verify([item])
    if item.open:
        _import(repository, item, item.path, f"file:{item.uri}")


def _import(repository, item: Item, path: ResourcePath, file_key: str) -> list[str] | None:
    """Imports `path` and returns what it provides. Answers `item` where that fails, or where it is the file."""
    own = path is item.path
    try:
        text = read_file(path).decode()
    except FileNotFoundError:
        item.later("file_missing", f"file:{item.uri}", f"there is no file at {path}")
        return None
    except UnicodeDecodeError as error:
        item.refused("bad_field", f"{path} is not UTF-8: {error}")
        return None
    except TooLong as error:
        item.refused("bad_field", f"{path} is no dimension file: {error}")
        return None
    except Exception as error:
        item.later("butler", "time", f"{path} could not be read: {sentence(error)}")
        return None
    try:
        export = Export(text, repository.butler.dimensions)
    except Exception as error:
        item.refused("bad_field", f"{path} is no dimension file: {sentence(error)}")
        return None
    if why := _export_objection(repository, export):
        item.refused(*why)
        return None
    dimensions = repository.butler.dimensions.dimensions.names
    real = {key for key in export.keys if key[0] in dimensions}
    try:
        new = repository.keys.look_up(real)
        repository.calls += 1
        # Only a full export refers to files; a pure one registers nothing but records.
        extra = {"directory": path.dirname(), "transfer": "direct"} if export.has_datasets else {}
        repository.butler.import_(filename=export.stream(), format=".yaml", **extra)
    except Exception as error:
        _answer_failure(item, understand_or_raise(error), f"the Butler could not import {path}")
        return None
    repository.keys.add(real)
    provides = [key_text(key) for key in dict.fromkeys(export.keys)] + [file_key]
    if own:
        (item.done if new else item.already_there)(uuids=[], provides=provides)
    return provides


def _export_objection(repository, export: Export) -> tuple[str, str] | None:
    for name in export.dataset_types:
        if why := repository.allow.name_objection("dataset type", name):
            return why
    for run in export.runs:
        if why := repository.allow.name_objection("RUN", run):
            return why
    return None


def understand_or_raise(error: Exception):
    """What the failure means; a database that is down is nobody's fault and goes on up."""
    fault = understand(error)
    if fault.kind == "down":
        raise error
    return fault


def _answer_failure(item: Item, fault, what: str) -> None:
    detail = f"{what}: {fault.detail}"
    match fault.kind:
        case "foreign_key":
            key = (fault.table, *fault.key.values()) if fault.key else ()
            item.later("butler", key_text(key), detail)
        case "passing" | "race":
            item.later("butler", "time", detail)
        case "missing_file":
            item.later("file_missing", f"file:{item.uri}", detail)
        case "environment":
            item.refused("environment", detail)
        case "conflict":
            item.refused("conflict", detail)
        case _:
            item.refused("butler", detail)


def ingest_zip(repository, item: Item) -> None:
    """Ingests a zip with its own index, and the dimension records it or its sibling brings."""
    repository.verifier.verify([item])
    if not item.open:
        return
    try:
        with item.path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            index = json.loads(read_member(archive, _INDEX))
        refs = _refs(repository, index)
    except FileNotFoundError:
        item.later("file_missing", f"file:{item.uri}", f"there is no file at {item.uri}")
        return
    except OSError as error:
        item.later("butler", "time", f"{item.uri} could not be read: {sentence(error)}")
        return
    except Exception as error:
        if understand(error).kind == "down":
            raise
        item.refused("bad_field", f"{item.uri} is no zip with a Butler index: {sentence(error)}")
        return
    for ref in refs:
        if why := repository.allow.objection(ref.datasetType, ref.run):
            item.refused(*why)
            return
    uuids = [str(ref.id) for ref in refs]
    if _zip_is_known(repository, item, refs, uuids):
        return
    has_records = bool(index["refs"].get("dimension_records"))
    provided: list[str] = []
    if not has_records:
        sibling = _import_sibling(repository, item, refs)
        if not item.open:
            return
        provided = sibling or []
    _call(repository, item, refs, uuids, has_records, provided)


def members(uri: str) -> list[str]:
    """The UUIDs of the datasets in the zip at this URI, as its index has them; none if it is no such zip."""
    try:
        with ResourcePath(uri, forceDirectory=False).open("rb") as stream, zipfile.ZipFile(stream) as archive:
            index = json.loads(read_member(archive, _INDEX))
        return [str(uuid.UUID(key)) for key in index["refs"]["compact_refs"]]
    except Exception as error:
        LOG.info("%s is no zip that can be read: %s", uri, error)
        return []


def _call(repository, item: Item, refs, uuids, has_records: bool, provided: list[str]) -> None:
    options = {"skip_existing": True} if repository.skip_existing["ingest_zip"] else {}
    if has_records:
        options["transfer_dimensions"] = True
    transfer = repository.transfer.get("zip_file", "direct")
    for again in (True, False):
        repository.calls += 1
        try:
            repository.butler.ingest_zip(item.path, transfer=transfer, **options)
            break
        except Exception as error:
            fault = understand_or_raise(error)
            # Another process may have got there first.
            if fault.kind in ("race", "conflict") and _zip_is_known(repository, item, refs, uuids):
                return
            if again and fault.kind == "race":
                continue
            _answer_failure(item, fault, f"the Butler could not ingest {item.uri}")
            return
    repository.allow.registered(refs)
    keys = {key for ref in refs for key in repository.keys.needed(ref.dataId)}
    repository.keys.add(keys)
    if has_records:
        provided = [key_text(key) for key in sorted(keys, key=str)]
    item.done(uuids=uuids, provides=provided)


def _refs(repository, index: dict) -> list[DatasetRef]:
    """The datasets that the index lists."""
    from lsst.daf.butler import SerializedDatasetRefContainerV1

    container = SerializedDatasetRefContainerV1.model_validate(index["refs"])
    if not index.get("artifact_map"):
        raise ValueError("the index lists no files")
    return list(container.to_refs(universe=repository.butler.dimensions))


def _zip_is_known(repository, item: Item, refs, uuids: list[str]) -> bool:
    """Answers for a zip of which the repository has all datasets or some; true if it has answered."""
    known = repository.known([ref.id for ref in refs])
    if not known:
        return False
    for ref in refs:
        there = known.get(ref.id)
        if there is not None and place(there) != place(ref):
            item.refused(
                "conflict",
                f"UUID {ref.id} is {place_text(there)} in this repository, {place_text(ref)} in {item.uri}",
            )
            return True
    uris = repository.uris(known.values())
    if not uris:
        return False
    if len(uris) < len(refs):
        item.refused(
            "conflict",
            f"{len(uris)} of the {len(refs)} datasets in {item.uri} are in this repository already, "
            f"{next(iter(uris))} among them: the Butler cannot ingest the others",
        )
        return True
    from .ingest import without_member

    places = {without_member(uri) for uri in uris.values()}
    copied = repository.transfer.get("zip_file", "direct") != "direct" and not repository.inside_root(item.path)
    if places == {without_member(item.path)} or copied:
        item.already_there(uuids=uuids)
    else:
        item.elsewhere(sorted(places - {without_member(item.path)})[0], uuids=uuids)
    return True


def _import_sibling(repository, item: Item, refs) -> list[str] | None:
    """Imports `{obs_id}_dimensions.yaml` beside a zip whose dimension records are missing."""
    missing = repository.keys.missing(ref.dataId for ref in refs)
    if not missing:
        return None
    uri = item.uri.removesuffix(".zip") + "_dimensions.yaml"
    sibling = ResourcePath(uri)
    key = next(key for ref in refs if (key := repository.keys.first_missing(ref.dataId, missing)))
    try:
        there = sibling.exists()
    except Exception as error:
        item.later("butler", "time", f"{uri} could not be looked for: {sentence(error)}")
        return None
    if not there:
        # Not for the sibling: whatever file brings the record will do, and the sibling brings it too.
        item.later("butler", key_text(key), f"{item.uri} needs {key_text(key)}: it has no records itself, nor is {uri} there")
        return None
    provided = _import(repository, item, sibling, f"file:{uri}")
    if not item.open:
        return None
    missing = repository.keys.missing(ref.dataId for ref in refs)
    if missing:
        key = next(key for ref in refs if (key := repository.keys.first_missing(ref.dataId, missing)))
        item.later("butler", key_text(key), f"{item.uri} needs {key_text(key)}, which {uri} does not bring")
        return None
    return provided
