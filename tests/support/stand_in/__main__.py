"""The plugin: `python -m support.stand_in ENGINE`. It prints its port, and serves the engine until that ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from google.protobuf import any_pb2
from google.protobuf.empty_pb2 import Empty
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from support.stand_in.objects import Api, Gone, NotMade
from support.stand_in.values import changed, plain, projected, struct
from support.stand_in.waits import gone, ready

VERSION = "4.34.2"
_SECONDS = 600.0
_DETAILS = "grpc-status-details-bin"
_FIXED = ("apiVersion", "kind", "metadata.name", "metadata.namespace")


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Objects of one cluster as the engine's resources."""

    api: Api

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        return plugin_pb2.PluginInfo(version=VERSION)

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        same = plain(request.olds) == plain(request.news)
        told = provider_pb2.DiffResponse
        return told(changes=told.DIFF_NONE if same else told.DIFF_SOME)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        told = plain(request.args)
        self.api = Api(told["kubeconfig"], told.get("context", ""))
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        news = plain(request.news)
        failures = []
        if not news.get("metadata", {}).get("name"):
            failures.append(provider_pb2.CheckFailure(property="metadata.name", reason="it has no name"))
        return provider_pb2.CheckResponse(inputs=struct(news), failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        paths = changed(plain(request.old_inputs), plain(request.news))
        replaces = [path for path in paths if path in _FIXED or self._cannot_change(request, path)]
        if self._is_unready(plain(request.news)):
            replaces.append("status")
            paths.append("status")
        told = provider_pb2.DiffResponse
        return told(
            changes=told.DIFF_SOME if paths else told.DIFF_NONE,
            diffs=sorted({path.partition(".")[0] for path in paths}),
            replaces=sorted({path.partition(".")[0] for path in replaces}),
            deleteBeforeReplace=bool(replaces),
        )

    def _is_unready(self, wanted: dict[str, Any]) -> bool:
        """Tell of a job that asks to be made anew where it has failed."""
        if wanted["metadata"].get("annotations", {}).get("pulumi.com/replaceUnready") != "true":
            return False
        try:
            conditions = self.api.get(wanted).get("status", {}).get("conditions", ())
        except Gone:
            return False
        return any(each["type"] == "Failed" and each["status"] == "True" for each in conditions)

    def _cannot_change(self, request: Any, path: str) -> bool:
        kind = plain(request.news)["kind"]
        frozen = {"Job": "spec", "StatefulSet": "spec.volumeClaimTemplates", "PersistentVolumeClaim": "spec"}
        return path.startswith(frozen.get(kind, "\0")) or (kind == "ConfigMap" and path.startswith("binaryData"))

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        wanted = plain(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=struct(wanted))
        self._put(wanted, request.timeout, context, new=True)
        return provider_pb2.CreateResponse(id=_id(wanted), properties=struct(wanted))

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        wanted = plain(request.news)
        if not request.preview:
            self._put(wanted, request.timeout, context, new=False)
        return provider_pb2.UpdateResponse(properties=struct(wanted))

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        inputs = plain(request.inputs) or plain(request.properties)
        try:
            there = self.api.get(inputs)
        except Gone:
            return provider_pb2.ReadResponse()
        found = struct(projected(inputs, there))
        return provider_pb2.ReadResponse(id=request.id, properties=found, inputs=found)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        there = plain(request.properties)
        try:
            self.api.delete(there)
            gone(self.api, there, request.timeout or _SECONDS)
        except NotMade as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return Empty()

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC\'s name
        return Empty()

    def _put(self, wanted: dict[str, Any], within: float, context: Any, *, new: bool) -> None:
        made = False
        try:
            self.api.apply(wanted, new=new)
            made = True
            ready(self.api, wanted, within or _SECONDS)
        except NotMade as error:
            if made and new:  # the engine shall know that it is there, so that it is removed
                failed = provider_pb2.ErrorResourceInitFailed(
                    id=_id(wanted), properties=struct(wanted), inputs=struct(wanted), reasons=[str(error)]
                )
                _abort_initialised(context, str(error), failed)
            context.abort(grpc.StatusCode.UNKNOWN, str(error))


class _Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


grpc.Status.register(_Status)


def _abort_initialised(context: Any, message: str, failed: Any) -> None:
    """Tell the engine that something was made that is not ready."""
    detail = any_pb2.Any()
    detail.Pack(failed)
    told = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message, details=[detail])
    context.abort_with_status(_Status(grpc.StatusCode.UNKNOWN, message, ((_DETAILS, told.SerializeToString()),)))


def _id(wanted: dict[str, Any]) -> str:
    metadata = wanted["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])


def main() -> None:
    """Serve until the engine ends us, or is no more."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    options = [("grpc.max_receive_message_length", 2**28), ("grpc.max_send_message_length", 2**28)]
    server = grpc.server(ThreadPoolExecutor(128), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    parent = os.getppid()
    while not ended.wait(0.5) and os.getppid() == parent:
        pass
    server.stop(grace=0)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
