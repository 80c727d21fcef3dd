"""Runs a program and says what it and all its descendants cost.

    command --> wall time, CPU time, peak and sampled memory of each program in its tree

CPU is that of every descendant, also of one whose parent did not wait for it: this process adopts orphans.
"""

import collections
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Run:
    """What one run cost. ``memory`` has lists of (seconds since the start, MiB resident) by program."""

    wall_s: float
    cpu_s: float
    status: int
    output: str
    memory: dict = field(default_factory=dict)

    def peak_mib(self, program):
        return max((mib for _, mib in self.memory.get(program, [])), default=0.0)


def run(command, *, sample_s=None, environment=None, allowed=(0,)):
    """Runs a command to its end; ``sample_s`` is the time between two looks at its memory."""
    ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **(environment or {})})
    sampler = Sampler(process.pid, sample_s) if sample_s else None
    output, errors = process.communicate()
    wall = time.monotonic() - started
    memory = sampler.end() if sampler else {}
    reap_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode not in allowed:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{errors[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, process.returncode, output, memory)


def reap_orphans():
    """Waits for the adopted, so that their CPU time is counted."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


class Sampler:
    """Looks at the memory of a process and its descendants now and then."""

    def __init__(self, pid, every_s):
        self.pid, self.every_s = pid, every_s
        self.memory, self.over = collections.defaultdict(list), threading.Event()
        self.started = time.monotonic()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while not self.over.wait(self.every_s):
            for pid in tree(self.pid):
                try:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                        program = file.read().strip()
                    with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
                        resident = int(file.read().split()[1]) * PAGE_MIB
                except OSError:
                    continue
                self.memory[program].append((time.monotonic() - self.started, resident))

    def end(self):
        self.over.set()
        self.thread.join()
        return dict(self.memory)


def tree(pid):
    """A process and its descendants."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:
                    todo += map(int, file.read().split())
        except OSError:
            pass
    return found


def median(values):
    return statistics.median(values)


def percentile(values, percent):
    """The smallest value that at least ``percent`` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def machine():
    """One line on the machine: figures are of no use without it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores ({model}), load {load}, Python {sys.version.split()[0]}"
