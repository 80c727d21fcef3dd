"""How long from a record's append to Kafka until its dataset is committed, on an idle system?

    cargo run -q -p dbb-test-services --example with_kafka -- .venv/bin/python bench/ingest/latency.py --brokers {brokers}

    one record every 0.5 s --> topic with LogAppendTime --> dbb --> Butler commits --> worker answers

From the broker's own time of the record (LogAppendTime, read back by a consumer) to the time at which the sink had the
Butler's answer (the ledger's row of the event); the commit is before that answer. One machine, so one clock. The first
events warm the worker up and are not counted.
"""

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

from measured import machine, percentile
from sites import Site, TOP, common_options, dbb

TOPICS = ("DEMO_BUTLER_DISK-dp1", "DEMO_BUTLER_DISK-dp2")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--events", type=int, default=80)
    parser.add_argument("--every-s", type=float, default=0.5)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--max-wait-ms", type=int, default=50)
    parser.add_argument("--postgres", metavar="URL", help="a server on which databases may be made")
    common_options(parser)
    options = parser.parse_args()

    print(machine())
    count = options.warm_up + options.events
    site = Site("latency", files=count, postgres=options.postgres, scratch=options.scratch,
                config=("--kafka", options.brokers, "--max-wait-ms", options.max_wait_ms, "--max-datasets", 1000,
                        "--group-id", f"latency-{os.getpid()}"))
    site.reset()
    for topic in TOPICS:
        tool("TopicCommand", "--bootstrap-server", options.brokers, "--create", "--topic", topic, "--partitions", "3",
             "--config", "message.timestamp.type=LogAppendTime")
    with open(site.dir / "dbb.log", "wb") as log:
        process = subprocess.Popen([dbb(options), "run", str(site.dir / "dbb.yaml")], stdout=log, stderr=log)
        try:
            rows = feed(site, options, count)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    site.verify()
    report(options, rows)
    print(machine())
    if not options.keep:
        site.remove()


def feed(site, options, count):
    """Appends one record after the other; gives (appended, answered) of each, in microseconds, in that order."""
    producers = {topic: subprocess.Popen(
        [*java("ConsoleProducer"), "--bootstrap-server", options.brokers, "--topic", topic,
         "--timeout", "0", "--request-required-acks", "all"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for topic in TOPICS}
    # Long enough for two Java machines and a worker to have started.
    time.sleep(15)
    try:
        for path in site.events():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                producer = producers[record["topic"]]
                producer.stdin.write(record["value"] + "\n")
                producer.stdin.flush()
                time.sleep(options.every_s)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            rows = ledger_rows(site)
            if len(rows) == count:
                times = appended(options.brokers)
                return sorted((times[place], answered) for place, answered in rows.items())
            time.sleep(1)
        raise SystemExit(f"{len(rows)} of {count} events have an outcome after a minute")
    finally:
        for producer in producers.values():
            producer.stdin.close()
            producer.wait(30)


def ledger_rows(site):
    """The place of each event that is ingested, and when the sink had its answer, in microseconds."""
    with sqlite3.connect(f"file:{site.dir}/ledger.sqlite?mode=ro", uri=True) as ledger:
        rows = ledger.execute("SELECT w.word, e.part, e.position, e.updated_at FROM events e "
                              "JOIN words w ON w.id = e.stream WHERE e.outcome = 1")
        return {(topic, partition, offset): answered for topic, partition, offset, answered in rows}


def appended(brokers):
    """The broker's time of each record, in microseconds, by its place."""
    times = {}
    for topic in TOPICS:
        options = [word for name in ("timestamp", "partition", "offset") for word in ("--property", f"print.{name}=true")]
        text = subprocess.run([*java("consumer.ConsoleConsumer"), "--bootstrap-server", brokers, "--topic", topic,
                               "--from-beginning", "--timeout-ms", "8000", "--property", "print.value=false", *options],
                              capture_output=True, text=True).stdout
        for line in text.splitlines():
            found = dict(part.split(":", 1) for part in line.split("\t") if ":" in part)
            if "LogAppendTime" in found:
                place = topic, int(found["Partition"]), int(found["Offset"])
                times[place] = 1000 * int(found["LogAppendTime"])
    return times


def java(tool_name):
    log4j = TOP / "target/bench/log4j2.properties"
    log4j.parent.mkdir(parents=True, exist_ok=True)
    log4j.write_text("rootLogger.level=error\n", encoding="utf-8")
    return ["java", "-Xmx128m", f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{TOP}/target/kafka/libs/*",
            f"org.apache.kafka.tools.{tool_name}"]


def tool(tool_name, *arguments):
    """Runs one of Kafka's own tools; its classes moved between packages."""
    last = None
    for package in ("org.apache.kafka.tools", "kafka.admin"):
        command = [word.replace("org.apache.kafka.tools", package) for word in java(tool_name)]
        last = subprocess.run([*command, *arguments], capture_output=True, text=True)
        if last.returncode == 0:
            return
    sys.exit(f"{tool_name} failed: {last.stdout}{last.stderr}")


def report(options, rows):
    ms = [(answered - appended) / 1000 for appended, answered in rows[options.warm_up:]]
    print(f"\n{len(ms)} events, one every {options.every_s} s, max_wait_ms {options.max_wait_ms}")
    print(f"  append to committed: p50 {percentile(ms, 50):.0f} ms, p95 {percentile(ms, 95):.0f} ms, "
          f"p99 {percentile(ms, 99):.0f} ms, least {min(ms):.0f} ms, most {max(ms):.0f} ms")


if __name__ == "__main__":
    main()
