"""The open Butler and what is asked of it in bulk.

State: the Butler; dimension keys known to exist; records kept; dataset types seen; those and RUNs known to be sound.
"""

from __future__ import annotations

import inspect
import uuid

from lsst.daf.butler import Butler, DatasetRef, SerializedDatasetRef
from lsst.resources import ResourcePath

from .allow import Allow
from .dimensions import DimensionKeys
from .records import Records
from .verify import Verifier

# Dataset types remembered: sidecars come from outside.
_MOST_TYPES = 10_000


class Repository:
    """One Butler repository, opened for writing."""

    def __init__(self, settings: dict):
        self.settings = settings
        self.butler = Butler.from_config(settings["butler"], writeable=True)
        self.transfer: dict[str, str] = settings.get("transfer") or {}
        self.removal: str = settings.get("removal") or "off"
        self.skip_existing = {
            name: "skip_existing" in inspect.signature(getattr(Butler, name)).parameters
            for name in ("ingest", "ingest_zip")
        }
        self.roots = [root for root in self.butler.get_datastore_roots().values() if root is not None]
        self.keys = DimensionKeys(self.butler)
        self.records = Records(self.butler)
        self.allow = Allow(self.butler, settings.get("allow") or {})
        self.verifier = Verifier(settings.get("verify") or {})
        self._dataset_types: dict = {}
        self.scan = None
        # Calls of the Butler that write, since the start.
        self.calls = 0

    def hello(self) -> dict:
        """What this environment and this repository are."""
        from lsst.daf.butler import version

        universe = self.butler.dimensions
        return {
            "butler": version.__version__,
            "universe": universe.version,
            "universe_namespace": universe.namespace,
            "instance": str(self.settings["butler"]),
            "roots": [str(root) for root in self.roots],
            "writeable": self.butler.isWriteable(),
            "skip_existing": all(self.skip_existing.values()),
            "has_raw_ingest_task": _has_raw_ingest_task(),
        }

    def check(self) -> dict:
        """What `hello` says, and proof that the registry and the storage answer."""
        collections = list(self.butler.collections.query("*"))
        instruments = [record.name for record in self.butler.query_dimension_records("instrument", explain=False)]
        return self.hello() | {
            "collections": len(collections),
            "instruments": sorted(instruments),
            "roots_exist": {str(root): root.exists() for root in self.roots},
        }

    def inside_root(self, path: ResourcePath) -> bool:
        """True for a file that lies below the datastore's own root."""
        return any(path.relative_to(root) is not None for root in self.roots)

    def ref(self, sidecar: str) -> DatasetRef:
        """The dataset that a sidecar describes.

        What `DatasetRef.from_json` does, but each dataset type is built once, not for each file.
        """
        simple = SerializedDatasetRef.model_validate_json(sidecar)
        given = simple.datasetType
        key = given and (given.name, given.storageClass, tuple(given.dimensions or ()), given.isCalibration, given.parentStorageClass)
        dataset_type = self._dataset_types.get(key)
        ref = DatasetRef.from_simple(simple, registry=self.butler.registry, datasetType=dataset_type)
        # A component's type is of no use for another.
        if dataset_type is None and key and given.dimensions and not ref.isComponent():
            if len(self._dataset_types) >= _MOST_TYPES:
                self._dataset_types.clear()
            self._dataset_types[key] = ref.datasetType
        return ref

    def known(self, ids) -> dict:
        """The datasets of these UUIDs that the registry has."""
        if hasattr(self.butler, "get_many_datasets"):
            refs = self.butler.get_many_datasets(ids)
        else:
            # A Butler of before 2025-10 is asked one by one, some milliseconds each.
            refs = filter(None, map(self.butler.get_dataset, ids))
        return {ref.id: ref for ref in refs}

    def uris(self, refs) -> dict:
        """Where the datastore has these datasets; without those that it has lost."""
        found = {}
        for ref, uris in self.butler.get_many_uris(refs, allow_missing=True).items():
            primary = uris.primaryURI or next(iter(uris.componentURIs.values()), None)
            if primary is not None:
                found[ref.id] = primary
        return found

    def at(self, uris: list[str]) -> dict[str, set]:
        """URI -> the datasets whose file is there, by an index that no public call asks; empty where there is none.

        Members of a zip are stored under its URI, each with a fragment of its own.
        """
        found: dict[str, set] = {}
        for table, root in _file_tables(getattr(self.butler, "_datastore", None)):
            columns = table._table.columns
            # As it is stored: below the root without the root.
            stored = {ResourcePath(uri, forceDirectory=False).relative_to(root) or uri: uri for uri in uris}
            for row in table.fetch(path=list(stored)) if stored else ():
                found.setdefault(stored[row["path"]], set()).add(row["dataset_id"])
            for path, uri in stored.items():
                if path.endswith(".zip"):
                    members = columns["path"].startswith(f"{path}#", autoescape=True)
                    with table._db.query(table._table.select().where(members)) as rows:
                        for row in rows.mappings():
                            found.setdefault(uri, set()).add(row["dataset_id"])
        return found

    def exists(self, uuids: list[str]) -> dict:
        """For each UUID whether the registry knows it and where the datastore has it."""
        known = self.known([uuid.UUID(text) for text in uuids])
        uris = self.uris(known.values())
        return {
            text: {
                "known": uuid.UUID(text) in known,
                "stored": uuid.UUID(text) in uris,
                "uri": str(uris[uuid.UUID(text)]) if uuid.UUID(text) in uris else None,
            }
            for text in uuids
        }

    def taken(self, refs) -> dict:
        """Places (dataset type, RUN, data id) that a dataset already has -> its UUID."""
        from .items import place

        groups: dict[tuple, list] = {}
        for ref in refs:
            groups.setdefault((ref.datasetType.name, ref.run), []).append(ref.dataId)
        found = {}
        for (name, run), data_ids in groups.items():
            if self.butler.registry.getCollectionSummary(run).dataset_types.get(name) is None:
                continue
            with self.butler.query() as query:
                for ref in query.join_data_coordinates(data_ids).datasets(name, run, find_first=False):
                    found[place(ref)] = ref.id
        return found


def _file_tables(datastore):
    """The tables of files of a datastore, and of those it is a chain of, each with its root."""
    for inner in getattr(datastore, "datastores", None) or [datastore]:
        table, root = getattr(inner, "_table", None), getattr(inner, "root", None)
        if root is not None and all(hasattr(table, name) for name in ("fetch", "_table", "_db")):
            yield table, root


def _has_raw_ingest_task() -> bool:
    try:
        from lsst.obs.base import RawIngestTask  # noqa: F401
    except ImportError:
        return False
    return True
