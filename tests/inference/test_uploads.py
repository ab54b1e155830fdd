"""Uploads whose completion dies, is overtaken, or comes too late; and what is left in the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from inference.errors import InvalidRequest
from inference.files.actions import StorageQuotaExceeded, stored_bytes
from inference.files.models import File
from inference.objects import ObjectMissing, object_store
from inference.uploads import actions
from inference.uploads.assembly import assemble
from inference.uploads.models import Upload, UploadPart
from inference.uploads.selectors import access_upload
from inference.uploads.sweep import sweep_uploads
from tenants.errors import NotFound
from tenants.models import Plan
from tenants.scope import Scope, entered
from tests.cast import Cast

CONTENT = [b"one,", b"two,", b"three"]
SIZE = sum(map(len, CONTENT))


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.OBJECT_STORE = str(tmp_path)
    return tmp_path


@pytest.fixture
def upload(cast: Cast) -> Iterator[Upload]:
    with entered(Scope(organization=cast.organization.pk)):
        yield actions.begin_upload(
            cast.project, api_key=cast.owner_api_key, filename="a", mime_type="", purpose="batch",
            size=SIZE, file_kept_for_s=None,
        )  # fmt: skip


def stored_parts(upload: Upload) -> list[str]:
    return [_stored_part(upload, content) for content in CONTENT]


def _stored_part(upload: Upload, content: bytes) -> str:
    part = actions.begin_part(upload, reserved_bytes=len(content))
    writer = object_store().writer(part.object_key)
    writer.write(content)
    writer.commit()
    return actions.finish_part(part, size=len(content)).public_id


def taken(upload: Upload, ids: list[str]) -> tuple[Upload, list[UploadPart]]:
    """As another process finds the upload, and begins to complete it."""
    mine = access_upload(upload.project, upload.public_id)
    parts = actions.begin_completion(mine, ids)
    assert parts is not None
    return mine, parts


def written(mine: Upload, parts: list[UploadPart]) -> str:
    assert mine.file is not None
    return assemble(mine.file, parts, None)


def test_whoever_was_fenced_off_finishes_nothing(upload: Upload) -> None:
    ids = stored_parts(upload)
    slow, slow_parts = taken(upload, ids)
    with pytest.raises(actions.UploadInProgress):
        taken(upload, ids)
    Upload.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    fast, fast_parts = taken(upload, ids)
    assert fast.file_id != slow.file_id, "two writers never have one object"
    for mine, parts in ((slow, slow_parts), (fast, fast_parts)):
        digest = written(mine, parts)
    with pytest.raises(actions.UploadEnded):
        actions.finish_completion(slow, ids, sha256=digest, acting_user=None)
    done = actions.finish_completion(fast, ids, sha256=digest, acting_user=None)
    assert done.file is not None and done.file.state == File.State.STORED
    assert b"".join(object_store().read(done.file.object_key)) == b"".join(CONTENT)
    assert File.objects.shown().count() == 1


def test_a_failed_completion_may_be_tried_again(upload: Upload, folder: Path) -> None:
    ids = stored_parts(upload)
    mine, parts = taken(upload, ids)
    assert mine.file is not None
    with pytest.raises(InvalidRequest, match="MD5"):
        assemble(mine.file, parts, "0" * 32)
    with pytest.raises(ObjectMissing):
        next(iter(object_store().read(mine.file.object_key)))
    assert not list(folder.rglob("*.part"))
    actions.give_back_completion(mine)
    again, parts = taken(upload, ids)
    actions.finish_completion(again, ids, sha256=written(again, parts), acting_user=None)
    assert actions.begin_completion(access_upload(upload.project, upload.public_id), ids) is None


def test_a_cancelled_one_is_not_finished_by_who_completes_it(upload: Upload) -> None:
    ids = stored_parts(upload)
    mine, parts = taken(upload, ids)
    actions.cancel_upload(access_upload(upload.project, upload.public_id))
    with pytest.raises(actions.UploadEnded):
        actions.finish_completion(mine, ids, sha256=written(mine, parts), acting_user=None)
    assert not File.objects.shown().exists()


def test_an_hour_later_it_is_over_and_nothing_is_left(upload: Upload, folder: Path) -> None:
    ids = stored_parts(upload)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(actions.UploadEnded, match="expired"):
        actions.begin_completion(access_upload(upload.project, upload.public_id), ids)
    with pytest.raises(actions.UploadEnded, match="expired"):
        actions.begin_part(upload, reserved_bytes=1)
    assert sweep_uploads() == len(CONTENT) and sweep_uploads() == 0
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert not File.objects.filter(deleted_at=None).exists(), "its quota is free"
    Upload.objects.update(created_at=timezone.now() - timedelta(days=2))
    sweep_uploads()
    with pytest.raises(NotFound):
        access_upload(upload.project, upload.public_id)


def test_who_completes_in_time_is_not_swept_away(upload: Upload) -> None:
    ids = stored_parts(upload)
    mine, parts = taken(upload, ids)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sweep_uploads() == 0
    actions.finish_completion(mine, ids, sha256=written(mine, parts), acting_user=None)
    assert sweep_uploads() == len(CONTENT)
    assert File.objects.shown().count() == 1


def test_parts_have_room_for_one_that_is_sent_again(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MOST_PART_BYTES", 5)
    part = actions.begin_part(upload, reserved_bytes=SIZE)
    actions.begin_part(upload, reserved_bytes=5)
    with pytest.raises(InvalidRequest, match="announced"):
        actions.begin_part(upload, reserved_bytes=1)
    actions.give_up_part(part)
    actions.begin_part(upload, reserved_bytes=1)
    monkeypatch.setattr(actions, "MOST_PARTS", 2)
    with pytest.raises(InvalidRequest, match="at most 2 parts"):
        actions.begin_part(upload, reserved_bytes=1)


def test_the_quota_is_held_from_the_beginning(cast: Cast) -> None:
    Plan.objects.filter(pk=cast.organization.plan_id).update(stored_bytes=SIZE + 5)

    def begin(size: int) -> Upload:
        return actions.begin_upload(
            cast.project, api_key=None, filename="b", mime_type="", purpose="batch", size=size,
            file_kept_for_s=None,
        )  # fmt: skip

    with entered(Scope(organization=cast.organization.pk)):
        cast.organization.refresh_from_db()
        upload = begin(SIZE)
        assert stored_bytes(cast.organization) == SIZE
        with pytest.raises(StorageQuotaExceeded):
            begin(6)
        actions.cancel_upload(upload)
        assert begin(6).state == Upload.State.PENDING


def test_open_ones_are_bounded(cast: Cast, upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST_OPEN", 1)
    with pytest.raises(actions.TooManyUploads):
        actions.begin_upload(
            cast.project, api_key=None, filename="b", mime_type="", purpose="batch", size=1,
            file_kept_for_s=None,
        )  # fmt: skip
