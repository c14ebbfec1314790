"""The files in deploy/: what has a checker is checked, and what they name exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from refsynth.cli.app import app

DEPLOY = Path(__file__).parent.parent / "deploy"
DRAIN = 30  # seconds, the server's default
METRIC = re.compile(r"\brefsynth_[a-z_]+")


def run(program, *arguments):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def text_of(*parts):
    return DEPLOY.joinpath(*parts).read_text("utf-8")


def test_prometheus_accepts_its_files():
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    run("promtool", "check", "rules", DEPLOY / "prometheus" / "rules.yml")


def test_alerts_are_raised_when_they_should_be_and_not_else():
    run("promtool", "test", "rules", DEPLOY / "prometheus" / "rules_test.yml")


def test_every_alert_is_tested_both_ways():
    alerts = {rule["alert"] for rule in yaml.safe_load(text_of("prometheus", "rules.yml"))["groups"][0]["rules"]}
    quiet, trouble = yaml.safe_load(text_of("prometheus", "rules_test.yml"))["tests"]
    assert {each["alertname"] for each in quiet["alert_rule_test"]} == alerts
    assert trouble["promql_expr_test"][0]["exp_samples"] == [{"value": len(alerts)}]


def test_the_dockerfile_is_clean_and_not_root():
    users = re.findall(r"^USER (\S+)", text_of("Dockerfile"), re.MULTILINE)
    assert users
    assert not users[-1].startswith(("0", "root"))
    run("hadolint", DEPLOY / "Dockerfile")


def test_services_are_closed_but_for_loopback():
    services = yaml.safe_load(text_of("docker-compose.yml"))["services"]
    assert set(services) == {"db", "tables", "server", "prometheus", "grafana"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        if name != "db":
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
    assert int(services["server"]["stop_grace_period"].rstrip("s")) > DRAIN


def test_pods_are_closed_and_have_time_to_drain():
    deployment, service, budget = yaml.safe_load_all(text_of("kubernetes", "refsynth.yaml"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > DRAIN + wait
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/health/ready"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels


def test_the_unit_gives_time_to_drain():
    assert int(re.search(r"^TimeoutStopSec=(\d+)", text_of("systemd", "refsynth.service"), re.MULTILINE)[1]) > DRAIN


def named_metrics():
    dashboard = json.loads(text_of("grafana", "dashboards", "refsynth.json"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [rule["expr"] for rule in yaml.safe_load(text_of("prometheus", "rules.yml"))["groups"][0]["rules"]]
    return {name for expression in expressions for name in METRIC.findall(expression)}


def test_every_named_metric_is_one_that_the_server_has():
    metrics = pytest.importorskip("refsynth.serve.metrics", reason="the server is not here yet")
    known = {sample for family in metrics.Metrics()._registry.collect() for sample in (family.name, f"{family.name}_total")}
    for path in Path(metrics.__file__).parent.glob("*.py"):
        known |= set(METRIC.findall(path.read_text("utf-8")))
    named = {re.sub("_(bucket|sum|count)$", "", name) for name in named_metrics()}
    assert len(named) > 8
    assert named <= known


def commands():
    """Yield each command line of the server that the files run, as words."""
    yield re.search(r'^CMD \["(serve.*)"\]$', text_of("Dockerfile"), re.MULTILINE)[1].split('", "')
    yield yaml.safe_load(text_of("docker-compose.yml"))["services"]["server"]["command"]
    yield next(yaml.safe_load_all(text_of("kubernetes", "refsynth.yaml")))["spec"]["template"]["spec"]["containers"][0]["args"]
    yield re.search(r"^ExecStart=\S+ (serve.*)$", text_of("systemd", "refsynth.service"), re.MULTILINE)[1].split()


def test_every_option_is_one_of_the_command():
    command = typer.main.get_command(app).commands.get("serve")
    if command is None:
        pytest.skip("the server is not here yet")
    known = {option for parameter in command.params for option in parameter.opts}
    for words in commands():
        assert words[0] == "serve"
        assert {word for word in words if word.startswith("--")} <= known
