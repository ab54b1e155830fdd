"""Work that outlives the request that asked for it: the row is the truth about it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Coalesce, Now

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models.organizations import Organization, Project
from tenants.models.people import User

# The platform's own jobs, which belong to no organization, wait in line as its job 0.
TENANT = Coalesce("organization", 0)


class JobQuerySet(models.QuerySet["Job"]):
    def open(self) -> JobQuerySet:
        return self.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING])


class Job(models.Model):
    """One piece of durable work; ``tenants.jobs`` alone changes a row.

    ``kind`` and ``effect_key`` together name what shall happen, once: to enqueue it again
    finds this row. While it runs it is leased to ``lease_owner``; ``fencing_token`` rises
    with every claim, and whoever holds an older one can change nothing.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Priority(models.IntegerChoices):
        URGENT = 0, "Urgent"  # seconds of work that somebody waits for
        NORMAL = 5, "Normal"
        LOW = 9, "Low"  # may take hours

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_job_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, related_name="jobs", db_index=False
    )
    project = models.ForeignKey(Project, on_delete=models.SET_NULL, null=True, related_name="+")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    kind = models.CharField(max_length=40)
    effect_key = models.CharField(max_length=120)
    payload = models.JSONField(default=dict, help_text="Identifiers of what it is about.")
    sealed = models.BinaryField(
        null=True, editable=False, help_text="A secret that it needs, encrypted; erased at its end."
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    run_after = models.DateTimeField(db_default=Now())
    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=5)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_expires_at = models.DateTimeField(null=True)
    fencing_token = models.PositiveBigIntegerField(default=0)
    progress_done = models.PositiveBigIntegerField(default=0)
    progress_total = models.PositiveBigIntegerField(null=True)
    result = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TenantManager.from_queryset(JobQuerySet)()

    class Meta:
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            # One tenant's line after another: a claim looks at the head of each.
            models.Index(
                TENANT, "priority", "run_after", "id",
                condition=models.Q(state="queued"),
                name="tenants_job_waiting",
            ),
            models.Index(
                fields=["lease_expires_at"],
                condition=models.Q(state="running"),
                name="tenants_job_leases",
            ),
            models.Index(
                TENANT, condition=models.Q(state="running"), name="tenants_job_running"
            ),
            models.Index(
                fields=["finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="tenants_job_finished",
            ),
            models.Index(fields=["organization", "kind", "-id"], name="tenants_job_by_org"),
        ]  # fmt: skip
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "effect_key"], name="tenants_job_once"),
            models.CheckConstraint(
                condition=models.Q(state="running", lease_expires_at__isnull=False)
                | (~models.Q(state="running") & models.Q(lease_expires_at=None)),
                name="tenants_job_leased_while_running",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["queued", "running"], finished_at=None)
                | (
                    ~models.Q(state__in=["queued", "running"]) & models.Q(finished_at__isnull=False)
                ),
                name="tenants_job_finished_at_its_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.public_id}"

    @property
    def is_finished(self) -> bool:
        return self.state not in (self.State.QUEUED, self.State.RUNNING)

    @property
    def progress_percent(self) -> int | None:
        """From 0 to 100, None while nobody knows."""
        if not self.progress_total:
            return None
        return min(100, 100 * self.progress_done // self.progress_total)
