"""Makes Butler repositories and their dimension records.

    World --> origin (all records), one repository for each target (the records known so far)

Changes: ``ROOT/repo/<name>``, and the schemas of a PostgreSQL registry if one is named.
"""

from lsst.daf.butler import Butler, Config, DatasetType, Timespan
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from .world import BANDS, DATASET_TYPES, INSTRUMENT, KNOWN, SKYMAP

# What an exposure brings along, in the order in which it must be inserted.
EXPOSURE_ELEMENTS = (
    "day_obs",
    "group",
    "exposure",
    "visit",
    "visit_definition",
    "visit_system_membership",
    "visit_detector_region",
)


def make_repositories(world, origin=True):
    """Makes the target repositories and, unless told not to, the one the files come from."""
    for name in world.repositories:
        config = Config()
        if world.postgres:
            config["registry", "db"] = world.postgres
            config["registry", "namespace"] = f"{world.namespace}_{name}"
        make_repository(world.butler(name), config, world.detectors, world.with_role(KNOWN))
    if origin:
        make_repository(world.butler("origin"), Config(), world.detectors, world.all_exposures())


def make_repository(root, config, detectors, exposures):
    """Makes one repository that knows the camera, the sky and these exposures."""
    with open_butler(Butler.makeRepo(root, config=config)) as butler:
        insert_camera_and_sky(butler, detectors)
        insert_exposures(butler, detectors, exposures)
        for name in DATASET_TYPES:
            butler.registry.registerDatasetType(dataset_type(butler, name))


def open_butler(config, writeable=True):
    """A Butler as a context manager, whatever its version offers for closing it."""
    return _Open(Butler.from_config(config, writeable=writeable))


class _Open:
    def __init__(self, butler):
        self.butler = butler

    def __enter__(self):
        return self.butler

    def __exit__(self, *_):
        if hasattr(self.butler, "close"):
            self.butler.close()


def dataset_type(butler, name):
    storage_class, dimensions = DATASET_TYPES[name]
    return DatasetType(name, butler.dimensions.conform(dimensions), storage_class)


def insert_camera_and_sky(butler, detectors):
    insert = butler.registry.insertDimensionData
    insert("instrument", {"name": INSTRUMENT, "visit_max": 10**14, "exposure_max": 10**14,
                          "detector_max": 1000, "class_name": "demo.DemoCam"})
    insert("physical_filter", *({"instrument": INSTRUMENT, "name": f"{b}_01", "band": b} for b in BANDS))
    insert("detector", *({"instrument": INSTRUMENT, "id": d, "full_name": f"R{d // 9:02d}_S{d % 9:02d}",
                          "name_in_raft": f"S{d % 9:02d}", "raft": f"R{d // 9:02d}", "purpose": "SCIENCE"}
                         for d in range(detectors)))
    insert("visit_system", {"instrument": INSTRUMENT, "id": 0, "name": "one-to-one"})
    insert("skymap", {"name": SKYMAP, "hash": b"demo", "tract_max": 1, "patch_nx_max": 3, "patch_ny_max": 3})
    insert("tract", {"skymap": SKYMAP, "id": 0, "region": square(10.0, 10.0, 1.5)})
    insert("patch", *({"skymap": SKYMAP, "tract": 0, "id": p, "cell_x": p % 3, "cell_y": p // 3,
                       "region": square(9.0 + p % 3, 9.0 + p // 3, 0.5)} for p in range(9)))


def insert_exposures(butler, detectors, exposures):
    """Inserts the records of these exposures, element by element."""
    rows = {element: [] for element in EXPOSURE_ELEMENTS}
    for exposure in exposures:
        for element, records in exposure_records(exposure, detectors).items():
            rows[element] += records
    for element in EXPOSURE_ELEMENTS:
        # Days are shared by exposures: the same record may come many times.
        unique = {repr(sorted((k, v) for k, v in row.items() if isinstance(v, (int, str)))): row
                  for row in rows[element]}
        if unique:
            butler.registry.insertDimensionData(element, *unique.values(), skip_existing=True)


def exposure_records(exposure, detectors):
    """The dimension records of one exposure and its visit."""
    from astropy.time import Time, TimeDelta

    begin = Time("2026-04-01T20:00:00", scale="tai") + TimeDelta(40.0 * exposure.number, format="sec")
    timespan = Timespan(begin, begin + TimeDelta(30.0, format="sec"))
    ra, dec = 9.0 + exposure.number % 7 * 0.3, 9.0 + exposure.number % 5 * 0.4
    common = {"instrument": INSTRUMENT, "physical_filter": exposure.physical_filter,
              "day_obs": exposure.day_obs, "timespan": timespan}
    visit = {"instrument": INSTRUMENT, "visit": exposure.id}
    return {
        "day_obs": [{"instrument": INSTRUMENT, "id": exposure.day_obs}],
        "group": [{"instrument": INSTRUMENT, "name": exposure.group}],
        "exposure": [{**common, "id": exposure.id, "obs_id": exposure.obs_id, "group": exposure.group,
                      "exposure_time": 30.0, "dark_time": 30.5, "observation_type": "science",
                      "observation_reason": "science", "seq_num": exposure.seq_num,
                      "seq_start": exposure.seq_num, "seq_end": exposure.seq_num, "target_name": "demo",
                      "science_program": "DEMO", "tracking_ra": ra, "tracking_dec": dec,
                      "sky_angle": 0.0, "azimuth": 0.0, "zenith_angle": 10.0, "has_simulated": False,
                      "can_see_sky": True}],
        "visit": [{**common, "id": exposure.id, "name": exposure.obs_id, "seq_num": exposure.seq_num,
                   "exposure_time": 30.0, "target_name": "demo", "observation_reason": "science",
                   "science_program": "DEMO", "azimuth": 0.0, "zenith_angle": 10.0,
                   "region": square(ra, dec, 0.6)}],
        "visit_definition": [{**visit, "exposure": exposure.id}],
        "visit_system_membership": [{**visit, "visit_system": 0}],
        # Export and queries with records find nothing without these.
        "visit_detector_region": [{**visit, "detector": d, "region": square(ra + d * 0.01, dec, 0.01)}
                                  for d in range(detectors)],
    }


def square(ra, dec, half):
    """A square on the sky around (ra, dec), in degrees."""
    corners = ((-half, -half), (half, -half), (half, half), (-half, half))
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(ra + x, dec + y)) for x, y in corners])


def export_dimensions(butler, exposures, path):
    """Writes a Butler export file with the dimension records of these exposures."""
    with butler.export(filename=path) as export:
        for element in EXPOSURE_ELEMENTS:
            for exposure in exposures:
                # A record of a day or a group hangs on no exposure: ask for it by its own value.
                key, value = {"day_obs": ("day_obs", exposure.day_obs), "group": ("group", exposure.group),
                              "exposure": ("exposure", exposure.id)}.get(element, ("visit", exposure.id))
                records = butler.query_dimension_records(element, instrument=INSTRUMENT, limit=None, **{key: value})
                export.saveDimensionData(element, records)
