"""What is served: resolved in memory, read anew when it changes, whole or not at all."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import registry as registries
from inference.actions import notify_registry_changed
from inference.errors import ModelNotFound
from inference.models import Deployment, Model, ModelAlias, ModelVersion
from inference.registry import ModelEntry, Registry, Snapshot
from tests.cast import build_cast
from tests.inference.callers import eventually, make_served
from tests.inference.tiny_models import write_tiny_model
from tests.tenants.database import in_thread, watched_queries

# --- Resolving, pure ---------------------------------------------------------------------


def entry(*weights: int) -> ModelEntry:
    deployments = tuple(make_served(index, weight=weight) for index, weight in enumerate(weights))
    return ModelEntry("tiny", "chat", "sluice", 0, None, deployments)


def test_a_model_is_found_by_its_name_and_its_aliases() -> None:
    snapshot = Snapshot({"tiny": entry(1)}, {"gpt-4o": "tiny", "lost": "withdrawn"})

    assert snapshot.find("tiny") is snapshot.find("gpt-4o") is snapshot.models["tiny"]
    for name in ("", "TINY", "lost", "x" * 10_000):
        with pytest.raises(ModelNotFound) as refusal:
            snapshot.find(name)
        assert refusal.value.status == 404 and len(refusal.value.message) < 300


def test_weights_split_organizations_in_their_proportion() -> None:
    served = entry(70, 20, 10, 0)
    first = Counter(
        Snapshot().resolve(served, organization)[0].deployment for organization in range(5_000)
    )

    assert first[3] == 0
    for deployment, share in ((0, 0.7), (1, 0.2), (2, 0.1)):
        assert abs(first[deployment] / 5_000 - share) < 0.03


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6), st.integers(1, 10**9))
def test_an_organization_stays_where_it_is_and_may_fall_back_on_the_others(
    weights: list[int], organization: int
) -> None:
    served = entry(*weights)
    resolved = Snapshot().resolve(served, organization)

    assert resolved == Snapshot().resolve(served, organization)
    with_weight = {index for index, weight in enumerate(weights) if weight}
    # Where no deployment has any weight, weights decide nothing and all may answer.
    assert {each.deployment for each in resolved} == with_weight or not with_weight
    assert len(resolved) == len({each.deployment for each in resolved}) > 0


dedications = st.lists(
    st.tuples(st.integers(0, 100), st.sampled_from([None, 1, 2])), min_size=1, max_size=6
)


@given(dedications, st.integers(1, 3))
def test_a_deployment_that_is_kept_for_somebody_serves_nobody_else(
    deployments: list[tuple[int, int | None]], organization: int
) -> None:
    served = ModelEntry(
        "tiny", "chat", "sluice", 0, None,
        tuple(
            make_served(index, weight=weight, dedicated_to=owner)
            for index, (weight, owner) in enumerate(deployments)
        ),
    )  # fmt: skip
    resolved = Snapshot().resolve(served, organization)

    owners = [each.dedicated_to for each in resolved]
    assert set(owners) <= {None, organization}
    # Its own lead, whatever their weight, and none of them is left out.
    own = [index for index, (_, owner) in enumerate(deployments) if owner == organization]
    assert [each.deployment for each in resolved][: len(own)] == own
    assert (not resolved) == (not Snapshot().usable(served, organization))


def test_what_is_kept_for_others_moves_nobody_between_the_shared_ones() -> None:
    """Weights split the shared deployments alike, with and without a customer's own."""
    shared = entry(70, 30)
    extended = ModelEntry(
        "tiny", "chat", "sluice", 0, None,
        (*shared.deployments, make_served(9, weight=100, dedicated_to=10**6)),
    )  # fmt: skip
    for organization in range(1, 500):
        assert Snapshot().resolve(shared, organization) == Snapshot().resolve(
            extended, organization
        )


def test_a_model_knows_its_names() -> None:
    snapshot = Snapshot({"tiny": entry(1)}, {"gpt-4o": "tiny", "small": "tiny", "other": "big"})

    assert snapshot.names_of(snapshot.models["tiny"]) == ["tiny", "gpt-4o", "small"]


# --- Reading the rows ----------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, settings: object) -> Path:
    settings.MODEL_STORE = tmp_path  # type: ignore[attr-defined]
    return tmp_path


def deploy(store: Path, name: str, version: str = "1", **fields: object) -> Deployment:
    """A served version whose tokenizer lies in the store."""
    write_tiny_model(store / name / version)
    model, _ = Model.objects.get_or_create(name=name, defaults={"kind": Model.Kind.CHAT})
    row = ModelVersion.objects.create(
        model=model,
        version=version,
        source_uri="file:///tiny",
        path=f"{name}/{version}",
        max_context_tokens=128,
        sha256=version,
    )
    return Deployment.objects.create(name=f"{name}-{version}", version=row, **fields)


