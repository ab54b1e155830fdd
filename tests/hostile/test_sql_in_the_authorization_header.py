"""CVE-2026-42208: a proxy put the Authorization header into SQL, on the path that reports errors.

Every address that reads the header gets every injection; nothing happens but a 401.
"""

from __future__ import annotations

import json
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.harness.platform import Platform
from tests.hostile.raw import CHAT, get, post
from tests.tenants.test_authorization_header import INJECTIONS

# In the form of a key, in the middle of one, after a real one.
SENT = [
    *(text.encode() for text in INJECTIONS),
    *(b"Bearer " + text.encode() for text in INJECTIONS),
    *(b"Bearer sk-admin-" + text.encode()[:52].ljust(52, b"a") for text in INJECTIONS),
    b"Bearer '; NOTIFY tenants_changed, '*'; --",
    b"Basic J09SICcxJz0nMSc=",
    b'Token token="x\' OR 1=1"',
]
READ = ("/v1/models", "/v1/models/x", "/v1/organization/projects", "/v1/organization/audit_logs")
WRITTEN = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/organization/projects")

STATE = """
SELECT (SELECT count(*) FROM tenants_apikey), (SELECT count(*) FROM tenants_organization),
    (SELECT count(*) FROM tenants_organization WHERE suspended_at IS NOT NULL),
    (SELECT max(id) FROM tenants_auditevent), (SELECT sum(hashtext(secret_hmac::text)) FROM tenants_apikey)
"""


@pytest.mark.parametrize("path", [*READ, *(f"POST {path}" for path in WRITTEN)])
def test_an_injection_is_a_401_and_changes_nothing(simulated: Platform, path: str) -> None:
    before = simulated.query(STATE)
    method, _, target = path.rpartition(" ")
    started = time.monotonic()
    for value in SENT:
        header = b"Authorization: " + value
        answer = post(simulated, target, header) if method else get(simulated, target, header)
        assert answer.status == 401, (value, answer)
        assert set(answer.error) == {"message", "type", "param", "code"}
        assert value.decode() not in answer.body.decode()
    # pg_sleep(9) never ran.
    assert time.monotonic() - started < 9
    assert simulated.query(STATE) == before


def test_an_injection_on_the_socket_is_told_and_changes_nothing(simulated: Platform) -> None:
    before = simulated.query(STATE)
    url = f"ws://127.0.0.1:{simulated.port}/v1/stream"
    for value in SENT:
        headers = {"Authorization": value.decode()}
        with connect(url, additional_headers=headers, open_timeout=10) as connection:
            frame = json.loads(connection.recv(timeout=10))
            assert frame["error"]["code"] == "invalid_api_key"
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=10)
    assert simulated.query(STATE) == before


def test_the_logs_do_not_hold_what_was_sent(simulated: Platform) -> None:
    """An error path is where such a header was put together with something else."""
    mark = "x9QzInjectedMark"
    for path in READ:
        assert get(simulated, path, f"Authorization: Bearer {mark}'--".encode()).status == 401
    assert mark not in simulated.log("web")
    assert mark not in simulated.log("postgres")
