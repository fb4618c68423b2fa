"""The probe answers health and figures, and nothing else."""

import httpx
import pytest

from openqrm.telemetry.probe import probe_app


async def _get(path: str, healthy: bool = True) -> httpx.Response:
    transport = httpx.ASGITransport(app=probe_app(lambda: None if healthy else "NATS cannot be reached."))
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
        return await client.get(path)


@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 503)])
async def test_health_says_whether_the_bus_is_reachable(healthy: bool, status: int) -> None:
    assert (await _get("/health", healthy)).status_code == status


async def test_metrics_are_in_the_text_format_of_prometheus() -> None:
    answer = await _get("/metrics")
    assert answer.status_code == 200
    assert "# TYPE openqrm_messages_handled_total counter" in answer.text


async def test_anything_else_is_not_there() -> None:
    assert (await _get("/secrets")).status_code == 404
