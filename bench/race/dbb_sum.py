#!/usr/bin/env python3
"""dbb_sum.py OUT: puts OUT/rse_usage.ndjson in summary.json (outside the timing).

dbb has the states of Rucio's table: what the generator calls QUEUED or FAILED is COPYING there, and a deleted
replica is no row."""
import json
import sys

out, state = sys.argv[1], {}
for line in open(f"{out}/rse_usage.ndjson"):
    row = json.loads(line)
    sums = state.setdefault(row["rse"], {}).setdefault(row["state"], [0, 0])
    sums[0] += row["files"]
    sums[1] += row["bytes"]
json.dump({"state": state}, open(f"{out}/summary.json", "w"))
