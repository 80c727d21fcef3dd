#!/usr/bin/env python3
"""Run a command; print wall seconds, CPU seconds and peak memory (sum of PSS over its process tree).

    python3 measure.py LABEL EVENTS -- command ...
"""
import os, sys, time, json, subprocess, threading, resource

def tree(root):
    kids = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                with open(f"/proc/{p}/stat") as f:
                    s = f.read()
                kids.setdefault(int(s[s.rindex(")") + 2:].split()[1]), []).append(int(p))
            except OSError:
                pass
    out, todo = [], [root]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out

def pss(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            for l in f:
                if l.startswith("Pss:"):
                    return int(l.split()[1])
    except OSError:
        pass
    return 0

i = sys.argv.index("--")
label, n = sys.argv[1], int(sys.argv[2])
t0 = time.time()
p = subprocess.Popen(sys.argv[i + 1:], stdout=open(os.environ.get("LOG", "/dev/null"), "a"), stderr=subprocess.STDOUT)
peak, stop, cpu, tick = 0, False, {}, os.sysconf("SC_CLK_TCK")
def watch():
    global peak
    while not stop:
        pids = tree(p.pid)
        peak = max(peak, sum(map(pss, pids)))
        for q in pids:                      # a JVM's children are not waited for, so count CPU by process
            try:
                with open(f"/proc/{q}/stat") as f:
                    s = f.read().rsplit(")", 1)[1].split()
                cpu[q] = (int(s[11]) + int(s[12])) / tick
            except OSError:
                pass
        time.sleep(0.2)
th = threading.Thread(target=watch)
th.start()
rc = p.wait()
wall = time.time() - t0
stop = True
th.join()
u = resource.getrusage(resource.RUSAGE_CHILDREN)
used = max(u.ru_utime + u.ru_stime, sum(cpu.values()))
print(json.dumps({"label": label, "rc": rc, "wall_s": round(wall, 2), "cpu_s": round(used, 2),
                  "lines_per_s": round(n / wall), "peak_mib": peak // 1024,
                  "load1": round(os.getloadavg()[0], 2)}), flush=True)
sys.exit(rc)
