"""The world of a site: its camera, sky, storage elements and dataset types.

    options --> World --> exposures and their parts, paths, URLs, UUIDs

State: the options, kept in ``site.json`` so that later commands see the same world.
"""

import json
import os
import random
import uuid
from dataclasses import asdict, dataclass, field

INSTRUMENT = "DemoCam"
SKYMAP = "demo_sky"
BANDS = ("g", "r", "i")
RAW_RUN = "DemoCam/raw/all"
HOST = "dtn-demo.example.org"

# The storage elements of a site `DEMO` are DEMO_RAW_DISK and so on.
RSES = ("RAW_DISK", "BUTLER_DISK", "COPY_DISK")

# Name: storage class, required dimensions.
DATASET_TYPES = {
    "raw": ("StructuredDataDict", ("instrument", "detector", "exposure")),
    "visit_summary": ("StructuredDataDict", ("instrument", "visit")),
    "detector_metadata": ("StructuredDataDict", ("instrument", "detector", "visit")),
    "patch_metrics": ("StructuredDataDict", ("band", "skymap", "tract", "patch")),
}

# How an exposure's dimension records reach a repository.
KNOWN, FIRST, LATE = "known", "first", "late"
ZIP_INDEX, ZIP_SIBLING, ZIP_LATE = "zip_index", "zip_sibling", "zip_late"


@dataclass(frozen=True)
class Exposure:
    """One exposure, which is also one visit; ``role`` says how its dimension records arrive."""

    number: int
    role: str

    @property
    def day_obs(self):
        return 20260401 + self.number // 1000

    @property
    def seq_num(self):
        return self.number % 1000 + 1

    @property
    def id(self):
        return self.day_obs * 100_000 + self.seq_num

    @property
    def obs_id(self):
        return f"MC_O_{self.day_obs}_{self.seq_num:06d}"

    @property
    def group(self):
        return f"{self.day_obs}T{self.seq_num:06d}"

    @property
    def band(self):
        return BANDS[self.number % len(BANDS)]

    @property
    def physical_filter(self):
        return f"{self.band}_01"

    def implied(self):
        """The values that a data id with this exposure or visit implies."""
        return {
            "band": self.band,
            "day_obs": self.day_obs,
            "physical_filter": self.physical_filter,
        }


@dataclass
class World:
    """The options of a site and what follows from them. ``root`` is absolute."""

    root: str
    seed: int = 1
    exposures: int = 6
    arriving: int = 1
    late: int = 1
    zips: int = 1
    detectors: int = 9
    repositories: list = field(default_factory=lambda: ["main"])
    postgres: str | None = None
    namespace: str = "dbb_demo"
    verify: str = "size"
    site: str = "DEMO"
    in_place: bool = False

    def __post_init__(self):
        self.raw_rse, self.butler_rse, self.copy_rse = self.rses = [f"{self.site}_{rse}" for rse in RSES]

    @classmethod
    def load(cls, root):
        """The world that ``make-repo`` wrote down in ``root``."""
        root = os.path.abspath(root)
        with open(os.path.join(root, "site.json"), encoding="utf-8") as file:
            return cls(**{**json.load(file), "root": root})

    def save(self):
        os.makedirs(self.root, exist_ok=True)
        options = asdict(self)
        del options["root"]
        with open(os.path.join(self.root, "site.json"), "w", encoding="utf-8") as file:
            json.dump(options, file, indent=1)

    def all_exposures(self):
        roles = [KNOWN] * self.exposures + [FIRST] * self.arriving + [LATE] * self.late
        for _ in range(self.zips):
            roles += [ZIP_INDEX, ZIP_SIBLING, ZIP_LATE]
        return [Exposure(number, role) for number, role in enumerate(roles)]

    def with_role(self, *roles):
        return [exposure for exposure in self.all_exposures() if exposure.role in roles]

    def butler(self, repository):
        """The folder of a repository; `origin` is where the files were made: it knows everything."""
        return os.path.join(self.root, "repo", repository)

    def storage(self):
        """The folder of the RSEs: beside the repositories, or inside the datastore of the first one."""
        return os.path.join(self.butler(self.repositories[0]) if self.in_place else self.root, "rse")

    def path(self, rse, scope, name):
        """Where a file lies."""
        return os.path.join(self.storage(), rse, scope, name)

    def random(self, purpose):
        """Random numbers of its own for each purpose, so that one option does not shift another's."""
        return random.Random(f"{self.seed}/{purpose}")

    def targets(self, scope):
        """The repositories that the files of a scope are for."""
        if scope == "raw":
            return list(self.repositories)
        return [self.repositories[-1 if scope == "dp2" else 0]]

    def routes(self):
        """Every (RSE, scope) that is announced and wanted, with its repositories."""
        pairs = [(self.raw_rse, "raw"), (self.butler_rse, "dp1"), (self.butler_rse, "dp2"), (self.copy_rse, "dp1")]
        return [(rse, scope, self.targets(scope)) for rse, scope in pairs]


def new_uuid(source):
    """A version 4 UUID from a source of random numbers."""
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def url(rse, scope, name, door="davs"):
    """The URL under which Rucio knows a replica; the root door has its double slash."""
    return f"{prefix(rse, door)}{scope}/{name}"


def prefix(rse, door):
    """What the URLs of all replicas on an RSE start with: `davs://dtn-demo.example.org:443/rucio/raw_disk/`."""
    start = f"davs://{HOST}:443/rucio" if door == "davs" else f"root://{HOST}:1094//rucio"
    return f"{start}/{'_'.join(rse.split('_')[-2:]).lower()}/"
