"""What does `dbb` cost more than a plain Python loop with the same batches?

    .venv/bin/python bench/ingest/against_plain.py                                  SQLite registry
    cargo run -q -p dbb-bench --example with_postgres -- .venv/bin/python bench/ingest/against_plain.py --postgres {postgres}

Runs alternate; after each the repository is asked for its exact content. Figures are of whole processes (dbb and
its worker, start-up in both), then without what each costs for a single file.
"""

import argparse
import json
import sys

from measured import machine, median, run
from sites import HERE, Site, common_options, dbb


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--postgres", metavar="URL", help="a server on which databases may be made")
    common_options(parser)
    options = parser.parse_args()

    print(machine())
    start = measure(options, "one-file", 1, rounds=3)
    whole = measure(options, "against-plain", options.files, rounds=options.rounds)
    report(options, start, whole)
    print(machine())


def measure(options, name, files, rounds):
    """Wall and CPU seconds of each program, in turns."""
    site = Site(name, files=files, postgres=options.postgres, scratch=options.scratch,
                config=("--max-datasets", options.batch))
    programs = {
        "dbb": [dbb(options), "run", str(site.dir / "dbb.yaml"), "--run-once"],
        "plain": [sys.executable, str(HERE / "plain.py"), str(site.dir), "--batch", str(options.batch)],
    }
    figures = {program: [] for program in programs}
    for turn in range(rounds):
        # Whoever comes second finds the files in the page cache: both do, in turns.
        order = list(programs) if turn % 2 == 0 else list(programs)[::-1]
        for program in order:
            site.reset()
            done = run(programs[program])
            site.verify()
            figures[program].append((done.wall_s, done.cpu_s))
            print(f"{name:14} {program:6} wall {done.wall_s:7.2f} s, CPU {done.cpu_s:7.2f} s", flush=True)
    if not options.keep:
        site.remove()
    return figures


def report(options, start, whole):
    registry = "PostgreSQL" if options.postgres else "SQLite"
    print(f"\n{options.files} datasets, batches of {options.batch}, {registry}, medians of {options.rounds}")
    rows = {}
    for at, what in enumerate(("wall", "CPU")):
        for program in ("dbb", "plain"):
            total = median([figure[at] for figure in whole[program]])
            alone = total - median([figure[at] for figure in start[program]])
            rows[program, what] = (total, alone)
        for part, label in enumerate(("whole process", "without start-up")):
            ours, plain = rows["dbb", what][part], rows["plain", what][part]
            print(f"  {what:4} {label:16} dbb {ours:7.2f} s  plain {plain:7.2f} s  ratio {ours / plain:.3f}")
        pairs = [ours[at] / plain[at] for ours, plain in zip(whole["dbb"], whole["plain"])]
        print(f"  {what:4} median of the ratios of pairs {median(pairs):.3f} (from {min(pairs):.3f} to {max(pairs):.3f})")
    for program in ("dbb", "plain"):
        print(f"  {program}: {options.files / rows[program, 'wall'][1]:.0f} datasets a second, "
              f"{1e6 * rows[program, 'CPU'][1] / options.files:.0f} us of CPU a dataset")
    print(json.dumps({"start": start, "whole": whole}))


if __name__ == "__main__":
    main()
