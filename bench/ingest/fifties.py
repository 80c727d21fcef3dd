"""A loop that does what ctrl_ingestd does, told from the outside: fifty messages at a time.

    fifties.py SITE [--batch 50] [--at-most EVENTS]

    fifty messages --> ingest --passes--> the next fifty
                         | fails: look up each dataset, leave out those that are there, the same again,
                         |        N + 2 times in all
                         +--> then one by one; what fails then is dropped

No wait between attempts. The transfer is `direct` for data products too, where the original says `auto`: files
outside the repository would be copied, which is no fair comparison. Its last line is JSON.
"""

import argparse
import json
import time
from itertools import islice
from pathlib import Path

from plain import path_of, payloads, prefixes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--at-most", type=int, help="events to read")
    options = parser.parse_args()

    from lsst.daf.butler import Butler

    loop = Loop(Butler.from_config(str(options.site / "repo/main"), writeable=True), prefixes(options.site))
    messages = islice(payloads(options.site), options.at_most)
    started = time.monotonic()
    while window := list(islice(messages, options.batch)):
        loop.ingest(window)
    print(json.dumps({**loop.counts, "ingest_s": time.monotonic() - started}))


class Loop:
    """The Butler and what was asked of it."""

    def __init__(self, butler, folders):
        self.butler, self.folders = butler, folders
        self.counts = {"datasets": 0, "dropped": 0, "calls": 0, "look_ups": 0}

    def ingest(self, window):
        """One window of messages."""
        entries = [self.entry(payload) for payload in window]
        for _ in range(len(window) + 2):
            if self.call(entries):
                return
            entries = [entry for entry in entries if not self.is_there(entry)]
            if not entries:
                return
        for entry in entries:
            if not self.call([entry]):
                self.counts["dropped"] += 1

    def entry(self, payload):
        """Path and sidecar of one message."""
        return path_of(payload["dst-url"], self.folders), payload["rubin_sidecar"]

    def call(self, entries):
        """One call of the Butler; true if it passes."""
        from lsst.daf.butler import DatasetRef, FileDataset

        # Made anew, because a call that fails may have changed them.
        datasets = [FileDataset(path, DatasetRef.from_json(sidecar, registry=self.butler.registry))
                    for path, sidecar in entries]
        self.counts["calls"] += 1
        try:
            self.butler.ingest(*datasets, transfer="direct")
        except Exception:  # noqa: BLE001: whatever it is, it is tried again
            return False
        self.counts["datasets"] += len(entries)
        return True

    def is_there(self, entry):
        self.counts["look_ups"] += 1
        return self.butler.get_dataset(json.loads(entry[1])["id"]) is not None


if __name__ == "__main__":
    main()
