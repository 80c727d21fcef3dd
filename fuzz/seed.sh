#!/bin/sh
# Writes the seeds: of fuzz/corpus/decode every 20th line of the captured events, one a file; of frames and greetings a message each.
set -eu
here=$(dirname "$0")
corpus=$here/corpus/decode
mkdir -p "$corpus"
for name in night-b-events night-c-elastic-bulk rubin-topic-sample; do
    gzip -dc "$here/../tests/data/rucio-events/$name.ndjson.gz" |
        awk -v to="$corpus/$name-" 'NR % 20 == 1 { file = to NR; printf "%s", $0 > file; close(file) }'
done
echo "$(ls "$corpus" | wc -l) seeds in $corpus"

frames=$here/corpus/frames
greetings=$here/corpus/greetings
mkdir -p "$frames" "$greetings"
# The first byte says how far the conversation has come.
printf '\000\000\000\000\021\000\003\000\000user\000me\000\000\000' > "$frames/startup"
printf '\000\000\000\000\010\004\322\026\057' > "$frames/ssl"
printf '\000\000\000\000\020\004\322\026\056\000\000\000\007key!' > "$frames/cancel"
printf '\001p\000\000\000\030SCRAM-SHA-256\000\000\000\000\002n,' > "$frames/mechanism"
printf '\003Q\000\000\000\015select 1\000' > "$frames/query"
printf '\003P\000\000\000\025\000select $1\000\000\001\000\000\000\027' > "$frames/parse"
printf '\003B\000\000\000\024\000\000\000\001\000\001\000\001\000\000\000\002ab\000\000' > "$frames/bind"
printf '\003E\000\000\000\011\000\000\000\000\144' > "$frames/execute"
printf '\003D\000\000\000\006S\000' > "$frames/describe"
printf 'dbb-cluster\000\000\000\000\001%032d\000\000\000\050%040d' 0 0 > "$greetings/unsigned"
