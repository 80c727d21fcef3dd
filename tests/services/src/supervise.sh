# Runs one program and ends it when standard input ends: when the test process has gone, however it went.
#
#   sh -c "$(cat supervise.sh)" NAME LOG LAST FOLDER PROGRAM ARGUMENT...
#
# LAST is the signal it gets then (SIGKILL follows after 10 s); FOLDER is then removed, unless empty.
# Standard input: one word a line: a signal to send; `wait`: answered by the exit status.
log=$1 last=$2 folder=$3
shift 3
"$@" </dev/null >>"$log" 2>&1 &
child=$!
echo "$child"
while read -r word; do
    case $word in
    wait) wait "$child"; echo "$?" ;;
    leave) folder= ; echo left ;;
    *) kill -s "$word" "$child" 2>/dev/null; echo "$word" ;;
    esac
done
if kill -s "$last" "$child" 2>/dev/null; then
    kill -s CONT "$child" 2>/dev/null
    { sleep 10; kill -s KILL "$child"; } >/dev/null 2>&1 &
    timer=$!
    wait "$child" 2>/dev/null
    kill "$timer" 2>/dev/null
fi
[ -z "$folder" ] || rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
