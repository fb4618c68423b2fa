"""The metrics that every service has, for Prometheus. The `service` label keeps services in one process apart."""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MESSAGES_HANDLED = Counter(
    "openqrm_messages_handled_total", "Messages taken from a durable consumer", ["service", "subject", "outcome"]
)
MESSAGE_SECONDS = Histogram("openqrm_message_seconds", "Time to handle a message, in seconds", ["service", "subject"])
MESSAGES_PUBLISHED = Counter("openqrm_messages_published_total", "Messages published", ["service", "subject"])
QUERIES_ANSWERED = Counter("openqrm_queries_answered_total", "Queries answered", ["service", "subject", "outcome"])
QUERY_SECONDS = Histogram("openqrm_query_seconds", "Time to answer a query, in seconds", ["service", "subject"])
OUTBOX_PENDING = Gauge("openqrm_outbox_pending", "Messages committed and not yet published", ["service"])
BUS_LOSSES = Counter("openqrm_bus_losses_total", "Times that NATS came back without what it had kept", ["service"])
HOSTS = Gauge("openqrm_executor_hosts", "Hosts that an executor looks after", ["service", "reachable"])
EXECUTIONS_RUNNING = Gauge("openqrm_executions_running", "Routed commands being carried out", ["service"])
HTTP_SECONDS = Histogram("openqrm_http_seconds", "Time to answer a request, in seconds", ["method", "route", "status"])
EVENT_CLIENTS = Gauge("openqrm_event_clients", "Clients that follow events by WebSocket or SSE", ["transport"])


def render_metrics() -> bytes:
    """All metrics of this process in Prometheus's text format."""
    return generate_latest(REGISTRY)
