"""Start of the Butler worker: takes stdout for the protocol, then serves one repository.

In:    JSON lines on stdin, one request each; the first opens the repository.
Out:   JSON lines on stdout, one answer each. Logs go to stderr.
State: one open Butler.
"""

import os
import sys

# Nothing imported from here on may write into the protocol: a `print` in a site's
# formatter would end it. What is printed goes to the logs instead.
_protocol_out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
os.dup2(2, 1)

if __name__ == "__main__":
    from dbb_worker.serve import serve

    # At once: a thread that hangs in some storage must not keep the process.
    os._exit(serve(sys.stdin.buffer, _protocol_out))
