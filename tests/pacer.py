"""An engine's page in a process of its own that writes down when it was read: ``python -m pacer``."""

import asyncio
import contextlib
import sys
import time
from itertools import pairwise
from pathlib import Path

import inferometer
from live import Process

_PAGE = (
    "process_start_time_seconds 1\n"
    'vllm:prompt_tokens_total{{engine="0",model_name="m"}} {0}\n'
    'vllm:generation_tokens_total{{engine="0",model_name="m"}} {0}\n'
    'vllm:num_requests_running{{engine="0",model_name="m"}} 1\n'
)


class Pacer(Process):
    """``url``: its page. ``gaps`` between readings since then."""

    def __init__(self, log):
        paths = f"{Path(inferometer.__file__).parents[1]}:{Path(__file__).parent}"
        super().__init__(log, "pacer", PYTHONPATH=paths)
        self.url = self.waits_for(r"(http\S+)\n")[1]

    def gaps(self):
        """Seconds between each reading and the next."""
        times = [float(line) for line in self.log.splitlines()[1:]]
        return [later - earlier for earlier, later in pairwise(times)]


def _say(what):
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def _serve():
    reads = 0

    async def answer(reader, writer):
        nonlocal reads
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                reads += 1
                _say(time.monotonic())
                body = _PAGE.format(reads).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    _say(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
