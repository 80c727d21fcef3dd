"""How many times faster is `dbb` than a loop that does what ctrl_ingestd does, fifty messages at a time?

    .venv/bin/python bench/ingest/against_fifties.py                        all files good
    .venv/bin/python bench/ingest/against_fifties.py --bad missing_file     one file in each fifty is not there
    .venv/bin/python bench/ingest/against_fifties.py --bad no_dimension_record

After each run the repository is asked for its exact content. The loop's rate is without its start-up; that of
`dbb`, at its batches of 1000, is given with and without.
"""

import argparse
import json
import sys

from measured import machine, median, run
from sites import HERE, Site, common_options, dbb, write_events


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bad", choices=("missing_file", "no_dimension_record"))
    parser.add_argument("--files", type=int, default=10_000, help="events for dbb")
    parser.add_argument("--loop-files", type=int, help="events for the loop, which is slow; 5000, or 200 with --bad")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", metavar="URL", help="a server on which databases may be made")
    common_options(parser)
    options = parser.parse_args()
    files = options.files
    loop_files = options.loop_files or (200 if options.bad else 5000)

    print(machine())
    one = site(options, "one-file", 1, None)
    ours = site(options, "fifties-dbb", files, options.bad)
    theirs = site(options, "fifties-loop", loop_files, options.bad)
    start, walls, loops = [], [], []
    for _ in range(options.rounds):
        start.append(measure(one, dbb_command(options, one)).wall_s)
        done = measure(ours, dbb_command(options, ours))
        walls.append(done.wall_s)
        print(f"dbb   {done.wall_s:7.2f} s for {files} events", flush=True)
        done = measure(theirs, [sys.executable, str(HERE / "fifties.py"), str(theirs.dir)])
        loops.append(json.loads(done.output))
        print(f"loop  {loops[-1]['ingest_s']:7.2f} s for {loop_files} events: {loops[-1]}", flush=True)
    good, loop_good = (count - (count // 50 if options.bad else 0) for count in (files, loop_files))
    whole, alone = good / median(walls), (good - 1) / (median(walls) - median(start))
    loop = median([loop_good / figures["ingest_s"] for figures in loops])
    print(f"\n{'one bad in each 50: ' + options.bad if options.bad else 'all good'}, medians of {options.rounds}")
    print(f"  loop {loop:8.1f} datasets a second")
    print(f"  dbb  {whole:8.1f} datasets a second, start-up included: {whole / loop:.1f} times as many")
    print(f"  dbb  {alone:8.1f} datasets a second, without start-up:  {alone / loop:.1f} times as many")
    print(machine())
    for made in (one, ours, theirs):
        if not options.keep:
            made.remove()


def site(options, name, files, bad):
    """A site of so many events, of which, if ``bad`` is named, the last of each fifty is bad."""
    fault = files // 50 if bad else 0
    made = Site(name, files=files - fault, postgres=options.postgres, scratch=options.scratch,
                options=("--raws", 0, "--chatter", 0, "--exposures", 100, "--detectors", 99,
                         "--faults", bad or "none", "--each", max(fault, 1)),
                config=("--max-datasets", 1000))
    if bad:
        arrange(made)
    return made


def arrange(site):
    """Puts one bad event behind each 49 good ones."""
    places = {place for event in site.expected()["events"] if event["fault"] for place in event["places"]}
    good, bad = [], []
    for path in site.events():
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
            (bad if f"{path.name}:{number}" in places else good).append(line)
    lines = []
    for at, line in enumerate(bad):
        lines += [*good[49 * at:49 * at + 49], line]
    write_events(site, lines + good[49 * len(bad):])


def dbb_command(options, site):
    return [dbb(options), "run", str(site.dir / "dbb.yaml"), "--run-once"]


def measure(site, command):
    site.reset()
    # What is bad becomes a dead letter, or waits: exit 1 is as good as 0.
    done = run(command, allowed=(0, 1))
    site.verify()
    return done


if __name__ == "__main__":
    main()
