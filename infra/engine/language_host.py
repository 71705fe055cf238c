"""Pulumi's language host for Python: a gRPC server that runs the `__main__.py` of a program directory.

The Pulumi CLI that `make pulumi` builds has no language hosts; it starts this one as `pulumi-language-python`, with the
engine's address as the last argument, and reads the port from its first line. Protocol: pulumi's
`proto/pulumi/language.proto`; the wheel's own server for inline programs does the running.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pulumi
from parents import end_with_parent
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2


class LanguageHost(LanguageServer):  # type: ignore[misc]
    """Runs programs for the engine that listens at `engine`."""

    def __init__(self, engine: str) -> None:
        super().__init__(lambda: None)
        self._engine = engine

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - gRPC's names
        """Say that we are there."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Tell our version: that of the SDK."""
        return plugin_pb2.PluginInfo(version=pulumi.__version__ if hasattr(pulumi, "__version__") else "")

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Name nothing: dependencies are in the project's hashed requirements."""
        return language_pb2.GetProgramDependenciesResponse()

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run the program; its mistakes are told by the wheel's server."""
        folder = Path(request.info.program_directory or request.pwd).resolve()
        entry = folder / (request.info.entry_point or ".")
        os.chdir(request.pwd or folder)

        def program() -> None:
            sys.path.insert(0, str(folder))
            runpy.run_path(str(entry), run_name="__main__")

        self.program = program
        request.args[:] = [self._engine]
        return super().Run(request, context)


def main() -> None:
    """Serve until the engine interrupts us."""
    end_with_parent()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = grpc.server(ThreadPoolExecutor(8))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(sys.argv[-1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201 - the engine reads it
    ended.wait()
    server.stop(grace=0)


if __name__ == "__main__":
    main()
