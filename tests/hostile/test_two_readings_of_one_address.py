"""CVE-2026-49468: a crafted Host made the check and the router see two different routes.

Here the path alone routes, once, and what routed is what is checked. So: every spelling
of a guarded address is refused or is nothing, and none reaches what it guards.
"""

from __future__ import annotations

import pytest

from api.asgi import is_management_path, is_token_path
from tests.harness.platform import Platform
from tests.hostile.raw import bearer, get, post, send

HOSTS = (
    b"Host: 127.0.0.1/v1/models?",
    b"Host: 127.0.0.1#/healthz",
    b"Host: evil.example",
    b"Host: /healthz",
    b"Host: localhost:80@evil.example",
    b"Host: 127.0.0.1, healthz",
    b"Host: ",
    b"X-Forwarded-Host: 127.0.0.1/healthz",
    b"X-Original-URL: /healthz",
    b"X-Rewrite-URL: /healthz",
    b"X-HTTP-Method-Override: GET",
    b"Forwarded: host=127.0.0.1;path=/healthz",
)
GUARDED = ("/v1/models", "/v1/organization/projects", "/admin/", "/v1/organization/admin_api_keys")
# What others decode, shorten or cut off; each is some other address here, or the same one.
SPELLINGS = (
    "{}/", "/{}", "{}//", "/.{}", "/healthz/..{}", "/healthz/..;{}", "{};x=/healthz",
    "{}%2f", "{}%00", "{}%20", "{}?/healthz", "{}#/healthz", "/%2e%2e{}", "/static/..{}",
    "/static/%2e%2e{}", "{}/..;/healthz", "http://evil.example{}", "http://127.0.0.1{}?/healthz",
    "//evil.example{}", "/v1{}", "{}\\healthz", "{}/%252e%252e/healthz",
)  # fmt: skip


@pytest.mark.parametrize("path", GUARDED)
def test_no_host_and_no_header_moves_a_request_past_its_check(
    simulated: Platform, path: str
) -> None:
    plain = get(simulated, path)
    assert plain.status in (302, 401)
    for header in HOSTS:
        answer = get(simulated, path, header)
        assert answer.status in (plain.status, 400, 404), (header, answer)
        assert b'"object"' not in answer.body
        assert "evil" not in answer.headers.get("location", "")


@pytest.mark.parametrize("path", GUARDED)
def test_no_spelling_of_a_guarded_address_answers_without_a_key(
    simulated: Platform, path: str
) -> None:
    for spelling in SPELLINGS:
        answer = get(simulated, spelling.format(path))
        assert answer.status in (0, 301, 302, 400, 401, 404, 405), (spelling, answer)
        assert b'"object"' not in answer.body
        location = answer.headers.get("location", "")
        assert not location.startswith(("//", "http", "\\", "/\\")), (spelling, location)


@pytest.mark.parametrize(
    "target",
    ["/V1/models", "/v1//models", "/v1/./models", "/v1/models/../models", "/v1/organization/../models",
     "/v1/models%2f..", "/v1/chat/completions/../../models", "/v1/organization%2f..%2fmodels"],
)  # fmt: skip
def test_paths_are_not_normalized_by_one_and_not_by_the_other(
    simulated: Platform, target: str
) -> None:
    """With a key that may list models, an address that is not exactly theirs lists none."""
    answer = get(simulated, target, bearer(simulated.key))
    assert b'"object":"list"' not in answer.body.replace(b" ", b"")
    assert answer.status in (301, 302, 401, 404), answer


def test_an_encoded_path_is_routed_as_what_it_means(simulated: Platform) -> None:
    assert get(simulated, "/v1/%6dodels").status == 401
    assert get(simulated, "/v1/%6dodels", bearer(simulated.key)).status == 200
    assert get(simulated, "/v1%2forganization/projects").status == 401
    # The management API's key check, not the token path's: the same word routed it.
    refused = get(simulated, "/v1/%6frganization/projects", bearer(simulated.key))
    assert refused.error["code"] == "insufficient_permissions"


def test_the_absolute_form_names_a_path_and_no_host(simulated: Platform) -> None:
    answer = get(simulated, f"http://evil.example{'/v1/models'}", bearer(simulated.key))
    assert answer.status in (200, 400, 404)
    assert get(simulated, "http://evil.example/v1/models").status in (400, 401, 404)
    assert get(simulated, "http://evil.example/admin/").status in (302, 400, 404)


def test_two_hosts_are_one_request_for_nobody_else(simulated: Platform) -> None:
    for path in GUARDED:
        answer = get(simulated, path, b"Host: 127.0.0.1", b"Host: evil.example")
        assert answer.status in (302, 400, 401), answer
        assert "evil" not in answer.headers.get("location", "")


@pytest.mark.parametrize("override", [b"X-HTTP-Method-Override: DELETE", b"X-Method-Override: GET"])
def test_no_header_is_another_method(simulated: Platform, override: bytes) -> None:
    assert post(simulated, "/v1/models", bearer(simulated.key), override).status == 405
    assert get(simulated, "/v1/embeddings", bearer(simulated.key), override).status == 405


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "PATCH", "get", "FOO"])
def test_odd_methods_reach_nothing(simulated: Platform, method: str) -> None:
    line = f"{method} /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    answer = send(simulated, line.encode() + bearer(simulated.key) + b"\r\n\r\n")
    assert answer.status in (0, 400, 404, 405), answer
    assert simulated.key.encode() not in answer.body


def test_a_path_is_one_doors_and_never_two() -> None:
    """The one decision, by itself: what it gives to Django it does not answer, and vice versa."""
    for path in ("/v1/organization", "/v1/organization/", "/v1/organization/x", "/v1/projects/x"):
        assert is_management_path(path) and not is_token_path(path)
    for path in ("/v1/organizations", "/v1/organization.", "/v1/organization;x", "/v1/models",
                 "/v1/projectsx", "/v1//organization"):  # fmt: skip
        assert is_token_path(path) and not is_management_path(path)
    for path in ("//v1/models", "/V1/models", "/", "/admin/", "v1/models", "/x/v1/models"):
        assert not is_token_path(path) and not is_management_path(path)
