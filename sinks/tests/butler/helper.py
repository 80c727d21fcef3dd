"""A second pair of hands on a test repository: makes it, looks into it, and spoils it.

JSON lines on stdin and stdout, like the worker, but sharing none of its code. Operations:
make, content, uris, dimensions, export, zip, bomb, sql, forget, trash, put_type.
"""

import json
import os
import sys
import uuid

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from astropy.time import Time  # noqa: E402
from lsst.daf.butler import Butler, Config, DatasetRef, DatasetType, FileDataset, Timespan  # noqa: E402

CAMERA = "FakeCam"
butlers = {}


def butler(root):
    if root not in butlers:
        butlers[root] = Butler.from_config(root, writeable=True)
    return butlers[root]


def make(root, db=None, namespace=None, visits=20, detectors=10, exposures=5):
    config = Config()
    if db:
        config["registry", "db"] = db
        config["registry", "namespace"] = namespace
    Butler.makeRepo(root, config=config)
    registry = butler(root).registry
    registry.insertDimensionData("instrument", {"name": CAMERA, "visit_max": 10**9, "exposure_max": 10**9, "detector_max": 1000, "class_name": "lsst.nowhere.FakeCam"})
    registry.insertDimensionData("physical_filter", {"instrument": CAMERA, "name": "r_03", "band": "r"})
    registry.insertDimensionData("detector", *({"instrument": CAMERA, "id": n, "full_name": f"D{n}"} for n in range(detectors)))
    registry.insertDimensionData("visit_system", {"instrument": CAMERA, "id": 0, "name": "one-to-one"})
    add_dimensions(root, exposures=list(range(1, exposures + 1)), visits=list(range(1, visits + 1)))
    define(root, "preview", ["instrument", "visit", "detector"])
    return {}


def records(exposures=(), visits=(), day=20260401):
    span = Timespan(Time("2026-04-01T00:00:00", scale="tai"), Time("2026-04-01T00:00:30", scale="tai"))
    yield "day_obs", [{"instrument": CAMERA, "id": day, "timespan": span}]
    yield "group", [{"instrument": CAMERA, "name": f"g{n}"} for n in exposures]
    yield "exposure", [
        {"instrument": CAMERA, "id": n, "obs_id": f"E{n}", "day_obs": day, "group": f"g{n}", "physical_filter": "r_03", "timespan": span}
        for n in exposures
    ]
    yield "visit", [
        {"instrument": CAMERA, "id": n, "name": f"V{n}", "day_obs": day, "physical_filter": "r_03", "timespan": span}
        for n in visits
    ]


def add_dimensions(root, exposures=(), visits=()):
    for element, rows in records(exposures, visits):
        if rows:
            butler(root).registry.insertDimensionData(element, *rows, skip_existing=True)
    return {}


def define(root, name, dimensions, storage_class="StructuredDataDict"):
    b = butler(root)
    b.registry.registerDatasetType(DatasetType(name, dimensions, storage_class, universe=b.dimensions))
    return {}


def content(root, uuids=None, types="*"):
    """Every dataset that is registered: UUID -> dataset type, RUN, URI."""
    b = butler(root)
    b.registry.refresh()
    if uuids is not None:
        refs = b.get_many_datasets([uuid.UUID(u) for u in uuids])
    else:
        refs = [r for t in b.registry.queryDatasetTypes(types) for r in b.registry.queryDatasets(t, collections=...)]
    uris = b.get_many_uris(refs, allow_missing=True)
    return {
        "datasets": {
            str(r.id): {"type": r.datasetType.name, "run": r.run, "uri": str(uris[r].primaryURI) if r in uris else None}
            for r in refs
        }
    }


def export(path, exposures=(), visits=()):
    """A dimension file as Butler exports write it."""
    import yaml

    b = next(iter(butlers.values()))
    data = []
    for element, rows in records(exposures, visits):
        if rows:
            made = [b.dimensions[element].RecordClass(**row) for row in rows]
            data.append({"type": "dimension", "element": element, "records": [r.toDict() for r in made]})
    document = {
        "description": "Butler Data Repository Export", "version": "1.0.2",
        "universe_version": b.dimensions.version, "universe_namespace": b.dimensions.namespace, "data": data,
    }
    with open(path, "w") as stream:
        yaml.dump(document, stream, sort_keys=False)
    return {"bytes": os.path.getsize(path)}


def make_zip(source, folder, exposure, detectors, with_records=False, run="zips/run", type="guide"):
    """A zip of one small dataset for each detector, made by a repository that has the exposure."""
    b = butler(source)
    add_dimensions(source, exposures=[exposure])
    define(source, type, ["instrument", "exposure", "detector"])
    dataset_type = b.get_dataset_type(type)
    refs = []
    for detector in detectors:
        data_id = b.registry.expandDataId(instrument=CAMERA, exposure=exposure, detector=detector)
        ref = DatasetRef(dataset_type, data_id, run=run)
        path = os.path.join(folder, f"{ref.id}.yaml")
        with open(path, "w") as stream:
            stream.write("a: 1\n")
        b.ingest(FileDataset(path, ref), transfer="direct")
        refs.append(ref)
    if not with_records:
        refs = b.get_many_datasets([ref.id for ref in refs])
    path = b.retrieve_artifacts_zip(refs, folder)
    return {"path": path.ospath, "uuids": [str(ref.id) for ref in refs]}


def bomb(path, bytes, says=None, method="deflated"):
    """A zip whose index is so many blanks, and says that it is another number of them."""
    import struct
    import zipfile

    kinds = {"deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2}
    with zipfile.ZipFile(path, "w", kinds[method]) as archive:
        with archive.open("_butler_zip_index.json", "w") as member:
            for _ in range(bytes // 1_000_000):
                member.write(b" " * 1_000_000)
    if says is not None:
        with open(path, "rb") as stream:
            data = stream.read()
        # In both headers: the library has written it behind the compressed length.
        with open(path, "wb") as stream:
            stream.write(data.replace(struct.pack("<L", bytes), struct.pack("<L", says)))
    return {}


def sql(root, statements):
    """Runs SQL on the registry's own database, for faults that no API can make."""
    import sqlalchemy

    db = butler(root)._registry._db
    engine = db._engine
    with engine.connect() as connection:
        if db.namespace:
            connection.execute(sqlalchemy.text(f"SET search_path TO {db.namespace}, public"))
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()
    return {}


def forget(root, uuids):
    """Drops the datastore's records and keeps the registry's."""
    b = butler(root)
    b.pruneDatasets(b.get_many_datasets([uuid.UUID(u) for u in uuids]), unstore=True, disassociate=False, purge=False)
    return {}


def trash(root):
    """What is left to delete by calls that were cut short."""
    butler(root)._datastore.emptyTrash()
    return {}


def tagged(root, name):
    from lsst.daf.butler import CollectionType

    butler(root).collections.register(name, CollectionType.TAGGED)
    return {}


operations = {
    "make": make, "dimensions": add_dimensions, "define": define, "content": content, "export": export,
    "zip": make_zip, "bomb": bomb, "sql": sql, "forget": forget, "tagged": tagged, "trash": trash,
}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = operations[request.pop("op")](**request)
    except Exception as error:
        import traceback

        answer = {"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}
    out.write(json.dumps(answer) + "\n")
    out.flush()

# The end of the input is the end of the tests, however they ended.
if len(sys.argv) > 1:
    import shutil

    shutil.rmtree(sys.argv[1], ignore_errors=True)
