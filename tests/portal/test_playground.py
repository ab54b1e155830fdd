"""The playground's pages: who sees them, which models they offer, and what they tell the script."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from msgspec import Meta

from api.chat_completions.wire import ChatRequest
from api.document.errors import CATALOGUE
from api.parameters import MOST_STOPS
from portal import playground
from tenants import actions
from tenants.models import Organization, Project
from tests.cast import Cast
from tests.portal.conftest import log_in
from tests.portal.serving import serve

MODES = ("chat", "completion", "embeddings")
MOST_SCRIPT = 150 * 1024
# What happens on the way to the API: no answer of it has these.
OF_THE_PAGE = {"session_ended", "unreachable", "connection_lost", "no_answer", "unavailable"}


def url(cast: Cast, mode: str = "", **query: str) -> str:
    path = f"/o/{cast.organization.public_id}/playground/"
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{path}{mode + '/' if mode else ''}?{asked}"


def config_of(client: Client, address: str) -> dict[str, Any]:
    html = client.get(address).content.decode()
    found = re.search(
        r'<script id="playground-config" type="application/json">(.*?)</script>', html
    )
    assert found, "the page has nothing to ask"
    told: dict[str, Any] = json.loads(found[1])
    return told


def names_of(client: Client, address: str) -> list[str]:
    return [model["name"] for model in config_of(client, address)["models"]]


@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["", *MODES])
def test_who_may_make_a_key_may_play(cast: Cast, mode: str) -> None:
    serve("smol")
    serve("mini", kind="embedding")
    for person in (cast.owner, cast.admin, cast.member):
        assert log_in(person).get(url(cast, mode)).status_code == 200
    for person in (cast.viewer, cast.billing):
        assert log_in(person).get(url(cast, mode)).status_code == 403
        assert (
            b"playground/" not in log_in(person).get(f"/o/{cast.organization.public_id}/").content
        )
    assert log_in(cast.stranger).get(url(cast, mode)).status_code == 404
    assert Client().get(url(cast, mode)).status_code == 302
    assert log_in(cast.owner).get(url(cast, "images")).status_code == 404


@pytest.mark.django_db
def test_models_are_those_of_the_mode_that_are_served_to_this_organization(cast: Cast) -> None:
    owner = log_in(cast.owner)
    serve("smol")
    serve("mini", kind="embedding")
    serve("theirs", dedicated_to=cast.other_organization)
    serve("ours", dedicated_to=cast.organization)
    off = serve("off")
    off.is_enabled = False
    off.save()
    gone = serve("gone").version.model
    gone.is_enabled = False
    gone.save()
    assert names_of(owner, url(cast)) == ["ours", "smol"]
    assert names_of(owner, url(cast, "completion")) == ["ours", "smol"]
    assert names_of(owner, url(cast, "embeddings")) == ["mini"]


@pytest.mark.django_db
def test_a_model_has_the_context_and_abilities_of_what_answers(cast: Cast) -> None:
    serve("smol", context=8_192, tool_parser="hermes")
    serve("smol", context=1_024, dedicated_to=cast.organization)
    (model,) = config_of(log_in(cast.owner), url(cast))["models"]
    assert model == {"name": "smol", "context": 1_024, "tools": False}


@pytest.mark.django_db
def test_a_project_offers_what_it_may_use(cast: Cast) -> None:
    serve("smol", alias="gpt-4o")
    serve("large")
    owner = log_in(cast.owner)
    narrow = actions.create_project(cast.organization, "Narrow", acting_user=cast.owner)
    Project.objects.filter(pk=narrow.pk).update(allowed_models=["gpt-4o"])
    assert names_of(owner, url(cast)) == ["large", "smol"]
    assert names_of(owner, url(cast, project=narrow.public_id)) == ["smol"]
    Project.objects.filter(pk=narrow.pk).update(allowed_models=["another"])
    page = owner.get(url(cast, project=narrow.public_id)).content.decode()
    assert "No model to try" in page and "playground-config" not in page


@pytest.mark.django_db
def test_only_ones_own_projects_are_offered(cast: Cast) -> None:
    serve("smol")
    owner = log_in(cast.owner)
    archived = actions.create_project(cast.organization, "Archived", acting_user=cast.owner)
    Project.objects.filter(pk=archived.pk).update(archived_at=timezone.now())
    for asked in (cast.other_project.public_id, archived.public_id, "proj_none", "'\"<", "%00"):
        config = config_of(owner, url(cast, project=asked))
        assert config["project"] == cast.project.public_id
    page = owner.get(url(cast)).content.decode()
    assert cast.other_project.public_id not in page and archived.public_id not in page


@pytest.mark.django_db
def test_without_a_project_or_a_model_it_says_what_to_do(cast: Cast) -> None:
    owner = log_in(cast.owner)
    assert "No model to try" in owner.get(url(cast)).content.decode()
    Project.objects.filter(organization=cast.organization).update(archived_at=timezone.now())
    page = owner.get(url(cast)).content.decode()
    assert "No project yet" in page and "projects/new/" in page


@pytest.mark.django_db
def test_names_of_tenants_and_models_are_text(cast: Cast) -> None:
    """Also in the block of JSON, where a tag would end the script."""
    serve("smol</script><b>x")
    Organization.objects.filter(pk=cast.organization.pk).update(name="<script>alert(1)</script>")
    page = log_in(cast.owner).get(url(cast)).content.decode()
    assert "<script>alert" not in page and "<b>x" not in page
    assert names_of(log_in(cast.owner), url(cast)) == ["smol</script><b>x"]


@pytest.mark.django_db
def test_what_a_tab_keeps_is_of_one_person_in_one_organization(cast: Cast) -> None:
    serve("smol")
    owners = {config_of(log_in(person), url(cast))["owner"] for person in (cast.owner, cast.member)}
    assert len(owners) == 2
    assert all(owner.endswith(f":{cast.organization.public_id}") for owner in owners)


@pytest.mark.django_db
@pytest.mark.parametrize("mode", MODES)
def test_it_asks_the_database_little_however_many_models_there_are(cast: Cast, mode: str) -> None:
    client = log_in(cast.owner)
    for number in range(3):
        serve(f"smol-{number}", alias=f"gpt-{number}")
        serve(f"mini-{number}", kind="embedding")
    client.get(url(cast, mode))
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(url(cast, mode))
    for number in range(3, 12):
        serve(f"smol-{number}", alias=f"gpt-{number}")
        serve(f"mini-{number}", kind="embedding")
    with CaptureQueriesContext(connection) as many:
        client.get(url(cast, mode))
    assert len(few) == len(many) <= 22


@pytest.mark.django_db
@pytest.mark.parametrize("mode", MODES)
def test_its_scripts_hold_the_budget_and_load_in_order(cast: Cast, mode: str) -> None:
    serve("smol")
    serve("mini", kind="embedding")
    html = log_in(cast.owner).get(url(cast, mode)).content.decode()
    sources = re.findall(r'<script[^>]* src="/static/([^"]+)" defer', html)
    sizes = [len(gzip.compress(Path(finders.find(name)).read_bytes())) for name in sources]
    assert sum(sizes) <= MOST_SCRIPT // 2
    assert sources.index("portal/portal.js") < sources.index("portal/playground/line.js")
    assert not re.search(r"<script(?![^>]*(src=|application/json))|style=|\son\w+=", html)


def test_ranges_are_those_of_the_api() -> None:
    hints = get_type_hints(ChatRequest, include_extras=True)
    for parameter in playground.PARAMETERS:
        (bounds,) = (
            each
            for option in get_args(hints[parameter.name])
            for each in getattr(option, "__metadata__", ())
            if isinstance(each, Meta)
        )
        least = bounds.ge if bounds.ge is not None else bounds.gt
        assert least <= parameter.least < parameter.most <= bounds.le, parameter.name
        assert parameter.least <= parameter.middle <= parameter.most
    assert playground.MOST_STOPS == MOST_STOPS


def test_problems_are_those_that_there_are() -> None:
    known = {error.code for error in CATALOGUE}
    assert known.isdisjoint(OF_THE_PAGE)
    assert set(playground.PROBLEMS) - OF_THE_PAGE <= known
    line = Path(finders.find("portal/playground/line.js")).read_text()
    assert set(re.findall(r'"([a-z_]+)"', line)) >= OF_THE_PAGE, "each of them can happen"


def test_words_are_those_that_the_scripts_say() -> None:
    folder = Path(finders.find("portal/playground/line.js")).parent
    said = {
        name for path in folder.glob("*.js") for name in re.findall(r"\bwords\.(\w+)", path.read_text())
    }  # fmt: skip
    assert said == set(playground.WORDS)


def test_the_vendored_libraries_are_the_published_ones() -> None:
    """SHA-256 of the files in the packages marked 18.2.1 and dompurify 3.5.0, each without its
    last line, which names a source map that we do not serve."""
    digests = {
        "marked-18.2.1.js": "3953235b41bdcaa96ff14483bf18ce36b52bcf5356bba5e8886b18594a2c4558",
        "purify-3.5.0.js": "1bb69dcd35ac61a515cd876d9f9024b3117c8b7a1725f9b3097782d8d822e8d3",
    }
    for name, digest in digests.items():
        content = Path(finders.find(f"portal/vendor/{name}")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name


@pytest.mark.django_db
def test_a_role_in_one_project_sees_that_project(cast: Cast) -> None:
    serve("smol")
    own = actions.create_project(cast.organization, "Own", acting_user=cast.owner)
    actions.add_project_member(own, cast.viewer, "member", acting_user=cast.owner)
    assert config_of(log_in(cast.viewer), url(cast))["project"] == own.public_id
