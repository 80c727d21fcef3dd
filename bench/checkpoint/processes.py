"""What do two processes cost over two threads on the replay job?

    make release && python3 bench/checkpoint/processes.py

`bench/race/gen.py` makes the events. The job is `dbb replay --view rse_usage`, by one process of two workers and by two
processes of one worker each, in turns; their views must be the same, byte for byte. CPU is that of all processes.
"""

import argparse
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]


def addresses():
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return found


def run(commands, folder):
    """Wall and CPU seconds until all have ended well."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    running = [subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for command in commands]
    if any([process.wait() for process in running]):
        raise SystemExit(f"ended badly: {commands}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - begun, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=str(TOP / "target/release/dbb"))
    parser.add_argument("--scratch", type=pathlib.Path, default=TOP / "target/bench/processes")
    options = parser.parse_args()

    shutil.rmtree(options.scratch, ignore_errors=True)
    options.scratch.mkdir(parents=True)
    subprocess.run([sys.executable, TOP / "bench/race/gen.py", "--events", str(options.events), "--out", options.scratch],
                   check=True, stdout=subprocess.DEVNULL)
    job = [options.program, "replay", "events", "--view", "rse_usage"]
    took = {"threads": [], "processes": []}
    print(f"load {os.getloadavg()[0]:.1f}, {options.events} events")
    for _ in range(options.rounds):
        took["threads"].append(run([job + ["--workers", "2", "--out", "threads"]], options.scratch))
        (options.scratch / "hosts").write_text("\n".join(addresses()))
        parts = [job + ["--workers", "1", "--out", "processes", "--hosts", "hosts", "--process", str(n)] for n in (0, 1)]
        took["processes"].append(run(parts, options.scratch))
        for view in (options.scratch / "threads").iterdir():
            if view.read_bytes() != (options.scratch / "processes" / view.name).read_bytes():
                raise SystemExit(f"{view.name} differs")
    for name, runs in took.items():
        wall, cpu = [sorted(column) for column in zip(*runs)]
        print(f"two {name}: wall {wall[0]:.2f} best, {statistics.median(wall):.2f} middle; "
              f"CPU {cpu[0] * 1e6 / options.events:.2f} us an event best, "
              f"{statistics.median(cpu) * 1e6 / options.events:.2f} middle")
    print(f"load {os.getloadavg()[0]:.1f}")
    shutil.rmtree(options.scratch)


if __name__ == "__main__":
    main()
