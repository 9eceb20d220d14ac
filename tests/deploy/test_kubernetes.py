"""The manifests of deploy/kubernetes, held against Kubernetes' published schemas, the code and each other."""

import copy
import re
from collections.abc import ItemsView, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from models.location import location
from offline import trainer
from stream.canary.__main__ import main as canary_main
from stream.settings import Settings, variable
from stream.worker import health
from tests.docs.markdown import DOCS, anchors

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()

#: The oldest version whose fields the manifests keep to, and the newest whose schemas are at hand.
VERSIONS = ("1.31", kubernetes_validate.latest_version())

#: Variables that are not Twintide's own: of caches, and of the bucket (docs/operations.md).
OTHERS = {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def manifests() -> Iterator[dict[str, Any]]:
    for file in FILES:
        yield from yaml.safe_load_all(file.read_text())


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [each for each in manifests() if each["kind"] in kinds]


PODS = {each["metadata"]["name"]: each["spec"]["template"] for each in of_kind("StatefulSet", "Deployment")}
CONTAINERS = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}
(CONFIG,) = of_kind("ConfigMap")
(WORKER,) = of_kind("StatefulSet")


def known_variables() -> set[str]:
    """Return what docs/settings.md has, which another test holds against the code, and others."""
    return OTHERS | set(
        re.findall(r"^\| `((?:KAFKA|REDIS|TWINTIDE)_\w+)`", (DOCS / "settings.md").read_text(), re.M)
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_manifest_keeps_to_the_published_schema(file: Path, version: str) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_manifest_with_a_word_that_kubernetes_does_not_know_is_refused() -> None:
    wrong = copy.deepcopy(WORKER)
    wrong["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_variable_is_one_that_is_read_and_the_values_are_allowed() -> None:
    names = [each["name"] for container in CONTAINERS.values() for each in container["env"]]
    assert {*names, *CONFIG["data"]} <= known_variables()
    own = {name: value for name, value in CONFIG["data"].items() if name not in OTHERS}
    settings = Settings.from_environment({**own, "TWINTIDE_INSTANCE_ID": "twintide-worker-0"})
    assert settings.artifact == location(CONFIG["data"]["TWINTIDE_ARTIFACT"])
    assert variable("instance_id") in names


def test_what_is_secret_comes_from_the_secret_alone() -> None:
    for container in CONTAINERS.values():
        assert container["envFrom"] == [
            {"configMapRef": {"name": "twintide"}},
            {"secretRef": {"name": "twintide"}},
        ]
    assert not [name for name in CONFIG["data"] if re.search(r"URL|PASSWORD|USERNAME|SECRET|KEY", name)]
    assert not of_kind("Secret")
    named = set(re.findall(r"--from-literal=(\w+)=", (DOCS / "operations.md").read_text()))
    assert named >= {"REDIS_URL"}
    assert named <= known_variables()


@pytest.mark.parametrize("name", PODS)
def test_pod_is_told_nothing_by_kubernetes_and_may_do_nothing_that_it_need_not(name: str) -> None:
    pod, container = PODS[name]["spec"], CONTAINERS[name]
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    user = re.search(r"--uid (\d+)", DOCKERFILE)
    assert user and pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(user[1])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}
    writable = [mount["mountPath"] for mount in container["volumeMounts"]]
    paths = [each["value"] for each in container["env"] if each.get("value", "").startswith("/")]
    assert paths and all(path.startswith(tuple(writable)) for path in paths)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    claims = WORKER["spec"]["volumeClaimTemplates"] if name == "twintide-worker" else []
    assert mounted == {each["name"] for each in pod["volumes"]} | {
        each["metadata"]["name"] for each in claims
    }


def test_probes_ask_where_there_is_an_answer() -> None:
    ports = {
        "twintide-worker": Settings().metrics_port,
        "twintide-trainer": next(each.default for each in trainer.main.params if each.name == "metrics_port"),
        "twintide-canary": next(each.default for each in canary_main.params if each.name == "metrics_port"),
        "twintide-serving": Settings().serving_port,
    }
    texts = Path(health.__file__).read_text() + (ROOT / "stream" / "serving" / "api.py").read_text()
    answered = set(re.findall(r'"(/[\w/]+)"', texts))
    assert ports.keys() == CONTAINERS.keys()
    for name, container in CONTAINERS.items():
        is_api = name == "twintide-serving"
        port_name = "http" if is_api else "metrics"
        assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [
            (port_name, ports[name])
        ]
        probes = {key: each["httpGet"] for key, each in container.items() if key.endswith("Probe")}
        assert {"startupProbe", "livenessProbe"} <= probes.keys()
        assert all(each["port"] == port_name and each["path"] in answered for each in probes.values())
        assert probes["livenessProbe"]["path"] == ("/health/live" if is_api else "/metrics")
    assert CONTAINERS["twintide-worker"]["readinessProbe"]["httpGet"]["path"] == "/health"
    assert CONFIG["data"]["TWINTIDE_METRICS_PORT"] == str(ports["twintide-worker"])
    (policy,) = of_kind("NetworkPolicy")
    (scraped,) = policy["spec"]["ingress"][0]["ports"]
    assert all(scraped["port"] <= port <= scraped["endPort"] for port in ports.values())


def service_of(name: str) -> dict[str, Any]:
    (found,) = (each for each in of_kind("Service") if each["spec"]["selector"].items() <= labels_of(name))
    return found


def labels_of(name: str) -> ItemsView[str, str]:
    labels: dict[str, str] = PODS[name]["metadata"]["labels"]
    return labels.items()


def test_worker_is_a_static_member_with_a_volume_that_outlives_its_pod() -> None:
    env = {each["name"]: each for each in CONTAINERS["twintide-worker"]["env"]}
    assert env["TWINTIDE_INSTANCE_ID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert env["TWINTIDE_DATA_DIR"]["value"].startswith("/state/")
    assert [each["metadata"]["name"] for each in WORKER["spec"]["volumeClaimTemplates"]] == ["state"]
    service = service_of("twintide-worker")
    assert WORKER["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert WORKER["spec"]["replicas"] <= int(CONFIG["data"]["TWINTIDE_PARTITIONS"])


def test_selectors_find_their_pods() -> None:
    for each in of_kind("StatefulSet", "Deployment"):
        labels = PODS[each["metadata"]["name"]]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for budget in of_kind("PodDisruptionBudget"):
        labels = PODS[budget["metadata"]["name"]]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for name in ("twintide-worker", "twintide-serving"):
        selected = service_of(name)["spec"]["selector"]
        assert selected.items() <= PODS[name]["metadata"]["labels"].items()
    (policy,) = of_kind("NetworkPolicy")
    for pod in PODS.values():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_commands_are_those_of_compose_and_pages_that_comments_name_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert CONTAINERS["twintide-worker"]["command"] == compose["worker"]["command"]
    assert CONTAINERS["twintide-trainer"]["command"] == compose["retrainer"]["command"]
    assert CONTAINERS["twintide-serving"]["command"] == compose["serving"]["command"]
    command = CONTAINERS["twintide-canary"]["command"]
    assert command[:3] == compose["canary"]["command"][:3]
    parser = canary_main.make_parser(canary_main.make_context("canary", []))
    assert parser.parse_args(list(command[3:]))[1] == []
    for file in FILES:
        for page, anchor in re.findall(r"docs/(\w+\.md)#([\w-]+)", file.read_text()):
            assert anchor in anchors(DOCS / page), (file.name, anchor)
