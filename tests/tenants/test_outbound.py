"""Which URLs of a tenant we follow: public, https, and nothing hidden in them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tenants import outbound
from tenants.errors import InvalidInput


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # the clouds' metadata
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),  # NAT64 of 169.254.169.254
        ("2002:0a00:0001::", False),  # 6to4 of 10.0.0.1
        ("", False),
        ("/run/socket", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert outbound.is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com",
        "ftp://login.example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https://user:pw@login.example.com",
        "https://login.example.com/#part",
        "https://login.example.com:port",
        "https://login.example.com/\r\nHost: evil",
        "https://login example.com",
        "https://" + "a" * 500,
        "login.example.com",
        "",
    ],
)
def test_urls_that_production_refuses(settings: Any, url: str) -> None:
    settings.SLUICE_ENV = "production"
    with pytest.raises(InvalidInput) as refusal:
        outbound.check_browser_url(url, param="sso_url")
    assert refusal.value.param == "sso_url"


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(outbound.socket, "getaddrinfo", lambda *_, **__: entries)


def test_every_address_of_a_host_must_be_public(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SLUICE_ENV = "production"
    resolving_to(monkeypatch, "93.184.215.14")
    url = "https://login.example.com/realm"
    assert outbound.check_server_url(url, param="issuer") == url
    resolving_to(monkeypatch, "93.184.215.14", "10.0.0.1")
    with pytest.raises(InvalidInput):
        outbound.check_server_url(url, param="issuer")


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0x7f.1/"]
)
def test_written_addresses_are_looked_at_too(settings: Any, url: str) -> None:
    settings.SLUICE_ENV = "production"
    with pytest.raises(InvalidInput):
        outbound.check_server_url(url, param="issuer")


def test_a_private_provider_is_allowed_in_development() -> None:
    assert outbound.check_server_url("http://127.0.0.1:8080", param="issuer")
