"""Requests to addresses that tenants name: public, https, and nothing hidden in them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tenants import outbound
from tenants.errors import InvalidInput
from tenants.outbound import resolving


@pytest.fixture(autouse=True)
def as_installed(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    settings.OUTBOUND_PORTS = ["443"]


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
        ("168.63.129.16", False),  # Azure's, which looks public
        ("100.100.100.200", False),
        ("100.64.0.1", False),  # carrier-grade NAT
        ("198.18.0.1", False),  # benchmarks
        ("192.0.2.1", False),  # documentation
        ("192.88.99.1", False),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("2606:4700::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("100::1", False),
        ("2001:db8::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:93.184.215.14", True),
        ("::127.0.0.1", False),  # "compatible"
        ("64:ff9b::a9fe:a9fe", False),  # NAT64 of 169.254.169.254
        ("64:ff9b::5db8:d70e", True),  # NAT64 of a public one, as DNS64 gives it
        ("64:ff9b:1::5db8:d70e", False),  # NAT64 of somebody's own
        ("2002:0a00:0001::", False),  # 6to4 of 10.0.0.1
        ("2002:5db8:d70e::", False),
        ("2001:0:5db8:d70e::f5ff:fffe", False),  # Teredo
        ("", False),
        ("/run/socket", False),
        ("2130706433", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert outbound.is_public(address) is public


def test_a_named_network_counts_as_public_but_never_the_metadata_in_it() -> None:
    named = ["10.0.0.0/8", "169.254.0.0/16", "fd00::/8"]
    assert outbound.is_public("10.1.2.3", named)
    assert outbound.is_public("::ffff:10.1.2.3", named)
    assert not outbound.is_public("192.168.1.1", named)
    assert outbound.is_public("169.254.1.1", named)
    for metadata in ("169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"):
        assert not outbound.is_public(metadata, named)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com",
        "ftp://login.example.com",
        "file:///etc/passwd",
        "gopher://login.example.com",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://user:pw@login.example.com",
        "https://@login.example.com",
        "https://login.example.com\\@10.0.0.1",
        "https://login.example.com/#part",
        "https://login.example.com:port",
        "https://login.example.com:0",
        "https://login.example.com:99999",
        "https://login.example.com/\r\nHost: evil",
        "https://login example.com",
        "https://[::1",
        "https://" + "a" * 500,
        "login.example.com",
        "",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    for check in (outbound.check_browser_url, outbound.check_server_url):
        with pytest.raises(InvalidInput) as refusal:
            check(url, param="sso_url")
        assert refusal.value.param == "sso_url"


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """The names that are asked for from now on; each leads to these addresses."""
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        return list(addresses)

    monkeypatch.setattr(resolving, "ask_system", look_up)
    return asked


def test_every_address_of_a_host_must_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, "93.184.215.14")
    url = "https://login.example.com/realm"
    assert outbound.check_server_url(url, param="issuer") == url
    resolving_to(monkeypatch, "93.184.215.14", "10.0.0.1")
    with pytest.raises(InvalidInput, match="public internet"):
        outbound.check_server_url(url, param="issuer")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
        "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.1", "010.0.0.1",
        "1.2.3.4.5", "0x", "127.0.0.1.", "ⓛocalhost", "１２７.0.0.1", "127。0。0。1", "bücher.example",
        "a..b", "-", "*.example.com", "%31%32%37.0.0.1", "localhost",
    ],
)  # fmt: skip
def test_written_addresses_and_odd_names_are_refused(host: str) -> None:
    with pytest.raises(InvalidInput):
        outbound.check_server_url(f"https://{host}/", param="issuer")


def test_ports_and_plain_http_are_the_operators_to_allow(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving_to(monkeypatch, "93.184.215.14")

    def is_allowed(url: str) -> bool:
        try:
            outbound.check_server_url(url, param="url")
        except InvalidInput:
            return False
        return True

    urls = ["https://a.test/", "https://a.test:8443/", "http://a.test/", "http://a.test:8443/"]
    assert [is_allowed(url) for url in urls] == [True, False, False, False]
    settings.OUTBOUND_PORTS = ["443", "8443", "80"]
    assert [is_allowed(url) for url in urls] == [True, True, True, False]
    assert not is_allowed("https://a.test:22/")


def test_what_the_operator_vouches_for_may_listen_anywhere(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = ["127.0.0.0/8"]
    assert outbound.check_server_url("http://127.0.0.1:8080", param="issuer")
    with pytest.raises(InvalidInput):
        outbound.check_server_url("http://10.0.0.1:8080", param="issuer")


def test_a_name_that_nobody_resolves_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(resolving, "ask_system", lambda *_: [str(let_go.wait(10))])
    with pytest.raises(outbound.Refused, match="in time"):
        resolving.resolve("slow.test", 443, is_tls=True, timeout_s=0.05)
    let_go.set()


def test_look_ups_that_hang_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "_lookups", threading.BoundedSemaphore(1))
    let_go = threading.Event()
    monkeypatch.setattr(resolving, "ask_system", lambda *_: [str(let_go.wait(10))])
    for told in ("in time", "Too many"):
        with pytest.raises(outbound.Refused, match=told):
            resolving.resolve("slow.test", 443, is_tls=True, timeout_s=0.05)
    let_go.set()
