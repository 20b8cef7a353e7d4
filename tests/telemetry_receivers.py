"""Where metrics and traces arrive: a StatsD listener and an OTLP receiver, on real sockets."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Metric:
    """One value of a metric, as it arrived."""

    name: str
    kind: str
    value: float
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass
class Receiver:
    """What has arrived."""

    port: int = 0
    metrics: list[Metric] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)

    def names(self) -> set[str]:
        return {metric.name for metric in self.metrics}

    def find(self, name: str, **tags: Any) -> list[Metric]:
        return [
            metric
            for metric in self.metrics
            if metric.name == f"airflow.agent_tasks.{name}" and tags.items() <= metric.tags.items()
        ]

    def wait_until(self, condition: Callable[[Receiver], Any], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < deadline, sorted(self.names()) or [span.name for span in self.spans]
            time.sleep(0.1)


@contextmanager
def listen_for_statsd() -> Iterator[Receiver]:
    """Receive StatsD's datagrams, with tags as InfluxDB writes them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listening.bind(("127.0.0.1", 0))
        receiver = Receiver(listening.getsockname()[1])

        def receive() -> None:
            while datagram := listening.recv(65_536):
                receiver.metrics += [parse_statsd(line) for line in datagram.decode().splitlines()]

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            yield receiver
        finally:
            # An empty datagram ends the thread, after those that wait before it.
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", receiver.port))
            thread.join()


def parse_statsd(line: str) -> Metric:
    name, _, rest = line.partition(":")
    value, kind = rest.split("|")[:2]
    name, *tags = name.split(",")
    kinds = {"c": "counter", "g": "gauge", "ms": "timer"}
    return Metric(name, kinds[kind], float(value), dict(tag.split("=", 1) for tag in tags))


@contextmanager
def listen_for_otlp() -> Iterator[Receiver]:
    """Receive OTLP over HTTP, as an OpenTelemetry collector does."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/metrics":
                receiver.metrics += parse_otlp_metrics(body)
            else:
                receiver.spans += parse_otlp_spans(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parse_otlp_metrics(body: bytes) -> list[Metric]:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest.FromString(body)
    found = []
    for metric in (
        one
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for one in scope.metrics
    ):
        data = metric.WhichOneof("data")
        kind = {"sum": "counter", "gauge": "gauge"}.get(data, "timer")
        for point in getattr(metric, data).data_points:
            value = point.sum if kind == "timer" else getattr(point, point.WhichOneof("value"))
            found.append(Metric(metric.name, kind, value, read_attributes(point)))
    return found


def parse_otlp_spans(body: bytes) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return [
        one for resource in request.resource_spans for scope in resource.scope_spans for one in scope.spans
    ]


def read_attributes(holder: Any) -> dict[str, Any]:
    """Return the attributes of a data point, a span or an event."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}
