"""The manifests for Kubernetes are valid, name what exists, and are rendered as docs/deploy.md says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate
import pytest
import yaml
from django.conf import settings

from fleet.containers import roles
from tests.support.paths import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "kubernetes"
VERSION = "1.33"
TYPES = ("backend", "documentation", "frontend", "performance", "security", "testing")
OUR_SECRETS = {
    "fleet": "secrets.example.env",
    "fleet-site": "secrets-site.example.env",
    "fleet-owner": "secrets-owner.example.env",
}
KEDA_FIELDS = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount", "fallback", "advanced",
    "triggers",
}  # fmt: skip

Document = dict[str, Any]


def documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def source_documents() -> Iterator[Document]:
    """Every document of the folder, before it is rendered."""
    for file in sorted(FOLDER.rglob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from documents(file.read_text())


@pytest.fixture(scope="module", params=["base", "overlays/production"])
def rendered(request: pytest.FixtureRequest) -> list[Document]:
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            result = subprocess.run([*command, str(FOLDER / request.param)], capture_output=True, text=True, timeout=60)
            assert result.returncode == 0, result.stderr
            return documents(result.stdout)
    pytest.skip("neither kustomize nor kubectl is installed")


def validate(document: Mapping[str, Any]) -> None:
    if document["apiVersion"].startswith("keda.sh/"):
        assert document["kind"] in {"ScaledObject", "TriggerAuthentication"}
        if document["kind"] == "ScaledObject":
            assert set(document["spec"]) <= KEDA_FIELDS
            for trigger in document["spec"]["triggers"]:
                assert all(isinstance(value, str) for value in trigger["metadata"].values())
    else:
        kubernetes_validate.validate(document, VERSION, strict=True)


def of_kind(rendered: list[Document], *kinds: str) -> list[Document]:
    return [document for document in rendered if document["kind"] in kinds]


def pods(rendered: list[Document]) -> Iterator[tuple[str, Document]]:
    """The templates of pods, with the names of their owners."""
    for document in of_kind(rendered, "Deployment", "Job"):
        yield document["metadata"]["name"], document["spec"]["template"]


def containers(rendered: list[Document]) -> Iterator[Document]:
    for _, pod in pods(rendered):
        yield from (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])


def names(rendered: list[Document], kind: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(rendered, kind)}


def keys(file: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", (FOLDER / file).read_text(), re.MULTILINE))


def test_every_written_document_satisfies_its_schema() -> None:
    found = list(source_documents())
    for document in found:
        validate(document)
    assert len(found) > 15


def test_an_invalid_field_is_detected() -> None:
    deployment = next(document for document in source_documents() if document["kind"] == "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        validate({**deployment, "spec": {**deployment["spec"], "replica": 2}})


def test_every_rendered_document_satisfies_its_schema_and_has_a_name_of_its_own(rendered: list[Document]) -> None:
    for document in rendered:
        validate(document)
    ids = Counter((document["kind"], document["metadata"]["name"]) for document in rendered)
    assert max(ids.values()) == 1
    outside = {document["metadata"].get("namespace") for document in rendered if document["kind"] != "Namespace"}
    assert outside == {"fleet"}


def test_there_is_a_deployment_with_a_budget_and_scaling_for_each_agent_type(rendered: list[Document]) -> None:
    nodes = {f"node-{name}" for name in TYPES}
    assert names(rendered, "Deployment") == {"web", "control", *nodes}
    assert names(rendered, "ScaledObject") == nodes
    assert names(rendered, "PodDisruptionBudget") == {"web", "control", *nodes}
    for name, pod in pods(rendered):
        if name in nodes:
            assert pod["metadata"]["labels"]["fleet/type"] == name.removeprefix("node-")
    for scaler in of_kind(rendered, "ScaledObject"):
        name = scaler["spec"]["scaleTargetRef"]["name"]
        (trigger,) = scaler["spec"]["triggers"]
        assert scaler["metadata"]["name"] == name
        assert trigger["metadata"]["valueLocation"] == f'fleet_demand{{type="{name.removeprefix("node-")}"}}'
        assert trigger["authenticationRef"]["name"] in names(rendered, "TriggerAuthentication")
    assert "fleet_demand" in (CHECKOUT / "missions" / "metrics.py").read_text()


def test_every_selector_selects_pods(rendered: list[Document]) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(rendered)]
    selectors = [document["spec"]["selector"]["matchLabels"] for document in of_kind(rendered, "PodDisruptionBudget")]
    selectors += [document["spec"]["selector"] for document in of_kind(rendered, "Service")]
    selectors += [
        document["spec"]["podSelector"].get("matchLabels", {}) for document in of_kind(rendered, "NetworkPolicy")
    ]
    for document in of_kind(rendered, "Deployment"):
        own = document["spec"]["selector"]["matchLabels"]
        selected_pods = [name for name, pod in pods(rendered) if own.items() <= pod["metadata"]["labels"].items()]
        assert selected_pods == [document["metadata"]["name"]]
    for selector in selectors:
        assert any(selector.items() <= pod.items() for pod in labels), selector


def test_every_reference_names_something_that_exists(rendered: list[Document]) -> None:
    secrets: set[str] = set()
    optional: set[str] = set()
    for _, pod in pods(rendered):
        assert pod["spec"]["serviceAccountName"] in names(rendered, "ServiceAccount")
        for volume in pod["spec"].get("volumes", ()):
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in names(rendered, "PersistentVolumeClaim")
            if secret := volume.get("secret"):
                (optional if secret.get("optional") else secrets).add(secret["secretName"])
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
    for container in containers(rendered):
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                assert source["configMapRef"]["name"] in names(rendered, "ConfigMap")
            else:
                secrets.add(source["secretRef"]["name"])
    for authentication in of_kind(rendered, "TriggerAuthentication"):
        for reference in authentication["spec"]["secretTargetRef"]:
            assert reference["key"] in keys(OUR_SECRETS[reference["name"]])
    assert secrets == set(OUR_SECRETS)
    assert optional == {"fleet-authorities"}
    services = {document["metadata"]["name"]: document["spec"]["ports"] for document in of_kind(rendered, "Service")}
    for ingress in of_kind(rendered, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]}


def test_ports_of_probes_services_and_policies_have_names_of_containers(rendered: list[Document]) -> None:
    offered_ports = {port["name"] for container in containers(rendered) for port in container.get("ports", ())}
    probed_ports = {
        container[probe]["httpGet"]["port"]
        for container in containers(rendered)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if "httpGet" in container.get(probe, {})
    }
    served_ports = {port["targetPort"] for service in of_kind(rendered, "Service") for port in service["spec"]["ports"]}
    opened = {
        port["port"]
        for policy in of_kind(rendered, "NetworkPolicy")
        for rule in policy["spec"].get("ingress", ())
        for port in rule.get("ports", ())
    }
    assert probed_ports == served_ports == opened == offered_ports == {"http"}


def test_containers_run_roles_of_the_image_and_programs_that_are_in_it(rendered: list[Document]) -> None:
    for _, pod in pods(rendered):
        for container in pod["spec"]["containers"]:
            assert container["args"] == [container["name"]]
            assert container["name"] in roles.ROLES
            for probe in ("startupProbe", "livenessProbe"):
                if command := container.get(probe, {}).get("exec", {}).get("command"):
                    *_, file, role = command
                    assert (CHECKOUT / file).is_file()
                    assert role == container["name"]


def test_every_variable_is_a_setting_with_a_row(rendered: list[Document]) -> None:
    rows = set(re.findall(r"`([A-Z_]+)`", (CHECKOUT / "docs" / "settings.md").read_text()))
    used = {name for file in OUR_SECRETS.values() for name in keys(file)}
    used |= {name for document in of_kind(rendered, "ConfigMap") for name in document["data"]}
    used |= {variable["name"] for container in containers(rendered) for variable in container.get("env", ())}
    assert used <= rows, used - rows


def test_all_containers_run_one_image_with_few_rights(rendered: list[Document]) -> None:
    assert len({container["image"] for container in containers(rendered)}) == 1
    for container in containers(rendered):
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    for name, pod in pods(rendered):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        profile = "Localhost" if name.startswith("node-") else "RuntimeDefault"
        assert pod["spec"]["securityContext"]["seccompProfile"]["type"] == profile


def test_only_the_migrations_get_the_owner_and_nodes_get_no_key_of_the_site(rendered: list[Document]) -> None:
    readers: dict[str, set[str]] = {}
    for name, pod in pods(rendered):
        for container in pod["spec"]["containers"]:
            for source in container.get("envFrom", ()):
                readers.setdefault(source.get("secretRef", {}).get("name", ""), set()).add(name)
    assert readers["fleet-owner"] == {"migrate"}
    assert readers["fleet-site"] == {"web"}


def test_a_pod_of_agents_may_end_as_slowly_as_its_sorties(rendered: list[Document]) -> None:
    nodes = [pod for name, pod in pods(rendered) if name.startswith("node-")]
    assert nodes
    for pod in nodes:
        (node,) = pod["spec"]["containers"]
        drain = node["lifecycle"]["preStop"]["exec"]["command"][-1]
        (waits_s,) = map(int, re.findall(r"timeout (\d+) ", drain))
        assert waits_s >= settings.FLEET_TIMEOUT_S, "the default timeout of a sortie"
        return_s = settings.FLEET_DRAIN_S + 2 * settings.FLEET_GRACE_S
        assert pod["spec"]["terminationGracePeriodSeconds"] >= waits_s + 2 * return_s
