"""How soon after a restart are the views caught up?

    make release && python3 bench/checkpoint/restart.py

Makes a file of events, one for each replica, has `dbb` read it and leave a checkpoint, adds more events, and starts it
again: once after SIGTERM, and once after SIGKILL. What is told is the time from the start of the process until it says
that views have caught up, and how much it holds by then. Files stand for Kafka: what is measured is reading the
checkpoint, building the views, and reading what came since. At the end all replicas are asked for in SQL, three times: how
long that takes, and what serving them adds to the memory.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
COPIES = 4
QUESTION = "select state, count(*), sum(bytes), count(distinct name) from replicas group by state"
EVENT = (
    '{"event_type": "transfer-done", "created_at": "2026-04-%02d %02d:%02d:%02d.%06d", "payload": {"scope": "raw", '
    '"name": "LSSTCam/20261121/MC_O_20261121_%09d/MC_O_20261121_%09d_R22_S11.fits.fz", "bytes": %d, "adler32": "%08x", '
    '"request-id": "%032x", "src-rse": "SLAC_BUTLER_DISK", "dst-rse": "RSE_%d", "activity": "Data Brokering"}}\n'
)
CONFIG = """
source: {{log: {{paths: [events], follow: true}}}}
ledger: {{url: "sqlite:ledger.sqlite"}}
views: {{keep: [{views}], forget_after_seconds: 1000000000}}
checkpoint: {{url: kept, every_seconds: {every}}}
http: {{listen: null}}
sql: {{listen: "127.0.0.1:{port}"}}
workers: {workers}
"""


def write(path, begin, end):
    """Writes the events of replicas `begin` to `end`."""
    with open(path, "w", buffering=1 << 20) as out:
        for n in range(begin, end):
            second, micro = divmod(n * 100, 1_000_000)
            minute, hour, day = second // 60, second // 3600, second // 86_400
            file = n // COPIES
            rse = (file + n % COPIES * 5) % 20
            out.write(EVENT % (1 + day, hour % 24, minute % 60, second % 60, micro, file, file, 20_000_000 + file,
                               file + 1, n, rse))


class Run:
    """A process, and what it says."""

    def __init__(self, program, folder):
        self.log = folder / "dbb.log"
        self.begun = time.monotonic()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([program, "run", "site.yaml"], cwd=folder, stderr=log, stdout=log)

    def until(self, words, limit=1800):
        while words not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() - self.begun > limit:
                raise SystemExit(f"no '{words}':\n{self.log.read_text()}")
            time.sleep(0.02)
        return time.monotonic() - self.begun

    def mib(self, which):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(which)).split()[1]) // 1024

    def peak_mib(self):
        return self.mib("VmHWM")

    def end(self, how):
        self.process.send_signal(how)
        return self.process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(run, options):
    before = run.mib("VmRSS")
    for _ in range(3):
        begun = time.monotonic()
        answer = subprocess.run([options.program, "sql", "site.yaml", QUESTION], cwd=options.scratch, check=True,
                                capture_output=True, text=True)
        took = time.monotonic() - begun
        print(f"asked in SQL: {took:.2f} s, {before} MiB before, {run.peak_mib()} at most, {run.mib('VmRSS')} after; "
              f"{' '.join(answer.stdout.split()[-4:])}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=5_000_000)
    parser.add_argument("--behind", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--views", default="replicas, rse_usage")
    parser.add_argument("--every", type=int, default=30, help="seconds between checkpoints")
    parser.add_argument("--program", default=str(TOP / "target/release/dbb"))
    parser.add_argument("--scratch", type=pathlib.Path, default=TOP / "target/bench/restart")
    options = parser.parse_args()

    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.workers} workers, views {options.views}")
    shutil.rmtree(options.scratch, ignore_errors=True)
    (options.scratch / "events").mkdir(parents=True)
    (options.scratch / "site.yaml").write_text(
        CONFIG.format(views=options.views, every=options.every, workers=options.workers, port=free_port()))
    parts = 4
    for part in range(parts):
        write(options.scratch / f"events/{part}.ndjson", options.replicas * part // parts,
              options.replicas * (part + 1) // parts)
    run = Run(options.program, options.scratch)
    took = run.until("views have caught up")
    print(f"all {options.replicas} read, without a checkpoint: {took:.1f} s, {run.peak_mib()} MiB", flush=True)
    run.end(signal.SIGTERM)
    kept = sum(file.stat().st_size for file in (options.scratch / "kept/shards").iterdir())
    print(f"checkpoint: {kept / 2**20:.0f} MiB", flush=True)
    done = options.replicas
    for how in (signal.SIGTERM, signal.SIGKILL):
        write(options.scratch / f"events/behind-{how.name}.ndjson", done, done + options.behind)
        done += options.behind
        run = Run(options.program, options.scratch)
        took = run.until("views have caught up")
        print(f"{options.behind} behind: caught up {took:.1f} s after the start, {run.peak_mib()} MiB", flush=True)
        run.end(how)
    run = Run(options.program, options.scratch)
    took = run.until("views have caught up")
    print(f"after SIGKILL: caught up {took:.1f} s after the start", flush=True)
    ask(run, options)
    run.end(signal.SIGTERM)
    print(f"load {os.getloadavg()[0]:.1f}")
    shutil.rmtree(options.scratch)


if __name__ == "__main__":
    main()
