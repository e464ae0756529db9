"""docs/operations/kubernetes.yaml: what it says fits what pixie does, and what the image is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pixie_proxy.config import Settings, load_settings
from tests.support.container import ROOT
from tests.support.proxy import run_proxy
from tests.support.upstream import ScriptedUpstream

MANIFESTS = {
    each["kind"]: each
    for each in yaml.safe_load_all((ROOT / "docs" / "operations" / "kubernetes.yaml").read_text())
}
REPLICAS = MANIFESTS["StatefulSet"]["spec"]
POD = REPLICAS["template"]["spec"]
(PIXIE,) = POD["containers"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def secret(environment: dict[str, Any]) -> str:
    """Give the key in the secret that a variable comes from."""
    return str(environment["valueFrom"]["secretKeyRef"]["key"])


def settings() -> Settings:
    """Load the settings of a replica: its image's variables, and those of the manifest."""
    image = dict(re.findall(r"^\s+(PIXIE_\w+)=(\S+?)(?: \\)?$", DOCKERFILE, re.MULTILINE))
    given = {each["name"]: each.get("value") or f"secret-{secret(each)}" for each in PIXIE["env"]}
    assert image
    # What Kubernetes itself adds for a Service of this name is no setting.
    links = {"PIXIE_SERVICE_HOST": "10.0.0.1", "PIXIE_PORT": "tcp://10.0.0.1:80"}
    return load_settings(environ={**image, **links, **given}, looks_here=False)


def test_the_settings_are_those_of_several_hosts() -> None:
    """Every name is a setting; index and storage are shared; what is secret stands in the secret alone."""
    found = settings()
    assert found.index.url is not None
    assert found.index.url.get_secret_value().startswith("postgresql://")
    assert (found.storage.kind, found.storage.s3.access_key_id) == ("s3", "secret-s3-access-key-id")
    assert found.upstream.api_key is not None
    assert found.upstream.api_key.get_secret_value() == "secret-openai-api-key"
    hidden = {each["name"] for each in PIXIE["env"] if "value" not in each}
    assert hidden == {
        "OPENAI_API_KEY",
        "PIXIE_ADMIN_KEY",
        "PGPASSWORD",
        "PIXIE_STORAGE__S3__ACCESS_KEY_ID",
        "PIXIE_STORAGE__S3__SECRET_ACCESS_KEY",
    }


def test_each_replica_has_a_spool_of_its_own() -> None:
    """On a volume claim at the data directory, which is kept when the replica goes."""
    mounts = {each["mountPath"]: each["name"] for each in PIXIE["volumeMounts"]}
    (claim,) = REPLICAS["volumeClaimTemplates"]
    assert mounts == {str(settings().server.data_dir): claim["metadata"]["name"], "/tmp": "tmp"}
    assert set(REPLICAS["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert REPLICAS["replicas"] == 2


def test_there_is_time_to_end_what_is_paid_for() -> None:
    """Kubernetes counts preStop into the grace period; the drain needs all of the rest."""
    program, seconds = PIXIE["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert POD["terminationGracePeriodSeconds"] >= int(seconds) + settings().server.drain_s + 30
    probe = PIXIE["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= int(seconds)


def test_it_runs_as_the_images_user_with_no_right_more() -> None:
    """And as nobody else: the numbers are those of the Dockerfile, on which the volume's owner depends."""
    user, group = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[-1]
    given, confined = POD["securityContext"], PIXIE["securityContext"]
    assert given["runAsNonRoot"] is True
    assert (given["runAsUser"], given["runAsGroup"], given["fsGroup"]) == (int(user), int(group), int(group))
    assert (confined["readOnlyRootFilesystem"], confined["allowPrivilegeEscalation"]) == (True, False)
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert POD["automountServiceAccountToken"] is False


def test_names_and_ports_lead_from_one_to_the_next() -> None:
    """From the Service to the port that the image listens on; the selectors find the pods."""
    labels = REPLICAS["template"]["metadata"]["labels"]
    service, budget = MANIFESTS["Service"], MANIFESTS["PodDisruptionBudget"]["spec"]
    assert [each["containerPort"] for each in PIXIE["ports"]] == [settings().server.port]
    assert f"EXPOSE {settings().server.port}\n" in DOCKERFILE
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [PIXIE["ports"][0]["name"]]
    assert REPLICAS["serviceName"] == service["metadata"]["name"]
    assert labels == service["spec"]["selector"]
    assert labels == REPLICAS["selector"]["matchLabels"] == budget["selector"]["matchLabels"]
    assert (budget["maxUnavailable"], service["spec"]["type"]) == (1, "ClusterIP")
    assert set(MANIFESTS) == {"StatefulSet", "Service", "PodDisruptionBudget"}


async def test_the_probes_are_answered_without_a_key(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """By whatever name they ask for us: a probe asks for the pod's address."""
    async with run_proxy(tmp_path / "data", upstream.base_url) as proxy:
        for name, path in (("startup", "healthz"), ("liveness", "healthz"), ("readiness", "readyz")):
            asked = PIXIE[f"{name}Probe"]["httpGet"]
            assert asked == {"path": f"/{path}", "port": PIXIE["ports"][0]["name"]}
            status, _, _ = await proxy.request(
                "GET", asked["path"], key=None, headers={"Host": "10.1.2.3:8080"}
            )
            assert status == 200
