"""``manage.py pull_model``: rows, audit and the notice to gateways, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection

from inference.actions import CHANNEL
from inference.models import Model, ModelVersion
from inference.store.defaults import DEFAULTS
from inference.store.manifest import read_manifest
from tenants.models import AuditEvent
from tests.inference.default_models import STORE, default_folder
from tests.inference.tiny_models import write_tiny_model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "source")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Any) -> Path:
    settings.MODEL_STORE = tmp_path / "store"
    return tmp_path / "store"


def pull(source: Path, *options: str) -> str:
    out = StringIO()
    call_command("pull_model", source.as_uri(), "--model", "tiny", *options, stdout=out)
    return out.getvalue()


def pulled_events() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="model_version.pulled").order_by("pk"))


@pytest.mark.django_db
def test_a_pull_makes_a_model_and_its_version(source: Path, store: Path) -> None:
    output = pull(source, "--version", "2026-11", "--description", "Tiny.")
    row = ModelVersion.objects.select_related("model").get()
    manifest = read_manifest(store / row.path)
    assert manifest is not None
    assert (row.model.name, row.model.kind, row.model.description) == ("tiny", "chat", "Tiny.")
    assert (row.version, row.path, row.sha256) == ("2026-11", "tiny/2026-11", manifest.sha256)
    assert (row.source_uri, row.dtype) == (source.as_uri(), "float32")
    assert (row.max_context_tokens, row.embedding_dimensions) == (128, None)
    assert row.pulled_at is not None and row.pulled_at.isoformat() == manifest.pulled_at
    (event,) = pulled_events()
    assert event.object_id == "tiny@2026-11" and event.after["sha256"] == manifest.sha256
    assert output.startswith("tiny@2026-11: ")


@pytest.mark.django_db
def test_an_encoder_becomes_an_embedding_model(tmp_path: Path) -> None:
    pull(write_tiny_model(tmp_path / "encoder", kind="embedding"))
    row = ModelVersion.objects.select_related("model").get()
    assert (row.model.kind, row.embedding_dimensions) == ("embedding", 8)


@pytest.mark.django_db
def test_a_second_pull_changes_nothing_and_says_nothing(source: Path) -> None:
    pull(source)
    before = ModelVersion.objects.values().get()
    pull(source)
    assert ModelVersion.objects.values().get() == before and len(pulled_events()) == 1


@pytest.mark.django_db
def test_what_staff_edited_stays_unless_the_operator_asks(source: Path) -> None:
    pull(source)
    ModelVersion.objects.update(max_context_tokens=64, engine_options={"seed": 1})
    Model.objects.update(description="Edited.")
    pull(source, "--description", "Other.")
    row = ModelVersion.objects.select_related("model").get()
    assert (row.max_context_tokens, row.engine_options) == (64, {"seed": 1})
    assert row.model.description == "Edited."
    pull(source, "--context", "32")
    row.refresh_from_db()
    assert (row.max_context_tokens, row.engine_options) == (32, {"seed": 1})
    assert pulled_events()[-1].before["max_context_tokens"] == 64
    pull(source, "--engine-options", '{"seed": 2}')
    row.refresh_from_db()
    assert (row.max_context_tokens, row.engine_options) == (32, {"seed": 2})


@pytest.mark.parametrize("raw", ["{", "[1]"])
def test_engine_options_are_a_json_object(source: Path, raw: str) -> None:
    with pytest.raises(CommandError, match="--engine-options"):
        pull(source, "--engine-options", raw)


@pytest.mark.django_db
def test_replaced_weights_are_registered_under_their_new_hash(source: Path) -> None:
    pull(source)
    first = ModelVersion.objects.get()
    (source / "tokenizer_config.json").write_text("{}")
    pull(source, "--replace")
    second = ModelVersion.objects.get()
    assert second.pk == first.pk and second.sha256 != first.sha256
    assert len(pulled_events()) == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    "options", [("--context", "8"), ("--context", "129"), ("--version", "../1")]
)
def test_a_refused_pull_registers_nothing(source: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        pull(source, *options)
    assert not Model.objects.exists() and not pulled_events()


def test_no_register_needs_no_database(source: Path, store: Path) -> None:
    """pytest-django fails a test that touches a database it did not ask for."""
    pull(source, "--no-register")
    assert (store / "tiny" / "1" / "sluice.json").is_file()


def test_a_uri_or_default_but_not_both(source: Path) -> None:
    for arguments in ([], [source.as_uri(), "--default"]):
        with pytest.raises(CommandError, match="either"):
            call_command("pull_model", *arguments, "--no-register")


@pytest.fixture
def gateway(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection that listens as a gateway does."""
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold", "pool"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        yield listener


def test_gateways_hear_of_a_change_and_only_of_a_change(
    source: Path, gateway: psycopg.Connection[Any]
) -> None:
    pull(source)
    assert [notice.channel for notice in gateway.notifies(timeout=2, stop_after=1)] == [CHANNEL]
    pull(source)
    assert list(gateway.notifies(timeout=0.2)) == []


@pytest.fixture
def audit_that_refuses_pulls(transactional_db: None) -> Iterator[None]:
    table = AuditEvent._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT refuses CHECK (action <> 'model_version.pulled')"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT refuses")


def test_without_its_audit_row_nothing_is_registered(
    source: Path, audit_that_refuses_pulls: None, gateway: psycopg.Connection[Any]
) -> None:
    with pytest.raises(IntegrityError):
        pull(source)
    assert not Model.objects.exists() and list(gateway.notifies(timeout=0.2)) == []


def test_the_default_models_are_pinned() -> None:
    assert [default.pull.model for default in DEFAULTS] == [
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
    ]
    assert all(len(default.pull.sha256) == 64 for default in DEFAULTS)


@pytest.mark.django_db
def test_the_default_models_arrive_as_the_platform_serves_them(settings: Any) -> None:
    default_folder("smollm2-135m-instruct")
    settings.MODEL_STORE = STORE
    call_command("pull_model", "--default", "--verify", stdout=StringIO())
    rows = {row.model.name: row for row in ModelVersion.objects.select_related("model")}
    chat, embedding = rows["smollm2-135m-instruct"], rows["all-minilm-l6-v2"]
    assert (chat.model.kind, chat.dtype, chat.max_context_tokens) == ("chat", "auto", 4096)
    assert (embedding.model.kind, embedding.dtype) == ("embedding", "float32")
    assert (embedding.max_context_tokens, embedding.embedding_dimensions) == (256, 384)
