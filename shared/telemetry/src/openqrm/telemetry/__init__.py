"""Traces by OpenTelemetry, metrics for Prometheus, structured logs: set up the same way in every service."""
