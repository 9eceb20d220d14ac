"""What the deployment files say, held against the code and each other; no Docker engine runs here."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import REGISTRY

import stream.metrics  # registers every metric
from offline import trainer
from offline.continual import metrics as trainer_metrics
from stream.canary import metrics as canary_metrics
from stream.canary.__main__ import main as canary_main
from stream.items import metrics as items_metrics
from stream.items.__main__ import main as items_main
from stream.serving import metrics as serving_metrics
from stream.settings import Settings, variable

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
ONE_SHOT = {"trainer", "replay"}

#: The part of the compose specification that our file uses.
TOP_LEVEL = {"name", "services", "volumes"}
SERVICE_KEYS = {
    "image", "build", "command", "environment", "volumes", "ports", "expose", "healthcheck", "depends_on",
    "restart", "profiles", "stop_grace_period",
}  # fmt: skip
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period", "disable"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
SUFFIXES = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_sum", "_count"],
    "gauge": [""],
    "info": ["_info"],
}


def metric_series() -> dict[str, set[str]]:
    """Return every metric of ours with the names of its series."""
    assert stream.metrics is not None
    return {
        family.name: {family.name + suffix for suffix in SUFFIXES[family.type]}
        for registry in (
            REGISTRY,
            *(
                module.REGISTRY
                for module in (trainer_metrics, canary_metrics, items_metrics, serving_metrics)
            ),
        )
        for family in registry.collect()
        if family.name.startswith("twintide_")
    }


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/twintide.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names_in(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(r"twintide_\w+", expression)}


def panel_names() -> set[str]:
    return names_in([target["expr"] for panel in panels() for target in panel["targets"]])


def test_compose_keeps_to_the_specification() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} <= TOP_LEVEL
    for name, service in SERVICES.items():
        assert service.keys() <= SERVICE_KEYS, name
        assert service.keys() & {"image", "build"}, name
        assert service.get("healthcheck", {}).keys() <= HEALTHCHECK_KEYS, name
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        assert all(isinstance(word, str) for word in service.get("command", [])), name


def test_compose_has_every_service_of_the_design() -> None:
    expected = {
        "kafka",
        "redis",
        "trainer",
        "retrainer",
        "worker",
        "items",
        "serving",
        "replay",
        "canary",
        "prometheus",
        "grafana",
    }
    assert SERVICES.keys() == expected
    assert [SERVICES[name]["profiles"] for name in ("replay", "canary")] == [["replay"], ["canary"]]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert name in OURS or re.fullmatch(r"[\w./-]+:v?\d+[\w.]*", image), image


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_every_long_running_service_has_a_healthcheck(name: str) -> None:
    own = SERVICES[name].get("healthcheck", {})
    assert "test" in own or (name in OURS and "HEALTHCHECK" in DOCKERFILE and not own)


def test_dependencies_exist_and_can_meet_their_condition() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            wanted = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how["condition"] == wanted


def test_volumes_are_declared_and_mounted_files_exist() -> None:
    used = set()
    for service in SERVICES.values():
        for source, *_ in (volume.split(":") for volume in service.get("volumes", []) if ":" in volume):
            if source.startswith("."):
                assert (ROOT / source).exists(), source
            else:
                used.add(source)
    assert used == COMPOSE["volumes"].keys()


def test_ports_are_published_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


def test_worker_can_be_scaled() -> None:
    worker = SERVICES["worker"]
    assert "ports" not in worker and "container_name" not in worker
    data_directory = re.search(r"TWINTIDE_DATA_DIR=(\S+)", DOCKERFILE)
    assert data_directory is not None
    assert data_directory[1] in worker["volumes"]  # anonymous, so one per container


def test_metrics_port_is_the_same_everywhere() -> None:
    port = str(Settings().metrics_port)
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]
    assert str(scrape["dns_sd_configs"][0]["port"]) == port
    assert scrape["dns_sd_configs"][0]["names"] == ["worker"]
    assert SERVICES["worker"]["expose"] == [port]
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f"TWINTIDE_METRICS_PORT={port}\n" in DOCKERFILE
    assert f"http://127.0.0.1:{port}/health" in DOCKERFILE


@pytest.mark.parametrize(
    ("name", "command"), [("retrainer", trainer.main), ("canary", canary_main), ("items", items_main)]
)
def test_what_is_no_worker_is_scraped_where_it_answers(name: str, command: click.Command) -> None:
    port = next(option.default for option in command.params if option.name == "metrics_port")
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = (job["dns_sd_configs"][0] for job in jobs if job["dns_sd_configs"][0]["names"] == [name])
    assert found["port"] == port
    assert SERVICES[name]["expose"] == [str(port)]
    assert f":{port}/metrics" in SERVICES[name]["healthcheck"]["test"][-1]


def test_serving_api_is_scraped_asked_and_published_where_it_answers() -> None:
    port = Settings().serving_port
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = (job["dns_sd_configs"][0] for job in jobs if job["dns_sd_configs"][0]["names"] == ["serving"])
    serving = SERVICES["serving"]
    assert (found["port"], serving["expose"]) == (port, [str(port)])
    assert serving["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}/health/ready" in serving["healthcheck"]["test"][-1]
    assert serving["environment"]["TWINTIDE_SERVING_HOST"] == "0.0.0.0"


def test_services_are_reached_where_they_listen() -> None:
    kafka, worker = SERVICES["kafka"]["environment"], SERVICES["worker"]["environment"]
    assert f"INTERNAL://{worker['KAFKA_BOOTSTRAP_SERVERS']}," in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert worker["REDIS_URL"].startswith("redis://redis:6379/")
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert "127.0.0.1:9090:9090" in SERVICES["prometheus"]["ports"]


def test_grafana_finds_dashboards_and_data_source() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/twintide.yml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert f"./deploy/grafana/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = source["datasources"][0]["uid"]
    assert {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]} == {uid}


def test_every_twintide_variable_is_a_setting() -> None:
    text = DOCKERFILE + (ROOT / "docker-compose.yml").read_text()
    known = {variable(name) for name in Settings.__dataclass_fields__}
    assert set(re.findall(r"TWINTIDE_\w+", text)) <= known


def test_dockerfile_copies_what_exists_and_ignores_nothing_of_it() -> None:
    sources = [word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.M) for word in line.split()]
    assert {"models/", "offline/", "replay/", "stream/"} <= set(sources)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in kept
    assert "\nUSER twintide\n" in DOCKERFILE


def test_the_image_is_built_with_the_loops_that_every_event_passes_compiled() -> None:
    after_user = DOCKERFILE.partition("\nUSER twintide\n")[2]  # whose cache it is
    found = re.search(r"^RUN PYTHONPATH=/app python -m (\S+)$", after_user, re.M)
    assert found is not None
    assert importlib.util.find_spec(found[1]) is not None


def test_every_package_of_the_project_is_in_the_image() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.search(r"^include = \[(.+)\]$", project, re.M)
    assert packages is not None
    names = set(re.findall(r'"(\w+)\*"', packages[1])) - {"local"}  # local is ./run's
    assert names >= {"models", "stream"}
    assert all(f"COPY {name}/ {name}/\n" in DOCKERFILE for name in names)


def test_faust_is_started_with_our_app() -> None:
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert "faust" in scripts
    assert SERVICES["worker"]["command"][:4] == ["faust", "-A", "stream.app", "worker"]
    assert '"faust", "-A", "stream.app", "worker"' in DOCKERFILE
    assert importlib.util.find_spec("stream.app") is not None


def commands() -> list[tuple[str, list[str]]]:
    """Return the modules that compose and train.sh run, with the options they are given."""
    script = (DEPLOY / "train.sh").read_text()
    lines = [line.split() for line in re.findall(r"python -m (.+)$", script, re.M)]
    lines += [SERVICES[name]["command"][2:] for name in ("replay", "retrainer", "canary")]
    return [(module, [word for word in words if word.startswith("--")]) for module, *words in lines]


@pytest.mark.parametrize(("module", "options"), commands())
def test_commands_have_the_options_they_are_given(module: str, options: list[str]) -> None:
    shown = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert shown.returncode == 0, shown.stderr
    assert options
    assert all(re.search(rf"{option}\b", shown.stdout) for option in options)


def test_every_metric_has_a_panel() -> None:
    assert len(metric_series()) >= 16
    shown = panel_names()
    assert [name for name, series in metric_series().items() if not series & shown] == []


def test_panels_and_alerts_name_only_metrics_that_exist() -> None:
    series = set().union(*metric_series().values())
    assert panel_names() <= series
    assert names_in([rule["expr"] for rule in rules()]) <= series


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("what", [("config", "prometheus.yml"), ("rules", "alerts.yml")])
def test_promtool_accepts(what: tuple[str, str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH (it comes with Prometheus)")
    kind, file = what
    checked = subprocess.run([promtool, "check", kind, str(DEPLOY / file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
