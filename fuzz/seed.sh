#!/bin/sh
# Writes the seeds of fuzz/corpus/decode: every 20th line of the captured events, one a file.
set -eu
here=$(dirname "$0")
corpus=$here/corpus/decode
mkdir -p "$corpus"
for name in night-b-events night-c-elastic-bulk rubin-topic-sample; do
    gzip -dc "$here/../tests/data/rucio-events/$name.ndjson.gz" |
        awk -v to="$corpus/$name-" 'NR % 20 == 1 { file = to NR; printf "%s", $0 > file; close(file) }'
done
echo "$(ls "$corpus" | wc -l) seeds in $corpus"
