"""What ``OutboundSession`` does on the wire, against real servers on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenants.outbound import OutboundSession, resolving
from tenants.outbound.session import reason_of
from tests.tenants.receiver import Receiver
from tests.tenants.test_outbound import resolving_to


@pytest.fixture(autouse=True)
def loopback(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_it_connects_to_the_address_that_it_looked_at(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving_to(monkeypatch, "127.0.0.1")
    answer = OutboundSession().post(f"http://hook.test:{receiver.port}/x", data=b"{}")
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert asked == ["hook.test"]  # once: what is asked twice may be answered in two ways
    assert receiver.received[0].headers["host"] == f"hook.test:{receiver.port}"


def test_a_name_that_turned_private_is_not_reached(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    settings.OUTBOUND_PORTS = [str(receiver.port)]
    for addresses in (["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]):
        resolving_to(monkeypatch, *addresses)
        with pytest.raises(requests.ConnectionError) as refusal:
            OutboundSession().post(f"https://hook.test:{receiver.port}/")
        assert reason_of(refusal.value) == "This host is not on the public internet."
    assert receiver.received == []


def test_written_addresses_are_not_reached_either(receiver: Receiver, settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    for host in ("127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"):
        with pytest.raises(requests.RequestException):
            OutboundSession().post(f"http://{host}:{receiver.port}/")
    assert receiver.received == []


def test_no_redirect_is_followed(receiver: Receiver) -> None:
    with Receiver() as inside:
        receiver.status, receiver.location = 307, inside.url
        answer = OutboundSession().post(receiver.url, data=b"{}", allow_redirects=False)
        assert answer.status_code == 307
        with pytest.raises(requests.TooManyRedirects):
            OutboundSession().post(receiver.url, data=b"{}")
        assert inside.received == []


def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert OutboundSession().post(receiver.url).status_code == 200
        assert proxy.received == []


@pytest.mark.parametrize("what", ["headers", "body"])
def test_who_drips_is_cut_off(receiver: Receiver, what: str) -> None:
    receiver.drips = what
    began = time.monotonic()
    with pytest.raises(requests.Timeout) as cut:
        OutboundSession(whole_s=0.3).post(receiver.url)
    assert time.monotonic() - began < 2
    assert reason_of(cut.value) == "No answer within 0.3 s."


def test_a_name_that_resolves_slowly_is_part_of_the_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(resolving, "ask_system", lambda *_: [str(let_go.wait(10))])
    began = time.monotonic()
    with pytest.raises(requests.RequestException):
        OutboundSession(whole_s=0.2).post("https://slow.test/")
    assert time.monotonic() - began < 2
    let_go.set()


def test_a_long_answer_is_refused_or_cut(receiver: Receiver) -> None:
    receiver.answer = b"y" * 5000
    with pytest.raises(requests.exceptions.ContentDecodingError):
        OutboundSession(largest=1024).post(receiver.url)
    assert OutboundSession(largest=1024, cuts=True).post(receiver.url).content == b"y" * 1024
    assert len(OutboundSession(largest=5000).post(receiver.url).content) == 5000


def test_who_does_not_listen_is_told_in_words(receiver: Receiver) -> None:
    url = receiver.url
    receiver.__exit__()
    with pytest.raises(requests.ConnectionError) as failure:
        OutboundSession().post(url)
    assert reason_of(failure.value) == "No connection: connection refused."
    receiver.__enter__()


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of hook.test, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hook.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, pem = tmp_path / "crt.pem", tmp_path / "key.pem"
    crt.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return crt, pem


def test_tls_is_verified_with_the_name_not_the_address(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving_to(monkeypatch, "127.0.0.1")
    trusted = str(certificate[0])
    with Receiver(tls=certificate) as receiver:
        url = f"https://hook.test:{receiver.port}/"
        assert OutboundSession().post(url, verify=trusted).status_code == 200
        for wrong, verify in ((url.replace("hook.test", "else.test"), trusted), (url, True)):
            with pytest.raises(requests.exceptions.SSLError) as refusal:
                OutboundSession().post(wrong, verify=verify)
            assert reason_of(refusal.value).startswith("TLS failed: ")
        assert len(receiver.received) == 1


def test_a_handshake_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:  # speaks no TLS, and waits for the end of our line
        began = time.monotonic()
        with pytest.raises(requests.RequestException):
            OutboundSession(whole_s=0.3).post(f"https://127.0.0.1:{receiver.port}/")
        assert time.monotonic() - began < 2
