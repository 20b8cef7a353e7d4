"""Which addresses of a callback a service surely cannot reach."""

from __future__ import annotations

import pytest

from airflow_agent_tasks.callbacks.address import is_out_of_reach

INTERNAL = [
    *("localhost", "LOCALHOST", "localhost.", "airflow", "airflow-webserver", "airflow.localhost"),
    *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]"),
    *("airflow.local", "airflow.internal", "metadata.google.internal", "Airflow.Internal.", "nas.home.arpa"),
    *("airflow.test", "airflow.invalid", "airflow.example"),
]
PUBLIC = [
    *("airflow.example.com", "airflow.example.com.", "a.b.c.io", "local.example.com", "internal.net"),
    *("8.8.8.8", "172.32.0.1", "192.169.0.1", "11.0.0.1", "[2606:4700::1111]"),
    *("xn--bcher-kva.ch", "10.0.0.1.nip.io"),
]


@pytest.mark.parametrize("host", INTERNAL)
def test_an_internal_address_is_out_of_reach_of_a_public_service(host: str) -> None:
    assert is_out_of_reach(f"https://{host}:8080/prefix", "https://api.example.com/v1") is True
    assert is_out_of_reach(f"http://{host}", "https://8.8.4.4") is True


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_is_in_reach_of_every_service(host: str) -> None:
    assert is_out_of_reach(f"https://{host}:8080/prefix", "https://api.example.com/v1") is False
    assert is_out_of_reach(f"https://{host}", "http://localhost:8090") is False


@pytest.mark.parametrize("host", INTERNAL)
@pytest.mark.parametrize("service", ["localhost:8090", "127.0.0.1", "sandbox", "10.9.9.9", "[fd00::2]"])
def test_a_service_in_a_network_of_ones_own_may_reach_its_addresses(host: str, service: str) -> None:
    assert is_out_of_reach(f"http://{host}:8080", f"http://{service}") is False
