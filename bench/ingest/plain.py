"""The least a Python program can do: read the events of a site, call `Butler.ingest` for each batch.

    plain.py SITE [--batch 1000]

It verifies nothing, remembers nothing and stops at the first error. Its last line is JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path


def main():
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()

    from lsst.daf.butler import Butler, DatasetRef, FileDataset

    butler = Butler.from_config(str(options.site / "repo/main"), writeable=True)
    folders = prefixes(options.site)
    opened = time.monotonic()
    count, datasets = 0, []

    def flush():
        nonlocal count
        if datasets:
            butler.ingest(*datasets, transfer="direct", skip_existing=True)
            count += len(datasets)
            datasets.clear()

    for payload in payloads(options.site):
        ref = DatasetRef.from_json(payload["rubin_sidecar"], registry=butler.registry)
        datasets.append(FileDataset(path_of(payload["dst-url"], folders), ref))
        if len(datasets) == options.batch:
            flush()
    flush()
    print(json.dumps({"datasets": count, "open_s": opened - started, "ingest_s": time.monotonic() - opened}))


def prefixes(site):
    """The prefixes of `dbb.yaml`, whose sections are JSON values."""
    for line in (site / "dbb.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("rses: "):
            rses = json.loads(line.removeprefix("rses: "))
            return [(prefix["from"], prefix["to"]) for rse in rses.values() for prefix in rse["prefixes"]]
    sys.exit("dbb.yaml has no rses")


def path_of(url, folders):
    for start, folder in folders:
        if url.startswith(start):
            return folder + url[len(start):]
    raise ValueError(f"no prefix for {url}")


def payloads(site):
    """The payloads for the Butler, in the order of the recording."""
    for path in sorted((site / "events").iterdir()):
        with open(path, "rb") as file:
            for line in file:
                event = json.loads(json.loads(line)["value"])
                if event["event_type"] == "transfer-done" and event["payload"].get("rubin_butler"):
                    yield event["payload"]


if __name__ == "__main__":
    main()
