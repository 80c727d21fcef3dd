#!/usr/bin/env python3
"""One job for all: dbb and its peers on the same events, in turns, each verified exactly.

    python3 race.py                                  # dbb alone, 1 million events
    python3 race.py --peers plain,duck,polars        # and these peers, in a virtual environment made on first use
    python3 race.py --peers all --rounds 3           # everything, three rounds; figures are medians

Peers: plain, duck, polars, bytewax, pathway, flink (which needs Java 11 or later)."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BASE = ["orjson==3.13.0", "duckdb==2.0.0", "polars==2.1.0", "pyarrow==26.0.1"]
PINS = {"base": BASE, "bytewax": ["bytewax==0.21.1", "orjson==3.13.0"], "pathway": ["pathway==0.33.0"],
        "flink": ["apache-flink==2.3.0"]}


def here(name):
    return os.path.join(HERE, name)


def python(home, which):
    """The Python of a virtual environment, which is made if it is not there."""
    program = f"{home}/v-{which}/bin/python"
    if not os.path.exists(program):
        subprocess.run([sys.executable, "-m", "venv", f"{home}/v-{which}"], check=True)
        subprocess.run([program, "-m", "pip", "install", "-q", *PINS[which]], check=True)
    return program


def entries(a, data):
    """Each entry: label, command for an output folder, what makes its summary, environment."""
    logs = f"{data}/events"

    def dbb(workers, archive):
        def command(out):
            batches = ["--archive", f"{out}/batches", "--archive-format", archive] if archive else []
            return [a.dbb, "replay", logs, "--view", "rse_usage", *batches, "--out", out, "--workers", str(workers)]
        return command

    summary = lambda out: [sys.executable, here("dbb_sum.py"), out]
    for workers in (1, 2):
        yield f"dbb-{workers}, usage only", dbb(workers, None), summary, {}
        for form in ("parquet", "ndjson"):
            yield f"dbb-{workers}, {form} archive", dbb(workers, form), summary, {}
    peers = a.peers.split(",") if a.peers else []
    if peers == ["all"]:
        peers = ["plain", "duck", "polars", "bytewax", "pathway", "flink"]
    for peer in peers:
        which = peer if peer in PINS else "base"
        run = python(a.work, which)
        if peer == "plain":
            for n in (1, 2):
                yield f"plain-{n} (orjson)", lambda out, n=n: [run, here("plain.py"), data, out, str(n), "orjson"], None, {}
        elif peer == "duck":
            for n in (1, 2):
                yield f"duck-{n}", lambda out, n=n: [run, here("duck.py"), data, out, str(n)], None, {}
        elif peer == "polars":
            yield "polars-2", lambda out: [run, here("pol.py"), data, out], None, {"POLARS_MAX_THREADS": "2"}
        elif peer == "pathway":
            yield "pathway-1", lambda out: [run, here("pway.py"), data, out, "static", "1000000"], None, {}
        elif peer == "bytewax":
            yield ("bytewax-1", lambda out: [run, "-m", "bytewax.run", "bwax:flow"],
                   lambda out: [run, here("bwax_sum.py"), out], {"DATA": data, "OUT": "{out}", "PYTHONPATH": HERE})
        elif peer == "flink":
            yield ("flink-2", lambda out: [run, here("flink.py"), data, out, "2", "streaming"],
                   lambda out: [run, here("flink_sum.py"), out], {"JAVA_TOOL_OPTIONS": "-Xmx4g"})
        else:
            sys.exit(f"there is no peer {peer}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", default="")
    parser.add_argument("--dbb", default=f"{ROOT}/target/release/dbb")
    parser.add_argument("--work", default=f"{ROOT}/target/race", help="for data, environments and outputs")
    parser.add_argument("--only", default="", help="only entries whose label has this")
    a = parser.parse_args()
    a.work = os.path.abspath(a.work)
    data = f"{a.work}/data-{a.events}"
    if not os.path.exists(f"{data}/truth.json"):
        os.makedirs(data, exist_ok=True)
        subprocess.run([sys.executable, here("gen.py"), "--events", str(a.events), "--out", data], check=True)
    truth = json.load(open(f"{data}/truth.json"))
    lines = truth["lines"]
    verifier = python(a.work, "base")
    figures, wrong = {}, False
    for _ in range(a.rounds):
        for label, command, summary, environment in entries(a, data):
            if a.only not in label:
                continue
            out = f"{a.work}/out"
            shutil.rmtree(out, ignore_errors=True)
            os.makedirs(out)
            env = {**os.environ, **{k: v.replace("{out}", out) for k, v in environment.items()}, "LOG": f"{a.work}/log"}
            measured = subprocess.run([sys.executable, here("measure.py"), label, str(lines), "--", *command(out)],
                                      env=env, capture_output=True, text=True)
            if summary and measured.returncode == 0:
                subprocess.run(summary(out), check=True)
            verified = subprocess.run([verifier, here("verify.py"), data, out], capture_output=True, text=True)
            print(measured.stdout.strip(), verified.stdout.strip(), flush=True)
            wrong |= verified.returncode != 0
            if measured.stdout:
                figures.setdefault(label, []).append(json.loads(measured.stdout.splitlines()[-1]))
    print("\n| entry | CPU us an event | wall s | events/s | peak MiB |\n|---|---:|---:|---:|---:|")
    for label, runs in figures.items():
        mid = lambda key: statistics.median(run[key] for run in runs)
        print(f"| {label} | {mid('cpu_s') / lines * 1e6:.2f} | {mid('wall_s'):.2f} | {mid('lines_per_s'):.0f} | {mid('peak_mib'):.0f} |")
    sys.exit(wrong)


main()
