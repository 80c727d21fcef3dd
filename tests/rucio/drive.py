"""A Rucio for tests: makes the schema, then does what it is told, one JSON line for each thing to do.

    drive.py PORT      a line in, {"done": value} or {"failed": "sentence"} out:

    {"client": "add_scope", "with": {...}}      calls that method of Rucio's own client, on the REST server
    {"daemon": "conveyor-poller"}               runs one cycle of that daemon
    {"rse": NAME, "prefix": URL, "folder": ..}  an RSE with Rubin's naming, its storage in a folder, and near to all others

The daemons are Rucio's, with the entry points of its commands; what they speak to are `stand_in_storage` and `stand_in_fts`.
"""

import datetime
import functools
import importlib
import json
import socket
import sys
import types
from urllib.parse import urlsplit

import stand_in_fts
import stand_in_storage

# Name of the command without `rucio-`: its module, and what its `run` is told beside `once`.
DAEMONS = {
    "abacus-account": ("abacus.account", {}),
    "abacus-collection-replica": ("abacus.collection_replica", {}),
    "abacus-rse": ("abacus.rse", {}),
    "conveyor-finisher": ("conveyor.finisher", {}),
    "conveyor-poller": ("conveyor.poller", {"older_than": 0}),
    "conveyor-submitter": ("conveyor.submitter", {"group_bulk": 100}),
    "hermes": ("hermes.hermes", {}),
    "judge-cleaner": ("judge.cleaner", {}),
    "judge-evaluator": ("judge.evaluator", {}),
    "judge-repairer": ("judge.repairer", {}),
    "necromancer": ("badreplicas.necromancer", {}),
    "reaper": ("reaper.reaper", {"chunk_size": 1000}),
    "undertaker": ("undertaker.undertaker", {}),
}

UNLIMITED = 10**18


class Driver:
    def __init__(self):
        from rucio.daemons import common
        from rucio.db.sqla.util import build_database, create_base_vo, create_root_account

        # Each daemon waits up to 10 s for others of its kind to share the work with: here there are none.
        common.db_workqueue = without_waiting(common.db_workqueue)
        build_database()
        create_base_vo()
        create_root_account()
        self.fts = stand_in_fts.start()
        self.rses = []
        self._client = None

    @property
    def client(self):
        """Made at first use: the server starts once the schema is there."""
        if self._client is None:
            from rucio.client import Client

            self._client = Client()
        return self._client

    def do(self, order):
        if method := order.get("client"):
            answer = getattr(self.client, method)(**order.get("with", {}))
            return list(answer) if isinstance(answer, types.GeneratorType) else answer
        if daemon := order.get("daemon"):
            module, options = DAEMONS[daemon]
            return importlib.import_module(f"rucio.daemons.{module}").run(once=True, **options)
        if rse := order.get("rse"):
            return self.add_rse(rse, order["prefix"], order["folder"])
        raise ValueError(f"nothing to do: {order}")

    def add_rse(self, rse, prefix, folder):
        url, client = urlsplit(prefix), self.client
        stand_in_storage.mount(prefix, folder)
        client.add_rse(rse)
        every = {"read": 1, "write": 1, "delete": 1}
        client.add_protocol(rse, {
            "scheme": url.scheme, "hostname": url.hostname, "port": url.port, "prefix": url.path,
            "impl": "stand_in_storage.Davs",
            "domains": {"lan": every, "wan": {**every, "third_party_copy_read": 1, "third_party_copy_write": 1}}})
        # `greedyDeletion`: what is unlocked goes at once, not when space is needed.
        for key, value in {"fts": self.fts, "lfn2pfn_algorithm": "identity", "greedyDeletion": True}.items():
            client.add_rse_attribute(rse, key, value)
        client.set_local_account_limit("root", rse, UNLIMITED)
        for other in self.rses:
            client.add_distance(rse, other, {"distance": 1})
            client.add_distance(other, rse, {"distance": 1})
        self.rses.append(rse)


def without_waiting(db_workqueue):
    """The queue that all daemons work from, without the wait at its start."""

    @functools.wraps(db_workqueue)
    def at_once(*, partition_wait_time, **options):
        return db_workqueue(partition_wait_time=0, **options)

    return at_once


def main(port):
    driver = Driver()
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as lines:
                for line in lines:
                    try:
                        answer = {"done": driver.do(json.loads(line))}
                    except Exception as error:
                        answer = {"failed": f"{type(error).__name__}: {error}"}
                    print(json.dumps(answer, default=plain), file=lines, flush=True)


def plain(value):
    """Times and such as text."""
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
