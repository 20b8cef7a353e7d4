"""The events of a stream, as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.services.base import Dialect
from airflow_agent_tasks.services.event_stream import EventStreamParser
from airflow_agent_tasks.services.http import Request, keep

if TYPE_CHECKING:
    from airflow_agent_tasks.client.sync_client import Chunks, SyncClient


class EventBatches:
    """
    Starts an agent task and iterates, once, over its events: lists of those that arrived together.

    :param client: The client, which nothing else may use in the meantime.
    :param dialect: The service's dialect.
    :param request: The start.
    """

    def __init__(self, client: SyncClient, dialect: Dialect, request: Request) -> None:
        self._client = client
        self._dialect = dialect
        self._request = request
        self._chunks: Chunks | None = None
        self._is_closed = False
        #: Returns a text, such as one joined from several events, without the connection's secrets.
        self.redact: Callable[[str], str] = keep

    def __iter__(self) -> Generator[list[dict[str, Any]], None, None]:
        with self._client.stream(self._request) as (response, chunks):
            self._chunks = chunks
            if self._is_closed:
                chunks.close()
            self._dialect.check_status(self._request, response, now=time.time())
            self.redact = response.redact
            parser = EventStreamParser(self.redact)
            for chunk in chunks:
                if events := parser.feed(chunk):
                    yield events
            if events := parser.finish():
                yield events

    def close(self) -> None:
        """Cut the connection, from any thread; the iteration then ends with an error."""
        self._is_closed = True
        if self._chunks:
            self._chunks.close()


def list_events(batches: EventBatches) -> Iterator[dict[str, Any]]:
    """Yield the events one by one; closing the iterator closes the connection."""
    with closing(iter(batches)) as lists:
        for events in lists:
            yield from events
