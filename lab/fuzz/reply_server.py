"""Serves generated replies in a separate process: ``python -m lab.fuzz.reply_server SEED``."""

from __future__ import annotations

import asyncio
import contextlib
import re

from lab.command_line import build_parser, run_command
from lab.fuzz.generated_replies import GeneratedReply, generate

#: The number of the reply, in the id or the instruction of a request.
MARK = re.compile(rb"fuzz-(\d+)-")
DRIP_SECONDS = 0.05
#: Seconds after which the server gives up on a client that neither reads nor disconnects.
LONGEST = 20.0
_BODY = b'{"status": "running"}'
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


async def serve(seed: int) -> None:
    """Serve until the process is ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            await _answer_all(seed, reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _answer_all(seed: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        request = head + await reader.readexactly(int(length[1]) if length else 0)
        found = MARK.search(request)
        if not found:
            writer.write(HEALTHY)
            await writer.drain()
            continue
        # In a thread: a healthy reply must not wait for a hostile one.
        reply = await asyncio.to_thread(generate, seed, int(found[1]))
        await asyncio.wait_for(_send(reply, reader, writer), LONGEST)
        return


async def _send(reply: GeneratedReply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(reply.data)
    await writer.drain()
    if reply.drip is None:
        return
    while reply.drip:
        await asyncio.sleep(DRIP_SECONDS)
        writer.write(reply.drip)
        await writer.drain()
    await reader.read(1)


def main() -> int:
    """Parse the command line, and serve."""
    parser = build_parser("lab.fuzz.reply_server", __doc__)
    parser.add_argument("seed", type=int, help="the seed of the replies")
    asyncio.run(serve(parser.parse_args().seed))
    return 0


if __name__ == "__main__":
    run_command(main)
