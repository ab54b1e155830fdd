"""``hf://owner/repo[@revision][/file.gguf]``: a repository of a Hugging Face hub.

The hub, its credentials and its timeouts are ``huggingface_hub``'s own settings
(``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_DOWNLOAD_TIMEOUT``). A download that
breaks off goes on where it stopped; of a killed pull, whole files are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from inference.errors import BadSource, FetchFailed, MissingExtra
from inference.store.fetched import Fetched, Licence, Report, is_wanted

METADATA_TIMEOUT_S = 20.0
WORKERS = 4
ADDRESS = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)(?:@(?P<revision>[A-Za-z0-9_.-]+))?"
    r"(?:/(?P<inside>.+))?"
)


@dataclass(frozen=True)
class Address:
    repo: str
    revision: str | None
    inside: str


def parse(uri: str) -> Address:
    match = ADDRESS.fullmatch(uri)
    if match is None:
        raise BadSource(f"{uri!r} is not hf://owner/repo[@revision][/file.gguf].")
    return Address(match["repo"], match["revision"], match["inside"] or "")


def fetch(uri: str, staging: Path, downloads: Path, report: Report) -> Fetched:
    address = parse(uri)
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "cpu", "An hf:// source") from error
    try:
        info = HfApi().model_info(
            address.repo, revision=address.revision, timeout=METADATA_TIMEOUT_S
        )
        names = _select([file.rfilename for file in info.siblings or ()], address.inside)
        report(f"downloading {len(names)} files of {address.repo} at {info.sha}")
        snapshot_download(
            address.repo,
            revision=info.sha,
            local_dir=staging,
            allow_patterns=sorted(map(_literal, names)),
            etag_timeout=METADATA_TIMEOUT_S,
            max_workers=WORKERS,
        )
    except (_network_error(HfHubHTTPError), LocalEntryNotFoundError, OSError) as error:
        raise FetchFailed(f"{uri} could not be fetched: {error}") from error
    named = getattr(info.card_data, "license", None) if info.card_data else None
    return Fetched(names, info.sha or "", (Licence("hub", str(named)),) if named else ())


def _network_error(error: type[Exception]) -> type[Exception]:
    """The base of all errors of the hub client's HTTP library, which changed over its releases."""
    return next((base for base in error.__mro__ if base.__name__ == "HTTPError"), error)


def _select(names: list[str], inside: str) -> frozenset[str]:
    """A named file with the licence, or all wanted files.

    A repository of GGUF files holds one for each quantization, so those are
    taken only by name.
    """
    if inside and inside not in names:
        raise BadSource(f"The repository has no {inside!r}.")
    if inside:
        about = {name for name in names if name.lower().startswith(("licen", "readme"))}
        return frozenset({inside} | about)
    wanted = {name for name in names if is_wanted(name) and not name.endswith(".gguf")}
    if not wanted:
        raise BadSource("The repository has no file of a model; a GGUF file has to be named.")
    return frozenset(wanted)


def _literal(name: str) -> str:
    """A glob that matches ``name`` alone."""
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
