"""Why a sequence leaves a replica, and what that means for it, the replica and the caller."""

from __future__ import annotations

from inference.errors import InferenceError, NoReplica, Overloaded, RequestFailed

# What a replica answers that says nothing about the request itself.
REFUSALS = frozenset(
    {
        "replica_restarted",
        "replica_stopping",
        "engine_died",
        "engine_error",
        "overloaded",
    }
)
# What speaks against a replica so much that its circuit counts it.
FAULTS = frozenset({"engine_error", "never_taken", "timeout"})
# A refusal after which waiting for a replica could only repeat it.
HOPELESS: dict[str, tuple[type[InferenceError], str]] = {
    "overloaded": (Overloaded, "The model is overloaded. Try again shortly."),
    "engine_error": (RequestFailed, "The model's engine failed on this request."),
}
# What a caller hears when nobody can go on.
STOPPED = (RequestFailed, "The model's engine stopped during this request.")
GIVEN_UP: dict[str, tuple[type[InferenceError], str]] = {
    "publish_failed": (NoReplica, "The model cannot be reached right now. Try again shortly."),
}
