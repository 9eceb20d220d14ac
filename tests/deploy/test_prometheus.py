"""Alerts and dashboard by promtool: queries parse; alerts fire when they should, and only then."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on the PATH (it comes with Prometheus)"
)

#: 99 % within 0.2 s, and 10 % above half a second, as a histogram grows by the minute.
FAST = {"0.1": "0+90x3000", "0.2": "0+100x3000", "0.5": "0+100x3000", "1": "0+100x3000", "+Inf": "0+100x3000"}
SLOW = {"0.1": "0+50x3000", "0.2": "0+70x3000", "0.5": "0+90x3000", "1": "0+100x3000", "+Inf": "0+100x3000"}


@dataclass(frozen=True)
class Situation:
    """What is scraped, once a minute, and whether an alert fires then."""

    alert: str
    series: Mapping[str, str]
    at: str
    fires: bool


def histogram(name: str, buckets: Mapping[str, str], labels: str = "") -> dict[str, str]:
    return {f'{name}_bucket{{{labels}le="{bound}"}}': values for bound, values in buckets.items()}


def both(alert: str, bad: Mapping[str, str], good: Mapping[str, str], at: str = "20m") -> list[Situation]:
    return [Situation(alert, bad, at, fires=True), Situation(alert, good, at, fires=False)]


def counter(alert: str, series: str, bad: str, good: str = "3x60") -> list[Situation]:
    return both(alert, {series: bad}, {series: good})


UP = 'up{job="twintide-worker",instance="a"}'
AGE, LAG = 'twintide_commit_age_seconds{instance="a"}', 'twintide_consumer_lag_events{instance="a"}'
PUBLISHED, BEHIND = "twintide_items_published_timestamp_seconds", "twintide_items_lag_events"
LEFT, RESTORED = "twintide_recovery_remaining", "twintide_recovery_records_total"
MODELS = ('twintide_model_info{version="x",instance="a"}', 'twintide_model_info{version="y",instance="b"}')
FRESHNESS, CANARY = "twintide_event_to_vector_seconds", "twintide_canary_seconds"
FAILED = 'twintide_serving_requests_total{path="/rank",status="503"}'
SERVED = 'twintide_serving_requests_total{path="/rank",status="200"}'
RANKED = "twintide_serving_seconds"
FAST_RANK = {"0.05": "0+99x3000", **dict.fromkeys(("0.1", "+Inf"), "0+100x3000")}
STALE, OWN = (f'twintide_serving_users_total{{reason="{reason}"}}' for reason in ("stale", "own"))
#: A day like FAST, and since then more slow ones than fast ones.
DRIFTS = {
    "0.1": "0+90x1439 129600+20x300",
    "0.2": "0+100x1439 144000+40x300",
    **dict.fromkeys(("0.5", "1", "+Inf"), "0+100x1439 144000+100x300"),
}

SITUATIONS = [
    *counter("NoWorker", UP, "0x60", "1x60"),
    Situation("WorkerDown", {UP: "1x10 0x60"}, "20m", fires=True),
    Situation("WorkerDown", {UP: "1x10 0x60"}, "12m", fires=False),
    *both("VectorsStale", histogram(FRESHNESS, SLOW), histogram(FRESHNESS, FAST)),
    *both("FreshnessDrifts", histogram(FRESHNESS, DRIFTS), histogram(FRESHNESS, SLOW), "27h"),
    *both("NothingCommitted", {AGE: "0+60x60", LAG: "5x60"}, {AGE: "0+60x60", LAG: "0x60"}),
    *counter("EventsOvertaken", 'twintide_overtaken_events_total{partition="1"}', "0x15 7x60", "7x60"),
    *counter("LagGrows", LAG, "20000+100x60", "30000-100x60"),
    *both("RecoveryStuck", {LEFT: "9x60", RESTORED: "5x60"}, {LEFT: "9x60", RESTORED: "5+9x60"}),
    *counter("RebalancesRepeat", "twintide_rebalances_total", "0+2x60", "0x9 1x60"),
    *counter("EventsUnreadable", 'twintide_dlq_total{reason="key"}', "0x15 1x60"),
    *[
        Situation("ModelsMixed", dict.fromkeys(MODELS[:models], "1x90"), "45m", fires=models > 1)
        for models in (1, 2)
    ],
    *counter("PublicationUnknown", "twintide_publication_failures_total", "0+9x60"),
    *counter("ModelRefused", 'twintide_model_changes_total{step="refused"}', "0x15 1x60"),
    *counter("NoTrainer", "twintide_trainer_leads", "0x60", "1x60"),
    *counter("TrainingFails", 'twintide_trainer_steps_total{result="failed"}', "0+1x60", "0x9 1x60"),
    *counter("TrainingRefused", 'twintide_trainer_steps_total{result="refused"}', "0x15 1x60"),
    *counter("ModelOld", "twintide_trainer_unlearned_seconds", "90000x60", "80000x60"),
    *counter("CanaryLost", 'twintide_canary_events_total{partition="1",result="lost"}', "0x17 1x60"),
    *both("CanarySlow", histogram(CANARY, SLOW), histogram(CANARY, FAST)),
    *counter("PartitionsUnread", "twintide_unread_partitions", "2x60", "0x60"),
    *counter("SchemaRegistryDown", "twintide_schema_registry_down", "1x60", "0x60"),
    *counter("RedisRefuses", "twintide_redis_refuses", "1x60", "0x60"),
    *counter("ForeignKeys", 'twintide_upserts_total{result="foreign"}', "0x15 1x60"),
    *counter("RightsLost", "twintide_not_allowed", "1x60", "0x60"),
    *counter("NoItemLearner", "twintide_items_leads", "0x60", "1x60"),
    *both("ItemsStale", {PUBLISHED: "0x60", BEHIND: "5x60"}, {PUBLISHED: "0+60x60", BEHIND: "5x60"}),
    *both("ServingFails", {FAILED: "0+2x60", SERVED: "0+98x60"}, {FAILED: "0+1x60", SERVED: "0+999x60"}),
    *both(
        "ServingSlow",
        histogram(RANKED, SLOW, 'path="/rank",'),
        histogram(RANKED, FAST_RANK, 'path="/rank",'),
        "20m",
    ),
    *both("ServingStale", {STALE: "0+6x60", OWN: "0+4x60"}, {STALE: "0+4x60", OWN: "0+6x60"}, "25m"),
    *counter("ItemsNotSane", 'twintide_items_sane{version="v1"}', "0x60", "1x60"),
]


def promtool(*arguments: str) -> str:
    """Return what promtool complains about, empty where it does not."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr if done.returncode else ""


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool_test(situation: Situation) -> str:
    """Return a file of promtool's."""
    firing = f'count(ALERTS{{alertname="{situation.alert}",alertstate="firing"}})'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in situation.series.items()],
        "promql_expr_test": [
            {
                "expr": f"{firing} > bool 0",
                "eval_time": situation.at,
                "exp_samples": [{"labels": "{}", "value": 1}] if situation.fires else [],
            }
        ],
    }
    rules = str(DEPLOY / "alerts.yml")
    return yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]})


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    shown = {(each.alert, each.fires) for each in SITUATIONS}
    assert shown == {(rule["alert"], fires) for rule in alerts() for fires in (True, False)}
    for number, situation in enumerate(SITUATIONS):
        (tmp_path / f"{number}.yml").write_text(promtool_test(situation))
    assert promtool("test", "rules", *map(str, tmp_path.glob("*.yml"))) == ""


def test_alert_that_does_not_fire_and_one_that_should_not_are_noticed(tmp_path: Path) -> None:
    for situation in SITUATIONS[:2]:
        (tmp_path / "wrong.yml").write_text(promtool_test(replace(situation, fires=not situation.fires)))
        assert "FAILED" in promtool("test", "rules", str(tmp_path / "wrong.yml"))


def test_every_query_of_the_dashboard_parses(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "twintide.json").read_text())
    queries = [
        re.sub(r"\$__(rate_)?interval", "1m", target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(queries) > 30
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert promtool("check", "rules", str(tmp_path / "rules.yml")) == ""
