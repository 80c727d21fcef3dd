#!/usr/bin/env python3
"""verify.py DATA OUT: exact check of a peer's output against DATA/truth.json.

OUT/summary.json  {"state": {rse: {STATE: [count, bytes]}}}   (only AVAILABLE is required)
OUT/batches/**    .ndjson/.json or .parquet, at most 1000 rows a file, each row with id, rse, bytes;
                  rse may also come from a rse=... folder name.
"""
import sys, os, json, zlib, urllib.parse
try:
    from orjson import loads
except ImportError:
    loads = json.loads
data, out = sys.argv[1:3]
t = json.load(open(f"{data}/truth.json"))
s = json.load(open(f"{out}/summary.json"))["state"]
bad = []
# Rucio's own words: QUEUED and FAILED are COPYING, and deleted replicas are no rows.
if any("COPYING" in v for v in s.values()):
    def rucio(st):
        copying = [sum(x) for x in zip(st.get("QUEUED", (0, 0)), st.get("FAILED", (0, 0)))]
        both = {"AVAILABLE": st.get("AVAILABLE", [0, 0]), "COPYING": copying}
        return {k: v for k, v in both.items() if v[0]}
    truth = {rse: rucio(st) for rse, st in t["state"].items()}
    for rse in sorted(set(truth) | set(s)):
        if {k: list(map(int, v)) for k, v in s.get(rse, {}).items()} != truth.get(rse, {}):
            bad.append((rse, s.get(rse), truth.get(rse)))
    t["state"] = {}
for rse, st in t["state"].items():
    for k in (st if all("DELETED" in v or len(v) > 1 for v in s.values()) else ["AVAILABLE"]):
        got = s.get(rse, {}).get(k)
        if got is None or list(map(int, got)) != st[k]:
            bad.append((rse, k, got, st[k]))
per, ids, nf, mx = {}, set(), 0, 0
for d, _, fs in os.walk(f"{out}/batches"):
    for f in fs:
        p = os.path.join(d, f)
        if f.startswith((".", "_")) or f.endswith(".crc") or not os.path.getsize(p):
            continue
        if f.endswith(".parquet"):
            import pyarrow.parquet as pq
            rows = pq.ParquetFile(p).read().to_pylist()
        else:
            rows = [loads(l) for l in open(p, "rb")]
        nf += 1
        mx = max(mx, len(rows))
        hive = dict(x.split("=", 1) for x in p.split("/") if "=" in x)
        for r in rows:
            rse = r.get("rse") or urllib.parse.unquote(hive["rse"])
            c = per.setdefault(rse, [0, 0, 0])
            c[0] += 1
            c[1] += int(r["bytes"])
            c[2] += zlib.crc32(r["id"].encode())
            ids.add(r["id"])
for rse, v in t["batch_events"].items() if os.path.isdir(f"{out}/batches") else ():
    if per.get(rse) != [v["n"], v["bytes"], v["crc"]]:
        bad.append(("batch", rse, per.get(rse), v))
if os.path.isdir(f"{out}/batches") and len(ids) != t["events"]:
    bad.append(("distinct ids", len(ids), t["events"]))
if mx > 1000:
    bad.append(("rows a file", mx))
print("VERIFIED" if not bad else f"WRONG ({len(bad)})", f"files={nf} max_rows={mx} rows={sum(v[0] for v in per.values())}", bad[:3])
sys.exit(bool(bad))
