"""The numbers themselves, and that the docs, the dashboard and the alert rules speak of numbers that exist."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram

from pixie_proxy.errors import ProxyError
from pixie_proxy.metrics import Histogram, Metrics
from pixie_proxy.web.exposition import OneProcess, render
from tests.conftest import require
from tests.support.calls import a_call, an_end
from tests.support.scraping import parse

OPERATIONS = Path(__file__).parents[1] / "docs" / "operations"
ALERTS = OPERATIONS / "alerts.yaml"


def filled() -> Metrics:
    """Metrics in which every series has been touched."""
    metrics = Metrics(["gpt-image-2"])
    metrics.requests.add("/", "ok", "")
    metrics.request_bytes.add("/")
    metrics.response_bytes.add("/")
    metrics.upstream_bytes.add("gpt-image-2")
    metrics.request_duration.observe(0.1, "/")
    metrics.first_byte.observe(0.1, "gpt-image-2")
    metrics.upstream_duration.observe(0.1, "gpt-image-2", "ok")
    metrics.upstream_first_byte.observe(0.1, "gpt-image-2")
    metrics.call_ended(a_call(), an_end(a_call()))
    return metrics


def exposed() -> set[str]:
    """All names of samples that can be in a scrape."""
    return {name for name, _ in parse(render(OneProcess(filled()), "")[0].decode()).samples}


def asked_for(expression: str) -> set[str]:
    """The names of metrics in an expression of PromQL."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    return set(re.findall(r"\b(?:pixie|process)_\w+", re.sub(r"\bby \([^)]*\)", "", bare)))


def alerts() -> list[dict[str, str]]:
    rules = yaml.safe_load(ALERTS.read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_every_metric_is_described_and_no_other() -> None:
    """docs/operations.md has a row for each, with the labels that it has."""
    page = OPERATIONS.with_suffix(".md").read_text()
    rows = re.findall(r"^\| `(pixie_\w+)` \| (.*?) \|", page, re.MULTILINE)
    described = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    real: dict[str, set[str]] = {}
    for name, labels in parse(render(OneProcess(filled()), "")[0].decode()).samples:
        if name.startswith("pixie_"):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            real.setdefault(family, set()).update(dict(labels).keys() - {"le"})
    assert described == real


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    """Each panel of the dashboard has expressions, and each name in them is real; none of our metrics is left out."""
    board = json.loads((OPERATIONS / "grafana-dashboard.json").read_text())
    names: set[str] = set()
    for panel in board["panels"]:
        expressions = [target["expr"] for target in panel["targets"]]
        assert all(expressions), panel["title"]
        names |= set().union(*map(asked_for, expressions))
    assert names - exposed() == set()
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed()}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert {name for name in families - shown if name.startswith("pixie_")} == set()


def test_the_alerts_ask_for_metrics_that_exist() -> None:
    """Each rule asks for something real and says what to do; labels have values that can be."""
    for rule in alerts():
        names = asked_for(rule["expr"])
        assert names - exposed() == set(), rule["alert"]
        assert names or "up{" in rule["expr"]
        assert set(rule["annotations"]) == {"summary", "description"}
    codes = {reason for (reason,) in [*_reasons("pixie_refusals_total"), *_reasons("pixie_failures_total")]}
    for reasons in re.findall(r'reason=~?"([^"]+)"', ALERTS.read_text()):
        assert set(reasons.split("|")) - codes == set()


def _reasons(name: str) -> set[tuple[str, ...]]:
    samples = parse(render(Metrics(), "")[0].decode()).samples
    return {tuple(dict(labels).values()) for found, labels in samples if found == name}


def test_an_alert_is_there_for_hours_without_an_image() -> None:
    """A gallery once stood still for 13 days before anybody saw it."""
    (rule,) = [rule for rule in alerts() if rule["alert"] == "PixieNoImages"]
    assert "sum(increase(pixie_images_kept_total[24h])) == 0" in rule["expr"]


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    """Its own checker reads them; silence of a day is an alert, and neither an image nor a new proxy is."""
    promtool = require("promtool")
    subprocess.run([promtool, "check", "rules", str(ALERTS)], check=True, capture_output=True)
    series = 'pixie_images_kept_total{instance="a",job="pixie",model="gpt-image-2"}'
    fired = {
        "exp_labels": {"severity": "critical"},
        "exp_annotations": next(rule["annotations"] for rule in alerts() if rule["alert"] == "PixieNoImages"),
    }

    def case(values: str, hours: int, *expected: object) -> object:
        wanted = {"eval_time": f"{hours}h", "alertname": "PixieNoImages", "exp_alerts": list(expected)}
        return {
            "interval": "5m",
            "input_series": [{"series": series, "values": values}],
            "alert_rule_test": [wanted],
        }

    tests = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "5m",
        "tests": [
            case("0x400", 30, fired),
            case("0x100 1x300", 30),  # the very first image, after 8 hours
            case("7x400", 30, fired),
            case("0x200", 6),  # new
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_no_fault_in_the_names() -> None:
    """Units, suffixes and help as its conventions want them."""
    promtool = require("promtool")
    text = render(OneProcess(filled()), "")[0]
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_histogram_counts_as_prometheus_own() -> None:
    """For random values and those on the bounds: the same text."""
    bounds = (0.1, 0.5, 1.0, 2.5)
    ours = Histogram("h_seconds", "what", bounds, "x")
    registry = CollectorRegistry()
    theirs = TheirHistogram("h_seconds", "what", ["x"], buckets=bounds, registry=registry)
    rng = random.Random(7)
    for value in [*bounds, 0.0, 99.0, *[rng.uniform(0, 3) for _ in range(200)]]:
        ours.observe(value, "y")
        theirs.labels("y").observe(value)
    wanted = {line for line in generate_latest(registry).decode().splitlines() if "_created" not in line}

    class Only:
        def collect(self) -> list[object]:
            return [ours.family()]

    mine = CollectorRegistry(auto_describe=False)
    mine.register(Only())  # type: ignore[arg-type]
    assert set(generate_latest(mine).decode().splitlines()) == wanted


def test_every_error_that_is_counted_begins_at_zero() -> None:
    """Else Prometheus would not see the first of its kind."""
    reasons = {reason for name in ("refusals", "failures") for (reason,) in _reasons(f"pixie_{name}_total")}

    def codes(error: type[ProxyError]) -> set[str]:
        own = {error.code} if "code" in vars(error) and error.code else set()
        return own.union(*map(codes, error.__subclasses__()))

    assert reasons == codes(ProxyError) | {"upstream_refused", "broken_answer"}


def test_a_scrape_may_run_while_numbers_are_added() -> None:
    """New series appear under its hands; it neither fails nor waits for anybody."""
    metrics, stop = Metrics(), threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                render(metrics, "")
        except BaseException as exc:  # noqa: BLE001 - told below
            failed.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(3000):
        metrics.requests.add("/", "ok", str(number))
        metrics.request_duration.observe(0.1, str(number % 100))
    stop.set()
    thread.join()
    assert failed == []


def test_a_start_does_not_wait_for_prometheus_client() -> None:
    """The first scrape imports it: 27 ms of a start that has a budget."""
    script = (
        "import sys, pixie_proxy.app, pixie_proxy.cli.serve; sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
