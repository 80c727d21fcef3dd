"""A real site for a measurement, put back to its start before each run and checked after it.

    site.py make --> recording, files, fresh repositories --> run --> exactly the right content? --> fresh again
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SITE_PY = TOP / "dataflows/src/demo/site.py"
# Where sites are made, unless an option says otherwise.
SCRATCH = TOP / "target/bench"


class Site:
    """A site with one repository, `main`. ``postgres`` is the URL of a server on which it may make databases."""

    def __init__(self, name, *, files, postgres=None, options=(), config=(), scratch=SCRATCH):
        self.dir = Path(scratch).resolve() / name
        self.postgres, self.name = postgres, name.replace("-", "_")
        self.fresh = self.dir / "repo.fresh"
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        repository = []
        if postgres:
            for database in (self.name, f"{self.name}_fresh"):
                self.sql(f"DROP DATABASE IF EXISTS {database}")
            self.sql(f"CREATE DATABASE {self.name}")
            self.sql("CREATE EXTENSION IF NOT EXISTS btree_gist", self.name)
            repository = ["--registry", self.database(self.name)]
        call("make", self.dir, "--files", files, "--repeats", 0, "--arriving", 0, "--late", 0, "--zips", 0,
             "--python", sys.executable, *repository, *(options or ("--raws", 0, "--faults", "none", "--chatter", 0,
             "--exposures", 100, "--detectors", 99)), *config)
        (self.dir / "repo").rename(self.fresh)
        if postgres:
            self.sql(f"ALTER DATABASE {self.name} RENAME TO {self.name}_fresh")

    def database(self, name):
        return self.postgres.rsplit("/", 1)[0] + "/" + name

    def sql(self, statement, database="postgres"):
        import psycopg

        with psycopg.connect(self.database(database), autocommit=True) as connection:
            connection.execute(statement)

    def reset(self):
        """An empty repository, an empty ledger."""
        shutil.rmtree(self.dir / "repo", ignore_errors=True)
        shutil.copytree(self.fresh, self.dir / "repo")
        if self.postgres:
            self.sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            self.sql(f"CREATE DATABASE {self.name} TEMPLATE {self.name}_fresh")
        for ledger in self.dir.glob("ledger.sqlite*"):
            ledger.unlink()

    def verify(self):
        """Stops everything if the repository does not hold exactly what it must."""
        call("verify", self.dir, "--sample", 0)

    def expected(self):
        with open(self.dir / "expected.json", encoding="utf-8") as file:
            return json.load(file)

    def events(self):
        return sorted((self.dir / "events").iterdir())

    def ledger_bytes(self):
        """The size of the ledger, once what is in its journal is in the file."""
        import sqlite3

        with sqlite3.connect(self.dir / "ledger.sqlite") as ledger:
            ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (self.dir / "ledger.sqlite").stat().st_size

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        if self.postgres:
            for database in (self.name, f"{self.name}_fresh"):
                self.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def call(command, *arguments):
    """Calls `site.py`."""
    done = subprocess.run([sys.executable, str(SITE_PY), command, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"site.py {command} failed:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout


def dbb(options):
    """The program to measure."""
    program = Path(options.dbb) if options.dbb else TOP / "target/release/dbb"
    if not program.exists():
        raise SystemExit(f"there is no {program}: make release")
    return str(program)


def common_options(parser):
    parser.add_argument("--dbb", help="the program; target/release/dbb if not given")
    parser.add_argument("--scratch", default=str(SCRATCH), help="folder for files and repositories")
    parser.add_argument("--keep", action="store_true", help="leave the site there")


def write_events(site, lines):
    """Replaces the recording."""
    for path in site.events():
        path.unlink()
    (site.dir / "events/0001.ndjson").write_bytes(b"".join(lines))


def sizes(folder):
    """Bytes of a folder's files."""
    return sum(os.path.getsize(path) for path in Path(folder).rglob("*") if path.is_file())
