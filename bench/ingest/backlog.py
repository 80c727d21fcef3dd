"""How long does a backlog take, how large is the ledger after it, and how much memory did it need?

    .venv/bin/python bench/ingest/backlog.py                        a tenth: 120 000 events, 40 000 for the Butler
    .venv/bin/python bench/ingest/backlog.py --scale 1              a day: 1 200 000 events, 400 000 for the Butler
    .venv/bin/python bench/ingest/backlog.py --scale 0.84 --share 0.04      mostly events of other types
    cargo run -q -p dbb-test-services --example with_kafka -- .venv/bin/python bench/ingest/backlog.py --brokers {brokers}

A share of the events is for the Butler, the rest is of all the other types. From files, or from Kafka if brokers are
named. Memory is looked at every half second; "steady" compares the second half of the run with the last tenth.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time

from measured import machine, median, run
from sites import SITE_PY, Site, TOP, call, common_options, dbb

EVENTS = 1_200_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="of a day's backlog")
    parser.add_argument("--share", type=float, default=1 / 3, help="of the events that is for the Butler")
    parser.add_argument("--brokers", help="read from Kafka")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--reuse", action="store_true", help="the site that an earlier run has kept")
    parser.add_argument("--postgres", metavar="URL", help="a server on which databases may be made")
    common_options(parser)
    options = parser.parse_args()

    print(machine())
    events = round(options.scale * EVENTS)
    files = round(events * options.share)
    started = time.monotonic()
    site = prepare(options, events, files)
    print(f"{events} events, {files} of them for the Butler; made in {time.monotonic() - started:.0f} s", flush=True)
    if options.brokers:
        publish(site, options.brokers)
    site.reset()
    done = run([dbb(options), "run", str(site.dir / "dbb.yaml"), "--run-once"], sample_s=0.5)
    site.verify()
    report(site, options, done, events, files)
    print(machine())
    if not options.keep:
        site.remove()


def prepare(options, events, files):
    name = f"backlog-{events}-{files}"
    exposures = max(100, files // 2000)
    config = ["--max-datasets", options.batch]
    if options.brokers:
        config += ["--kafka", options.brokers, "--group-id", f"backlog-{os.getpid()}"]
    if options.reuse:
        site = Site.__new__(Site)
        site.dir, site.postgres, site.name = TOP / "target/bench" / name, options.postgres, name.replace("-", "_")
        site.fresh = site.dir / "repo.fresh"
        call("config", site.dir, "--python", sys.executable, *config)
        return site
    site = Site(name, files=files, postgres=options.postgres, scratch=options.scratch, config=config,
                options=("--raws", 0, "--faults", "none", "--chatter", 0, "--exposures", exposures,
                         "--detectors", 99, "--brief"))
    spread(site, events - files)
    return site


def spread(site, others):
    """Puts events of other types between those of the recording, at random places; same seed, same places."""
    sys.path.insert(0, str(SITE_PY.parent))
    from demosite.hermes import Hermes, line
    from demosite.world import World

    hermes = Hermes(World.load(str(site.dir)))
    source = random.Random(1)
    for path in site.events():
        recorded = path.read_bytes().splitlines(keepends=True)
    # One file: a day of one site.
    total = len(recorded) + others
    with open(site.dir / "events/0002.ndjson", "wb") as file:
        left, at = len(recorded), 0
        for number in range(total):
            if source.random() * (total - number) < left:
                file.write(recorded[at])
                at, left = at + 1, left - 1
            else:
                _, topic, body = hermes.chatter(number)
                file.write(line(topic, body) + b"\n")
    path.unlink()


def publish(site, brokers):
    """Appends the recording to Kafka, one topic after the other."""
    from latency import java, tool

    producers = {}
    for path in site.events():
        with open(path, "rb") as file:
            for text in file:
                record = json.loads(text)
                topic = record["topic"]
                if topic not in producers:
                    tool("TopicCommand", "--bootstrap-server", brokers, "--create", "--topic", topic,
                         "--partitions", "3")
                    producers[topic] = subprocess.Popen(
                        [*java("ConsoleProducer"), "--bootstrap-server", brokers, "--topic", topic,
                         "--timeout", "20"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
                producers[topic].stdin.write(record["value"].encode() + b"\n")
    for producer in producers.values():
        producer.stdin.close()
        if producer.wait():
            sys.exit("a record was not taken")


def report(site, options, done, events, files):
    scale = events / EVENTS
    print(done.output)
    print(f"drained in {done.wall_s:.0f} s: {events / done.wall_s:.0f} events and {files / done.wall_s:.0f} datasets a "
          f"second; a day's 1.2 million at this rate: {done.wall_s / scale / 60:.0f} minutes")
    print(f"CPU {done.cpu_s:.0f} s in all")
    ledger = site.ledger_bytes()
    print(f"ledger {ledger} bytes: {ledger / files:.0f} a file, {ledger / files / 1e3:.2f} GB for a million files")
    for program, samples in sorted(done.memory.items()):
        mib = [value for _, value in samples]
        if max(mib) > 1:
            half, tenth = mib[len(mib) // 2:], mib[-max(1, len(mib) // 10):]
            print(f"memory of {program}: peak {max(mib):.0f} MiB; median of the second half {median(half):.0f} MiB, "
                  f"of the last tenth {median(tenth):.0f} MiB")
    tenths = {program: [round(samples[len(samples) * part // 10][1]) for part in range(10)]
              for program, samples in done.memory.items() if len(samples) >= 10}
    print(json.dumps({"MiB at each tenth of the run": tenths}))


if __name__ == "__main__":
    main()