async def refreshed() -> Snapshot:
    registry = Registry()
    await registry.refresh()
    return registry.snapshot


@pytest.mark.django_db(transaction=True)
async def test_a_snapshot_is_complete_and_resolving_asks_the_database_nothing(store: Path) -> None:
    row = await in_thread(
        deploy, store, "tiny", region="eu", batching_profile="cost", traffic_weight=7
    )
    await in_thread(
        lambda: ModelAlias.objects.create(name="gpt-4o", model=Model.objects.get(name="tiny"))
    )
    snapshot = await refreshed()
    with watched_queries() as statements:
        (served,) = snapshot.resolve(snapshot.find("gpt-4o"), 1)
        assert served.renderer.tokenize("a b", False, scope=1) == [1, 2]

    assert statements == []
    assert (served.deployment, served.name, served.version_label) == (row.pk, "tiny-1", "tiny@1")
    assert (served.region, served.batching_profile, served.traffic_weight) == ("eu", "cost", 7)


@pytest.mark.django_db(transaction=True)
async def test_whom_a_deployment_is_kept_for_is_read_with_it(store: Path) -> None:
    def arrange() -> int:
        cast = build_cast()
        deploy(store, "shared")
        deploy(store, "kept", dedicated_to=cast.organization)
        return int(cast.organization.pk)

    organization = await in_thread(arrange)
    snapshot = await refreshed()

    assert snapshot.models["shared"].deployments[0].dedicated_to is None
    assert snapshot.models["kept"].deployments[0].dedicated_to == organization
    assert snapshot.resolve(snapshot.models["kept"], organization + 1) == ()


@pytest.mark.django_db(transaction=True)
async def test_what_is_switched_off_is_not_served(store: Path) -> None:
    await in_thread(deploy, store, "on")
    await in_thread(deploy, store, "deployment-off", is_enabled=False)
    await in_thread(deploy, store, "model-off")
    await in_thread(Model.objects.filter(name="model-off").update, is_enabled=False)
    await in_thread(Model.objects.create, name="never-deployed", kind=Model.Kind.CHAT)

    assert set((await refreshed()).models) == {"on"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("damage", ["no folder", "no tokenizer", "no config", "no text", "odd"])
async def test_a_version_that_cannot_be_read_withdraws_nobody_else(
    store: Path, damage: str
) -> None:
    await in_thread(deploy, store, "sound")
    await in_thread(deploy, store, "broken")
    folder = store / "broken" / "1"
    if damage == "no folder":
        shutil.rmtree(folder)
    elif damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif damage == "no config":
        (folder / "config.json").write_text("[")
    elif damage == "no text":
        (folder / "tokenizer.json").write_bytes(b'{"version": \xff')
    else:
        (folder / "tokenizer_config.json").write_text('{"chat_template": [{"no": "name"}, 3]}')

    assert set((await refreshed()).models) == {"sound"}


@pytest.mark.django_db(transaction=True)
async def test_weights_replaced_in_their_folder_are_read_anew(store: Path) -> None:
    row = await in_thread(deploy, store, "tiny")
    registry = Registry()
    await registry.refresh()
    (before,) = registry.snapshot.find("tiny").deployments
    await registry.refresh()
    assert registry.snapshot.find("tiny").deployments[0].renderer is before.renderer
    await in_thread(ModelVersion.objects.filter(pk=row.version_id).update, sha256="other")
    await registry.refresh()

    assert registry.snapshot.find("tiny").deployments[0].renderer is not before.renderer


@asynccontextmanager
async def running(registry: Registry) -> AsyncIterator[None]:
    task = asyncio.create_task(registry.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)  # for the listener, which is cancelled with it


@pytest.mark.django_db(transaction=True)
async def test_a_change_reaches_a_running_gateway_by_its_notice(store: Path) -> None:
    def deploy_and_tell() -> None:
        deploy(store, "second")
        notify_registry_changed()

    await in_thread(deploy, store, "first")
    registry = Registry()
    async with running(registry):
        await eventually(lambda: set(registry.snapshot.models) == {"first"})
        await in_thread(deploy_and_tell)
        await eventually(lambda: set(registry.snapshot.models) == {"first", "second"}, 5)


@pytest.mark.django_db(transaction=True)
async def test_without_a_notice_it_is_read_anew_in_time(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "REFRESH_S", 0.1)
    registry = Registry()
    async with running(registry):
        await in_thread(deploy, store, "tiny")
        await eventually(lambda: set(registry.snapshot.models) == {"tiny"}, 5)
