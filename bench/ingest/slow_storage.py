"""A web server over a folder, each of whose answers takes a while, as a storage far away.

    slow_storage.py FOLDER --delay-ms 20      prints its port

HEAD and GET only, HTTP/1.1 with connections kept. What it was asked is counted and printed at its end.
"""

import argparse
import asyncio
import collections
import json
import os
import signal
import urllib.parse


class Server:
    """One folder, one delay."""

    def __init__(self, folder, delay_s):
        self.folder, self.delay_s = os.path.realpath(folder), delay_s
        self.asked = collections.Counter()

    async def serve(self, reader, writer):
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                self.asked[method] += 1
                await asyncio.sleep(self.delay_s)
                writer.write(self.answer(method, target))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, method, target):
        path = self.folder + urllib.parse.unquote(urllib.parse.urlsplit(target).path)
        if method not in ("HEAD", "GET"):
            return b"HTTP/1.1 405 Method Not Allowed\r\nAllow: HEAD, GET\r\nContent-Length: 0\r\n\r\n"
        try:
            size = os.stat(path).st_size
        except OSError:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        if method == "HEAD" or os.path.isdir(path):
            return head
        with open(path, "rb") as file:
            return head + file.read()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--delay-ms", type=float, default=20)
    options = parser.parse_args()
    server = Server(options.folder, options.delay_ms / 1000)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
    print(json.dumps(server.asked), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
