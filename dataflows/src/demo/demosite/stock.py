"""The files that are as they should be: data products, raws, zips and dimension files.

    World --> file on disk --> Event (its body, and what must come of it)

Files are small but real: `Butler.get` reads them, sizes and Adler-32 are theirs.
"""

import json
import os
import zlib
from dataclasses import dataclass, field

from . import hermes
from .repo import dataset_type, export_dimensions, open_butler
from .world import (DATASET_TYPES, FIRST, INSTRUMENT, KNOWN, LATE, RAW_RUN, SKYMAP, ZIP_INDEX, ZIP_LATE, ZIP_SIBLING,
                    new_uuid)


@dataclass
class Event:
    """One event and its expectation. A `raw` line stands in the recording as it is, instead of a record."""

    body: dict | None
    topic: str
    outcomes: list
    targets: list
    datasets: list = field(default_factory=list)
    one_of: str | None = None
    fault: str | None = None
    waits: bool = False
    raw: bytes | None = None

    def line(self):
        return self.raw if self.raw is not None else hermes.line(self.topic, json.dumps(self.body))


class Stock:
    """Makes the files of a site one by one, each with its event."""

    def __init__(self, world):
        self.world = world
        self.hermes = hermes.Hermes(world)
        self.random = world.random("files")
        self.folders = set()
        self.exposures = world.with_role(KNOWN, FIRST, LATE)
        self.spare = 0

    def write(self, path, content):
        """Writes a file; gives its size and Adler-32."""
        folder = os.path.dirname(path)
        if folder not in self.folders:
            os.makedirs(folder, exist_ok=True)
            self.folders.add(folder)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(handle, content)
        finally:
            os.close(handle)
        return len(content), f"{zlib.adler32(content):08x}"

    def announce(self, rse, scope, name, content, kind, sidecar, door="davs"):
        """Writes a file at its place below the RSE; gives the body of the event that announces it."""
        size, adler = self.write(self.world.path(rse, scope, name), content)
        return self.hermes.transfer_done(rse, scope, name, size, adler, kind, sidecar, door)

    def dataset(self, rse, scope, kind, name, run, data_id, implied, *, uuid=None, type_name, door="davs"):
        """A file that is one dataset, with its event."""
        storage_class, dimensions = DATASET_TYPES[type_name]
        uuid = uuid or new_uuid(self.random)
        content = json.dumps({"uuid": uuid, "type": type_name, **data_id,
                              "values": [self.random.randrange(1000) for _ in range(self.random.randrange(1, 12))]}
                             ).encode() + b"\n"
        sidecar = hermes.sidecar(type_name, storage_class, dimensions, {**data_id, **implied}, run, uuid)
        body = self.announce(rse, scope, name, content, kind, sidecar, door)
        entry = {"uuid": uuid, "dataset_type": type_name, "run": run, "data_id": data_id,
                 "uri": self.world.path(rse, scope, name)}
        return Event(body, f"{rse}-{scope}", ["ingested"], self.world.targets(scope), [entry])

    def good(self, number, raws):
        """The file with this number: the first are raws, then come data products in ever new RUNs."""
        # A site that takes files in place is one of ctrl_ingestd, which knows one prefix for a topic.
        door = "root" if number % 5 == 4 and not self.world.in_place else "davs"
        count, detectors = len(self.exposures), self.world.detectors
        exposure = self.exposures[number % count]
        if number < raws:
            event = self.raw(exposure, number // count, door)
        else:
            number -= raws
            run, slot = divmod(number, count * (detectors + 1))
            exposure, detector = self.exposures[slot % count], slot // count
            scope = "dp2" if number % 2 else "dp1"
            event = self.product(exposure, detector, scope, f"{scope}/run/{run:04d}", door)
        event.waits = exposure.role == LATE
        return event

    def raw(self, exposure, detector, door="davs"):
        folder = f"{INSTRUMENT}/{exposure.day_obs}/{exposure.obs_id}"
        return self.dataset(
            self.world.raw_rse, "raw", "raw_file",
            f"{folder}/{exposure.obs_id}_R{detector // 9:02d}_S{detector % 9:02d}.json",
            RAW_RUN, {"instrument": INSTRUMENT, "detector": detector, "exposure": exposure.id},
            {**exposure.implied(), "group": exposure.group}, type_name="raw", door=door)

    def product(self, exposure, detector, scope, run, door="davs", rse=None, uuid=None, folder=""):
        """A data product of a detector, or, past the last detector, of the visit (JSON and YAML in turn)."""
        data_id = {"instrument": INSTRUMENT, "visit": exposure.id}
        type_name, ending = "visit_summary", "yaml"
        if detector < self.world.detectors:
            type_name, ending = "detector_metadata", "json"
            data_id = {"instrument": INSTRUMENT, "detector": detector, "visit": exposure.id}
        # The scope is the first folder below the RSE: it is not in the name again.
        folder = f"{run.removeprefix(scope + '/')}/{type_name}/{exposure.day_obs}/{folder}"
        name = f"{folder}{type_name}_{exposure.id}_{detector:03d}.{ending}"
        return self.dataset(rse or self.world.butler_rse, scope, "data_product", name, run, data_id, exposure.implied(),
                            uuid=uuid, type_name=type_name, door=door)

    def spare_product(self, scope="dp1", **changes):
        """A data product with a data id that no other file has: for faults, which must not touch good files."""
        known = [exposure for exposure in self.exposures if exposure.role == KNOWN]
        run, slot = divmod(self.spare, len(known) * self.world.detectors)
        self.spare += 1
        return self.product(known[slot % len(known)], slot // len(known), scope, f"{scope}/extra/{run:04d}", **changes)

    def patches(self):
        """One data product on the sky for each patch and band."""
        for patch in range(9):
            for band in ("g", "r"):
                yield self.dataset(
                    self.world.butler_rse, "dp1", "data_product",
                    f"coadd/patch_metrics/0/{patch}/patch_metrics_{band}.json",
                    "dp1/coadd", {"band": band, "skymap": SKYMAP, "tract": 0, "patch": patch}, {},
                    type_name="patch_metrics")

    def dimension_file(self, butler, exposures, name):
        """A Butler export file with the dimension records of these exposures, as it came from the origin."""
        path = self.world.path(self.world.raw_rse, "raw", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        export_dimensions(butler, exposures, path)
        with open(path, "rb") as file:
            body = self.announce(self.world.raw_rse, "raw", name, file.read(), "dim_file", "")
        return Event(body, f"{self.world.raw_rse}-raw", ["ingested", "already_there"], self.world.targets("raw"))

    def zip_file(self, butler, exposure):
        """A zip of all raws of an exposure; dimension records in its index only if that is its role."""
        from lsst.daf.butler import DatasetRef, FileDataset

        folder = f"{INSTRUMENT}/{exposure.day_obs}"
        staging = os.path.join(self.world.root, "origin", exposure.obs_id)
        raw_type, refs = dataset_type(butler, "raw"), []
        for detector in range(self.world.detectors):
            path = os.path.join(staging, f"{exposure.obs_id}_{detector:03d}.json")
            self.write(path, json.dumps({"exposure": exposure.id, "detector": detector}).encode() + b"\n")
            data_id = butler.registry.expandDataId(instrument=INSTRUMENT, exposure=exposure.id, detector=detector)
            refs.append(DatasetRef(raw_type, data_id, run=RAW_RUN, id=new_uuid_object(self.random)))
        butler.ingest(*(FileDataset(os.path.join(staging, f"{exposure.obs_id}_{d:03d}.json"), ref)
                        for d, ref in enumerate(refs)), transfer="direct")
        if exposure.role != ZIP_INDEX:
            refs = butler.get_many_datasets([ref.id for ref in refs])
        made = butler.retrieve_artifacts_zip(refs, staging).ospath
        name = f"{folder}/{exposure.obs_id}.zip"
        with open(made, "rb") as file:
            body = self.announce(self.world.raw_rse, "raw", name, file.read(), "zip_file", "")
        # A zip that is not taken where it is gets a place in the datastore, which is the Butler's business.
        uri = None if self.world.in_place else self.world.path(self.world.raw_rse, "raw", name)
        entries = [{"uuid": str(ref.id), "dataset_type": "raw", "run": RAW_RUN,
                    "data_id": dict(ref.dataId.required), "uri": uri}
                   for ref in refs]
        return Event(body, f"{self.world.raw_rse}-raw", ["ingested"], self.world.targets("raw"), entries,
                     waits=exposure.role == ZIP_LATE)


def new_uuid_object(source):
    import uuid

    return uuid.UUID(new_uuid(source))


def dimension_files_and_zips(stock):
    """What must come first, what may come at any time, and what comes last, as lists of events."""
    world, first, between, last = stock.world, [], [], []
    if not world.with_role(FIRST, LATE, ZIP_INDEX):
        return first, between, last
    with open_butler(world.butler("origin")) as butler:
        for exposure in world.with_role(FIRST):
            first.append(stock.dimension_file(butler, [exposure], f"{INSTRUMENT}/dimensions/{exposure.obs_id}.yaml"))
        for exposure in world.with_role(ZIP_INDEX, ZIP_SIBLING, ZIP_LATE):
            between.append(stock.zip_file(butler, exposure))
        for exposure in world.with_role(ZIP_SIBLING):
            name = f"{INSTRUMENT}/{exposure.day_obs}/{exposure.obs_id}_dimensions.yaml"
            between.append(stock.dimension_file(butler, [exposure], name))
        for exposure in world.with_role(LATE, ZIP_LATE):
            last.append(stock.dimension_file(butler, [exposure], f"{INSTRUMENT}/dimensions/{exposure.obs_id}.yaml"))
    return first, between, last
