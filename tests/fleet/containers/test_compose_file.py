"""What compose.yaml promises: hardened services, pinned images, required secrets, ports of this host only."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from django.conf import settings

from agents.models import AgentType
from fleet.containers import roles
from tests.support.paths import CHECKOUT

TEXT = (CHECKOUT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS = ("POSTGRES_PASSWORD", "POSTGRES_OWNER_PASSWORD", "REDIS_PASSWORD", "FLEET_SECRET_KEY", "FLOWER_PASSWORD")
PROFILE = json.loads((CHECKOUT / "deploy" / "seccomp.json").read_text())


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_read_only_and_without_capabilities_and_new_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert "no-new-privileges" in service["security_opt"]
    assert service["restart"] == ("on-failure" if name == "migrate" else "unless-stopped")


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in {"migrate", "proxy"}])
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_the_providers_run_the_same_images_by_default() -> None:
    assert SERVICES["postgres"]["image"] == f"${{POSTGRES_IMAGE:-{settings.POSTGRES_IMAGE}}}"
    assert SERVICES["valkey"]["image"] == f"${{VALKEY_IMAGE:-{settings.VALKEY_IMAGE}}}"


def test_the_image_is_not_run_as_root() -> None:
    assert re.search(r"^USER 10001:10001$", (CHECKOUT / "Containerfile").read_text(), re.MULTILINE)
    others = {name: service for name, service in SERVICES.items() if "FLEET_IMAGE" not in service["image"]}
    assert {name: service["user"] for name, service in others.items()} == {
        "postgres": "postgres",
        "valkey": "999",
        "proxy": "10001",
    }


def test_every_image_is_pinned_to_a_version_and_may_be_replaced() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w./-]+:\d+\.\d+[\w.-]*\}", service["image"]), service["image"]
    assert re.search(
        r"^ARG BASE_IMAGE=[\w./-]+:\d+\.\d+\.\d+[\w.-]*$", (CHECKOUT / "Containerfile").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_is_required_and_has_no_default(name: str) -> None:
    references = re.findall(rf"\$\{{{name}\b[^\n]*", TEXT)
    assert references
    required = f"${{{name}:-${{{name}_FILE:?set {name}, or {name}_FILE to a file that contains it}}}}"
    assert all(reference.startswith(required) for reference in references), references


def test_only_postgres_and_migrate_get_the_owners_password() -> None:
    holders = {name for name, service in SERVICES.items() if "POSTGRES_OWNER_PASSWORD" in service["environment"]}
    assert holders == {"postgres", "migrate"}
    mounted = {name for name, service in SERVICES.items() if "postgres_owner_password" in service.get("secrets", ())}
    assert mounted == {"postgres", "migrate"}


def test_ports_are_published_on_the_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(re.fullmatch(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+", port) for port in ports), ports


@pytest.mark.django_db
def test_each_built_in_agent_type_can_be_scaled_separately() -> None:
    for name in AgentType.objects.values_list("name", flat=True):
        assert SERVICES[f"node-{name}"]["profiles"] == [name]
        assert SERVICES[f"node-{name}"]["environment"]["FLEET_TYPES"] == name


def test_each_role_of_the_image_has_a_service() -> None:
    commands = {service["command"][0] for service in SERVICES.values() if "FLEET_IMAGE" in service["image"]}
    assert commands == set(roles.ROLES)


def test_the_sandbox_is_never_switched_off() -> None:
    files = [CHECKOUT / "compose.yaml", CHECKOUT / "Containerfile", *(CHECKOUT / "deploy").rglob("*.yaml")]
    assert not [file.name for file in files if "FLEET_SANDBOX" in file.read_text()]


def test_the_system_call_profile_adds_only_what_the_sandbox_needs() -> None:
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {
        name for rule in PROFILE["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }  # fmt: skip
    assert {"clone", "clone3", "unshare", "mount", "umount2", "pivot_root", "seccomp", "prctl"} <= allowed
    host = {
        "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "bpf",
        "perf_event_open", "add_key", "request_key", "keyctl", "io_uring_setup", "io_uring_enter", "io_uring_register",
        "setns", "open_by_handle_at", "userfaultfd", "settimeofday", "clock_settime", "iopl", "ioperm", "syslog", "acct",
        "fsopen", "fsmount", "open_tree", "move_mount", "process_vm_writev", "pidfd_getfd", "socket", "personality",
    }  # fmt: skip
    assert not allowed & host
    (vsock,) = (rule for rule in PROFILE["syscalls"] if rule["names"] == ["socket"])
    assert vsock["args"] == [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]
