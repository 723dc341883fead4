"""Kubernetes manifests: right by the API's schema, confined, and checked by inference."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

FOLDER = Path(__file__).parents[2] / "docker" / "kubernetes"
BASE = [file for file in sorted((FOLDER / "base").glob("*.yaml")) if file.name != "kustomization.yaml"]
BUILDS = sorted(file.parent.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("kustomization.yaml"))
APPLIED = [name for name in BUILDS if not name.startswith("components/")]
VERSION = "1.31"
PROBE = ["python", "-m", "vdeploy.triton.probe", "localhost:8001"]


def validate(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


def kserve_pod() -> dict[str, Any]:
    service = yaml.safe_load((FOLDER / "kserve" / "inference-service.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = dict(service["spec"]["predictor"])
    assert predictor.pop("minReplicas") <= predictor.pop("maxReplicas")
    return predictor


def autoscaler(folder: str) -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / folder / "autoscaler.yaml").read_text())
    validate(document)
    return dict(document["spec"])


def base_pod() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "base" / "deployment.yaml").read_text())["spec"]["template"]["spec"])


def built(name: str) -> Iterator[dict[str, Any]]:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([program, "kustomize", FOLDER / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield from yaml.safe_load_all(done.stdout)


@pytest.mark.parametrize("file", BASE, ids=lambda file: file.name)
def test_a_manifest_is_valid(file):
    for document in yaml.safe_load_all(file.read_text()):
        validate(document)


def test_a_misspelt_field_is_found():
    document = yaml.safe_load((FOLDER / "base" / "disruption.yaml").read_text())
    document["spec"]["minAvailabel"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document)


def test_kserves_predictor_is_a_valid_pod():
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kserve"}, "spec": kserve_pod()})


@pytest.mark.parametrize("name", APPLIED)
def test_what_kustomize_builds_is_valid(name):
    documents = list(built(name))
    for document in documents:
        validate(document)
    images = re.findall(r"'image': '([^']+)'", str(documents))
    assert images
    assert all(re.search(r":\d[\w.-]*$", image) for image in images)


@pytest.mark.parametrize("pod", [base_pod, kserve_pod])
def test_a_pod_is_confined_and_ready_when_it_infers(pod):
    spec = pod()
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["exec"]["command"] == PROBE
    assert container["startupProbe"]["exec"]["command"] == PROBE
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert "memory" in container["resources"]["limits"]
    assert "--threads=$(CPUS)" in container["args"]


def test_the_policies_and_the_scaling_are_about_the_deployment():
    labels = {"app.kubernetes.io/name": "vdeploy-triton"}
    documents = {document["kind"]: document for document in built("base")}
    deployment = documents["Deployment"]
    scaling = documents["HorizontalPodAutoscaler"]["spec"]
    assert scaling["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "an apply would undo the scaling"
    assert documents["PodDisruptionBudget"]["spec"]["minAvailable"] < scaling["minReplicas"], "no node can be drained"
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert deployment["spec"]["template"]["metadata"]["labels"].items() >= labels.items()
    assert documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert documents["Service"]["spec"]["selector"] == labels
    ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in documents["Service"]["spec"]["ports"]} == ports


def test_kserve_scales_by_the_queue_time_that_the_deployment_scales_by():
    service = yaml.safe_load((FOLDER / "kserve" / "inference-service.yaml").read_text())
    kserve, base = autoscaler("kserve"), autoscaler("base")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external", "KServe's is by CPU"
    assert kserve["scaleTargetRef"]["name"] == f"{service['metadata']['name']}-predictor"
    assert kserve["minReplicas"] == service["spec"]["predictor"]["minReplicas"]
    assert kserve["maxReplicas"] == service["spec"]["predictor"]["maxReplicas"]
    assert kserve["metrics"] == base["metrics"]
    assert kserve["metrics"][0]["pods"]["metric"]["name"] == "triton_queue_seconds"


def test_the_gpu_overlay_asks_for_a_gpu_and_places_the_stages_on_it():
    deployment = next(document for document in built("overlays/gpu") if document["kind"] == "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0, "needs a GPU that is free"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--gpus=0" in container["args"]


def test_the_s3_overlay_reads_no_volume_and_may_reach_the_bucket():
    documents = {document["kind"]: document for document in built("overlays/s3")}
    assert "PersistentVolumeClaim" not in documents
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][-1] == "tritonserver"
    names = [volume["name"] for volume in pod["volumes"]]
    assert sorted(names) == sorted(mount["name"] for mount in container["volumeMounts"])
    assert "bundles" not in names
    ports = [port["port"] for rule in documents["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]]
    assert 443 in ports
