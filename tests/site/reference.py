"""The simplest thing that could be right: reads a site's events and calls the Butler, one by one.

    events/*.ndjson, dbb.yaml --> outcome of each event, datasets in the Butler

It knows nothing of how the site was made and shares no code with it: the oracle is checked against it.
It may do what `dbb` may not: read everything before it starts, and put all dimension files first.
"""

import collections
import json
import os
import pathlib
import re
import urllib.parse
import zipfile
import zlib

import yaml
from lsst.daf.butler import Butler, DatasetRef, FileDataset


class Refused(Exception):
    """The event is a dead letter; the message is the reason."""


def run(root, transfer="direct"):
    """Ingests the whole site; gives the outcome of each (event, repository), by the event's first place."""
    root = pathlib.Path(root)
    config = yaml.safe_load((root / "dbb.yaml").read_text())
    butlers = {name: Butler.from_config(entry["butler"], writeable=True)
               for name, entry in config["repositories"].items()}
    outcomes, requests, seen = collections.defaultdict(dict), [], set()
    not_for_us = collections.Counter()
    for place, topic, value in lines(root / "events"):
        if value in seen:
            continue
        seen.add(value)
        try:
            event = json.loads(value.decode())
        except ValueError:
            outcomes[place][""] = "refused/unreadable"
            continue
        if event["event_type"] != "transfer-done" or "rubin_butler" not in event["payload"]:
            not_for_us[event["event_type"]] += 1
            continue
        try:
            requests += route(config, place, topic, event["payload"])
        except Refused as reason:
            outcomes[place][""] = f"refused/{reason}"
    order = ["dim_file", "zip_file", "raw_file", "data_product"]
    for request in sorted(requests, key=lambda request: order.index(request["kind"])):
        outcomes[request["place"]][request["target"]] = deliver(butlers[request["target"]], request,
                                                                config["repositories"][request["target"]], transfer)
    return outcomes, not_for_us


def lines(folder):
    """Each line's place, topic and body; a line that is no record is a body of its own."""
    for path in sorted(folder.glob("*.ndjson")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            topic, value = None, line
            if line.startswith(b'{"topic"'):
                record = json.loads(line)
                topic, value = record["topic"], record["value"].encode()
            yield f"{path.name}:{number}", topic, value


def route(config, place, topic, payload):
    """The requests that an event means, one for each repository."""
    kind = {1: "data_product"}.get(payload["rubin_butler"], payload["rubin_butler"])
    if kind not in ("dim_file", "zip_file", "raw_file", "data_product"):
        raise Refused("unknown_kind")
    rse, scope, url = payload.get("dst-rse"), payload.get("scope"), payload.get("dst-url")
    if not all(isinstance(value, str) for value in (rse, scope, url)):
        raise Refused("bad_field")
    targets = [name for route in config["routes"] if (route["rse"], route["scope"]) == (rse, scope)
               for name in route["repositories"]]
    if not targets:
        raise Refused("unmapped")
    if topic not in (None, f"{rse}-{scope}"):
        raise Refused("wrong_topic")
    slashes = re.compile("(?<!:)/+")
    for prefix in config["rses"][rse]["prefixes"]:
        start, plain = slashes.sub("/", prefix["from"]), slashes.sub("/", url)
        rest = urllib.parse.unquote(plain[len(start):])
        if plain.startswith(start) and ".." not in rest.split("/"):
            break
    else:
        raise Refused("unknown_prefix")
    return [{"place": place, "target": target, "kind": kind, "path": prefix["to"] + rest, "payload": payload}
            for target in targets]


def deliver(butler, request, settings, transfer):
    """What the Butler makes of one request, as `word` or `refused/reason`."""
    path, payload = request["path"], request["payload"]
    if not os.path.exists(path):
        return "refused/file_missing"
    if payload.get("bytes") not in (None, os.path.getsize(path)):
        return "refused/size_mismatch"
    if settings.get("verify", {}).get("mode") == "checksum" and "checksum-adler" in payload:
        if payload["checksum-adler"] != f"{zlib.adler32(pathlib.Path(path).read_bytes()):08x}":
            return "refused/checksum_mismatch"
    if request["kind"] == "dim_file":
        return attempt(lambda: butler.import_(filename=path))
    if request["kind"] == "zip_file":
        if not zipfile.is_zipfile(path):
            return "refused/butler"
        index = json.loads(zipfile.ZipFile(path).read("_butler_zip_index.json"))
        has_records = index["refs"].get("dimension_records") is not None
        return attempt(lambda: butler.ingest_zip(path, transfer, transfer_dimensions=has_records, skip_existing=True))
    try:
        sidecar = payload.get("rubin_sidecar") or ""
        sidecar = json.loads(sidecar) if isinstance(sidecar, str) else sidecar
        if isinstance(sidecar["datasetType"]["dimensions"], dict):
            sidecar["datasetType"]["dimensions"] = sidecar["datasetType"]["dimensions"]["names"]
        ref = DatasetRef.from_json(json.dumps(sidecar), universe=butler.dimensions)
    except KeyError as error:
        return "refused/butler" if "NoSuchClass" in str(error) else "refused/bad_sidecar"
    except Exception:  # noqa: BLE001: whatever it is, the sidecar is to blame
        return "refused/bad_sidecar"
    known = butler.get_dataset(ref.id)
    if known is not None and (known.dataId, known.run) != (ref.dataId, ref.run):
        return "refused/conflict"
    if known is not None:
        return "already_there" if butler.getURI(known).ospath == path else "already_there_elsewhere"
    if known_type(butler, ref) and butler.find_dataset(ref.datasetType.name, ref.dataId, collections=ref.run):
        return "refused/conflict"
    return attempt(lambda: butler.ingest(FileDataset(path, ref), transfer=transfer, skip_existing=True))


def known_type(butler, ref):
    try:
        butler.get_dataset_type(ref.datasetType.name)
        return ref.run in butler.collections.query("*")
    except LookupError:
        return False


def attempt(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001: classed by what caused it
        if "FOREIGN KEY" in f"{error} {error.__cause__}":
            return "waiting"
        return "refused/butler"
    return "ingested"
