"""Make the buckets and logs of a marketplace, once, with the administrator's certificate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, RePublish, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import TimedOut, Unavailable
from dynamos.knowledge import subjects
from dynamos.knowledge.dials import dial
from dynamos.knowledge.layouts import LEDGERS, Bucket, Ledger, buckets
from dynamos.knowledge.permissions import ADMIN
from dynamos.knowledge.streams import failure

_NAME_IN_USE = 10058
_NOT_YET = frozenset({10005, 10008, 10074})
_AGAIN, _TRY = 0.2, 5.0


async def provision(
    url: str, credentials: Credentials, parties: Iterable[str], *, within: float = 10.0, replicas: int = 1
) -> None:
    """Make what is not there yet, and give what is there the settings of now. Nothing is ever removed.

    `credentials` are the administrator's; `replicas` is how many servers keep each thing. Raises Full where the server
    has no room, Unauthenticated, Unavailable, TimedOut.
    """
    connection = await dial(url, credentials, ADMIN, within=within)
    try:
        jetstream = connection.client.jetstream(timeout=min(within, _TRY))
        for config in (*map(bucket_config, buckets(parties)), *map(ledger_config, LEDGERS)):
            config.num_replicas = replicas
            await _make(jetstream, config, within)
    except nats.js.errors.APIError as error:
        raise failure({"err_code": error.err_code, "description": error.description}, url) from error
    except nats.errors.TimeoutError:
        raise TimedOut(f"the bus did not make its buckets within {within:g} s", where=url) from None
    except (nats.errors.Error, OSError) as error:
        raise Unavailable(f"the bus went away: {error!r}", where=url) from error
    finally:
        await connection.close()


async def _make(jetstream: JetStreamContext, config: StreamConfig, within: float) -> None:
    end = time.monotonic() + within
    while True:
        try:
            await jetstream.add_stream(config)
        except nats.js.errors.APIError as error:
            if error.err_code == _NAME_IN_USE:
                await jetstream.update_stream(config)
                return
            if error.err_code not in _NOT_YET or time.monotonic() >= end:
                raise
        except nats.errors.TimeoutError:
            if time.monotonic() >= end:
                raise
        else:
            return
        await asyncio.sleep(_AGAIN)  # servers that have just begun find each other, and elect a leader, first


def bucket_config(bucket: Bucket) -> StreamConfig:
    """Give the stream of a bucket: the last value of each key, told again to who watches once it is stored.

    Rollup headers stay off: with them, whoever may write one key could purge the bucket.
    """
    everything = subjects.written(bucket.name)
    return StreamConfig(
        name=subjects.bucket_stream(bucket.name),
        subjects=[everything],
        max_msgs_per_subject=1,
        max_bytes=bucket.max_bytes,
        max_age=bucket.max_age,
        discard=DiscardPolicy.NEW,
        storage=StorageType.FILE,  # a single server forgets streams in memory, settings and all, when it restarts
        allow_direct=True,
        allow_msg_ttl=True,
        deny_delete=True,
        republish=RePublish(src=everything, dest=subjects.changed(bucket.name)),
        num_replicas=1,
    )


def ledger_config(ledger: Ledger) -> StreamConfig:
    """Give the stream of a log: nothing in it can be deleted, purged or rolled up."""
    stream, _ = subjects.LOGS[ledger.name]
    return StreamConfig(
        name=stream,
        subjects=[subjects.logged(ledger.name)],
        max_bytes=ledger.max_bytes,
        max_age=ledger.max_age,
        discard=DiscardPolicy.NEW if ledger.whole else DiscardPolicy.OLD,
        storage=StorageType.FILE,
        allow_direct=True,
        deny_delete=True,
        deny_purge=True,
        num_replicas=1,
    )
