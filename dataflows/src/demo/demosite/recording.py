"""Puts all events of a site in order, writes them down, and keeps the books of what must come of them.

    stock, faults, chatter, repeats --> events/*.ndjson, expected.json

A repeat is byte-identical and comes some lines later, as after a crash of Hermes.

``expected.json``, the oracle:

    totals        lines, events, repeats, not_for_us, datasets by repository
    not_for_us    records that no Butler has use for, by event type
    events        one entry an event, whatever the number of its deliveries
      places      where its lines are: ["0001.ndjson:17"]; a repeat adds one
      did, rse    the file; null for what cannot be read (body_adler32, of planted faults, tells it apart)
      targets     repositories that have an outcome for it; [""]: never routed; ["*"]: left open
      outcomes    the final ones that are right: "ingested", "refused/bad_sidecar", "refused/*", "waiting".
                  Where a process was killed, "already_there" is as good as "ingested".
      fault       name of the planted fault or rare form, or null
      waits       true if its dimension records come after it
    repositories  by name
      datasets    exactly what it must hold: uuid, dataset_type, run, data_id,
                  uri (a path; of the zip for its members; null: any)
      one_of      lists of rivals of which exactly one must be there
      counts      datasets by "type run"; all that a brief oracle has
"""

import collections
import heapq
import json
import os
import zlib

from . import faults
from .hermes import line as record_line
from .stock import Stock, dimension_files_and_zips


def record(world, *, files, raws, repeats, chosen, each, chatter, event_files, brief):
    """Makes the files, the recording and the oracle; gives the totals."""
    stock, order = Stock(world), world.random("order")
    room = len(stock.exposures) * world.detectors
    raws = min(files // 3 if raws is None else raws, room, files)
    first, between, last = dimension_files_and_zips(stock)
    planted = [event for name in chosen for _ in range(each) for event in faults.make(stock, name)]
    patches = list(stock.patches())[: max(0, files - raws) // 10]
    # Good files stay numbers until they are written: a million of them are cheap to shuffle.
    middle = [*range(files - len(patches)), *patches, *between, *planted]
    order.shuffle(middle)
    repeated = set(order.sample(range(len(middle)), min(repeats, len(middle))))

    books = Books(world, brief)
    with Recording(world, event_files, len(first) + len(middle) + len(last)) as recording:
        later = []
        for index, item in enumerate([*first, *middle, *last]):
            if order.random() < chatter:
                event_type, topic, body = stock.hermes.chatter(books.not_for_us_total)
                recording.write(record_line(topic, body))
                books.not_for_us(event_type)
            event = stock.good(item, raws) if isinstance(item, int) else item
            line = event.line()
            entry = books.add(event, recording.write(line))
            if index - len(first) in repeated:
                heapq.heappush(later, (index + order.randrange(17, 504), index, line, entry))
            while later and later[0][0] <= index:
                _, _, line, entry = heapq.heappop(later)
                books.again(entry, recording.write(line))
        for _, _, line, entry in sorted(later, key=lambda item: item[:2]):
            books.again(entry, recording.write(line))
    return books.close(recording.lines)


class Recording:
    """The files of events; gives each line's place as `file:line`, lines counted from 1."""

    def __init__(self, world, count, expected):
        self.folder = os.path.join(world.root, "events")
        os.makedirs(self.folder, exist_ok=True)
        self.count, self.share, self.lines = count, expected // count + 1, 0
        self.file, self.name, self.in_file, self.number = None, None, 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file:
            self.file.close()

    def write(self, line):
        # A line that is no record belongs to the topic of the line before: never the first of a file.
        due = self.in_file >= self.share and self.number < self.count and line.startswith(b'{"topic"')
        if self.file is None or due:
            self.__exit__()
            self.number, self.in_file = self.number + 1, 0
            self.name = f"{self.number:04d}.ndjson"
            self.file = open(os.path.join(self.folder, self.name), "wb")
        self.file.write(line + b"\n")
        self.lines += 1
        self.in_file += 1
        return f"{self.name}:{self.in_file}"


class Books:
    """What must come of each event, and what each repository must hold in the end."""

    def __init__(self, world, brief):
        self.world, self.brief = world, brief
        self.events, self.chatter = [], collections.Counter()
        self.not_for_us_total = 0
        self.repeats, self.announced = 0, 0
        self.outcomes = collections.Counter()
        self.datasets = {name: [] for name in world.repositories}
        self.one_of = {name: collections.defaultdict(list) for name in world.repositories}
        self.counts = {name: collections.Counter() for name in world.repositories}

    def not_for_us(self, event_type):
        self.chatter[event_type] += 1
        self.not_for_us_total += 1

    def add(self, event, place):
        """Books one event; gives its entry, to which repeats are added."""
        self.announced += 1
        payload = (event.body or {}).get("payload", {})
        entry = {"places": [place], "topic": event.topic, "request_id": payload.get("request-id"),
                 "did": f"{payload.get('scope')}:{payload.get('name')}", "rse": payload.get("dst-rse"),
                 "kind": payload.get("rubin_butler"), "targets": event.targets, "outcomes": event.outcomes,
                 "uuids": [dataset["uuid"] for dataset in event.datasets],
                 "fault": event.fault, "waits": event.waits}
        if event.raw is not None:
            entry.update(request_id=None, did=None, rse=None, kind=None)
        if event.fault:
            entry["body_adler32"] = zlib.adler32(event.raw or json.dumps(event.body).encode())
        self.outcomes[event.outcomes[0]] += len(event.targets)
        if not self.brief or event.fault or event.waits or not event.datasets:
            self.events.append(entry)
        for target in event.targets if event.datasets else ():
            if event.one_of:
                self.one_of[target][event.one_of].extend(event.datasets)
                continue
            for dataset in event.datasets:
                self.counts[target][f"{dataset['dataset_type']} {dataset['run']}"] += 1
            if not self.brief:
                self.datasets[target].extend(event.datasets)
        return entry

    def again(self, entry, place):
        """Books a second delivery of an event."""
        entry["places"].append(place)
        self.repeats += 1

    def close(self, lines):
        """Writes `expected.json`; gives its totals."""
        totals = {"lines": lines, "events": self.announced, "repeats": self.repeats,
                  "not_for_us": self.not_for_us_total, "outcomes": dict(self.outcomes),
                  "datasets": {name: sum(counts.values()) for name, counts in self.counts.items()}}
        expected = {
            "seed": self.world.seed, "verify": self.world.verify, "brief": self.brief, "totals": totals,
            "not_for_us": dict(self.chatter), "events": self.events,
            "repositories": {
                name: {"datasets": self.datasets[name], "one_of": list(self.one_of[name].values()),
                       "counts": dict(self.counts[name])}
                for name in self.world.repositories
            },
        }
        with open(os.path.join(self.world.root, "expected.json"), "w", encoding="utf-8") as file:
            json.dump(expected, file, indent=None if self.brief or self.announced > 20_000 else 1)
        return totals
