"""Event bodies as Hermes sends them, and the lines in which a recording keeps them.

    file and time --> transfer-done body --> {"topic", "key", "value"} line

The clock is invented: it starts at a fixed moment and moves some milliseconds an event.
"""

import datetime
import json

from .world import INSTRUMENT, url

START = datetime.datetime(2026, 11, 21, 19, 0, 0)
SECOND = datetime.timedelta(seconds=1)


class Hermes:
    """Writes event bodies; each call moves the clock, so that times rise and never repeat."""

    def __init__(self, world):
        self.world = world
        self.random = world.random("hermes")
        self.now = START

    def tick(self):
        self.now += datetime.timedelta(microseconds=self.random.randrange(2_000, 12_000))
        return self.now

    def hex(self):
        return f"{self.random.getrandbits(128):032x}"

    def transfer_done(self, rse, scope, name, size, adler, kind, sidecar, door="davs"):
        """The body of a `transfer-done` with Rubin's two fields, as a dictionary to change or send."""
        now = self.tick()
        transfer = self.hex()
        transfer = f"{transfer[:8]}-{transfer[8:12]}-{transfer[12:16]}-{transfer[16:20]}-{transfer[20:]}"
        payload = {
            "activity": "Data Consolidation", "request-id": self.hex(), "duration": 5,
            "checksum-adler": adler, "checksum-md5": None, "file-size": size, "bytes": size, "guid": None,
            "previous-request-id": None, "protocol": door, "scope": scope, "name": name,
            "dataset": f"{INSTRUMENT}/{scope}/demo", "datasetScope": scope,
            "src-type": "DISK", "src-rse": "USDF_DISK",
            "src-url": f"davs://dtn-usdf.example.org:443/rucio/disk/{scope}/{name}",
            "dst-type": "DISK", "dst-rse": rse, "dst-url": url(rse, scope, name, door), "reason": "",
            "transfer-endpoint": "https://fts.example.org:8446", "transfer-id": transfer, "transfer-link": None,
            "created_at": str(now - 9 * SECOND), "submitted_at": str(now - 7 * SECOND),
            "started_at": str((now - 6 * SECOND).replace(microsecond=0)),
            "transferred_at": str((now - SECOND).replace(microsecond=0)),
            "tool-id": "rucio-conveyor", "account": "lsstsvc1", "datatype": None,
            "transfer_link": f"https://fts.example.org:8449/fts3/ftsmon/#/job/{transfer}",
        }
        if kind is not None:
            payload["rubin_butler"] = kind
            payload["rubin_sidecar"] = sidecar
        return {"event_type": "transfer-done", "payload": payload, "created_at": str(now)}

    def chatter(self, number):
        """An event of an upstream stream that no Butler has use for, and its topic."""
        now = str(self.tick())
        rse = self.world.butler_rse
        scope, name = "dp1", f"other/{number:08d}.json"
        queued = {"request-id": self.hex(), "request-type": "transfer", "scope": scope, "name": name,
                  "dst-rse-id": self.hex(), "dst-rse": rse, "state": "queued", "retry-count": None,
                  "rule-id": self.hex(), "activity": "Data Consolidation", "file-size": 10, "bytes": 10,
                  "checksum-md5": None, "checksum-adler": "00000001", "queued_at": now}
        submitted = {**queued, "request-type": "TRANSFER", "state": "SUBMITTED", "dataset": None,
                     "datasetScope": None, "src-rse-id": self.hex(), "src-rse": "USDF_DISK",
                     "external-id": self.hex(), "external-host": "https://fts.example.org:8446", "datatype": None}
        deleted = {"scope": scope, "name": name, "rse": rse, "file-size": 10, "bytes": 10,
                   "url": url(rse, scope, name), "protocol": "davs", "datatype": None, "duration": 0.21}
        done = self.transfer_done(rse, scope, name, 10, "00000001", None, None)["payload"]
        choices = (
            ("transfer-queued", queued), ("transfer-submitted", submitted), ("transfer-done", done),
            ("transfer-failed", {**done, "reason": "TRANSFER [110] connection timed out"}),
            ("transfer-submission_failed", submitted),
            ("deletion-done", deleted), ("deletion-not-found", {**deleted, "reason": "File not found"}),
            ("deletion-failed", {**deleted, "reason": "Service unavailable"}),
            ("rule_ok", {"scope": scope, "name": "demo", "rule_id": self.hex()}),
            ("rule_progress", {"scope": scope, "name": "demo", "rule_id": self.hex(), "progress": 40}),
            ("datasetlock_ok", {"scope": scope, "name": "demo", "rule_id": self.hex(), "rse": rse,
                                "rse_id": self.hex()}),
            ("create_dts", {"account": "lsstsvc1", "scope": scope, "name": "demo", "expired_at": None}),
            ("close", {"scope": scope, "name": "demo", "bytes": 10.0, "length": 1, "events": None}),
            ("lost", {"scope": scope, "name": name, "dataset_name": "demo", "dataset_scope": scope}),
            ("a_type_of_next_year", {"scope": scope, "name": name}),
        )
        event_type, payload = choices[number % len(choices)]
        topic = f"{self.world.raw_rse}-raw" if number % 5 == 0 and "dst-rse" not in payload else f"{rse}-{scope}"
        return event_type, topic, json.dumps({"event_type": event_type, "payload": payload, "created_at": now})


def line(topic, value):
    """The recorded form of one Kafka record."""
    return json.dumps({"topic": topic, "key": "message", "value": value}).encode()


def sidecar(dataset_type, storage_class, dimensions, data_id, run, uuid):
    """A serialised DatasetRef, as `rucio-register` stores it."""
    return json.dumps({
        "id": uuid,
        "datasetType": {"name": dataset_type, "storageClass": storage_class, "dimensions": list(dimensions)},
        "dataId": {"dataId": data_id},
        "run": run,
    }, separators=(",", ":"))
