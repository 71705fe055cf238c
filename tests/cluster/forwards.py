"""`python -I -S forwards.py FD HOST PORT`: hands whoever connects to a listening socket, which may be of another
network, on to an address of this one. That is how the API server is reached from the machine. Only the standard
library."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress

_CHUNK = 1 << 16


async def forward(listener: socket.socket, host: str, port: int) -> None:
    """Serve for ever. A connection to an address where nobody answers is closed at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    server = await asyncio.start_server(serve, sock=listener)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
            return
    writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(forward(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
