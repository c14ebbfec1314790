"""The files in deploy/: what has a checker is checked, and what they name exists."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from refsynth.cli.app import app
from refsynth.service.http.auth import FileKeyChecker

DEPLOY = Path(__file__).parent.parent / "deploy"
DRAIN = 30  # seconds, the server's default
METRIC = re.compile(r"\brefsynth_[a-z_]+")


def run(program, *arguments):
    found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}")
    if found is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
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
    for name in ("Dockerfile", "Dockerfile.bundle"):
        run("hadolint", DEPLOY / name)


def compose():
    return yaml.safe_load(text_of("docker-compose.yml"))["services"]


def test_services_are_closed_but_for_loopback():
    services = compose()
    assert set(services) == {"db", "tables", "first-key", "keys", "server", "prometheus", "alertmanager", "grafana"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["image"] == "refsynth" or not service["user"].startswith(
            ("0", "root")
        )  # ours is not root by its Dockerfile
    assert int(services["server"]["stop_grace_period"].rstrip("s")) > DRAIN


def test_the_key_of_prometheus_is_made_inside_once(tmp_path):
    """The command of the service, with the folders of a container put below a folder here."""
    (script,) = compose()["first-key"]["command"]
    for name in ("etc/refsynth", "run/refsynth-keys", "bin"):
        (tmp_path / name).mkdir(parents=True)
    program = tmp_path / "bin" / "refsynth"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m refsynth "$@"\n')
    program.chmod(0o755)
    for name in ("/etc/refsynth", "/run/refsynth-keys"):
        script = script.replace(name, f"{tmp_path}{name}")
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": str(DEPLOY.parent / "src")}
    made = []
    for _ in range(2):
        subprocess.run(["/bin/sh", "-ec", script], env=environment, check=True)
        made.append((tmp_path / "run/refsynth-keys/prometheus.key").read_text())
    assert made[0] == made[1] and FileKeyChecker(tmp_path / "etc/refsynth/keys.json").identify(made[0].strip()).scopes == (
        "admin",
    )
    assert (tmp_path / "run/refsynth-keys/prometheus.key").stat().st_mode & 0o777 == 0o640
    where = yaml.safe_load(text_of("prometheus", "prometheus.yml"))["scrape_configs"][0]["authorization"]["credentials_file"]
    assert where == "/run/refsynth-keys/prometheus.key"


def test_alerts_have_somewhere_to_go():
    (manager,) = yaml.safe_load(text_of("prometheus", "prometheus.yml"))["alerting"]["alertmanagers"]
    assert manager["static_configs"][0]["targets"][0].split(":")[0] in compose()
    sends = yaml.safe_load(text_of("alertmanager", "alertmanager.yml"))
    named = {sends["route"]["receiver"], *(route["receiver"] for route in sends["route"]["routes"])}
    assert named <= {receiver["name"] for receiver in sends["receivers"]}
    run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


def kubernetes():
    return {
        (each["kind"], each["metadata"]["name"]): each
        for name in ("bundle", "record", "refsynth")
        for each in yaml.safe_load_all(text_of("kubernetes", f"{name}.yaml"))
    }


def test_pods_are_closed_and_have_time_to_drain():
    objects = kubernetes()
    pods = [each["spec"]["template"]["spec"] for (kind, _), each in objects.items() if kind in ("Deployment", "Job")]
    assert len(pods) == 3
    for pod in pods:
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume}
        assert all(("PersistentVolumeClaim", claim) in objects for claim in claims)
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    template = objects["Deployment", "refsynth"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert template["spec"]["terminationGracePeriodSeconds"] > DRAIN + wait
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/health/ready"
    labels = template["metadata"]["labels"]
    for kind, selector in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        found = objects[kind, "refsynth"]["spec"][selector]
        assert found.get("matchLabels", found) == labels
    assert set(objects["NetworkPolicy", "refsynth"]["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def test_a_bundle_is_delivered_whole_or_not_at_all(tmp_path):
    """The command of the bundle's image, with its folders put below a folder here."""
    (command,) = json.loads(re.search(r"^CMD (\[.*\])$", text_of("Dockerfile.bundle"), re.MULTILINE)[1])
    command = command.replace("/volume", f"{tmp_path}/volume").replace(" /bundle ", f" {tmp_path}/image ")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "new").mkdir()
    (tmp_path / "volume" / "new" / "half").write_text("of one that was killed")
    for version in ("1", "2"):
        (tmp_path / "image").mkdir(exist_ok=True)
        (tmp_path / "image" / "manifest.json").write_text(version)
        subprocess.run(["/bin/sh", "-ec", command], check=True)
        assert [path.name for path in (tmp_path / "volume" / "bundle").iterdir()] == ["manifest.json"]
        assert (tmp_path / "volume" / "bundle" / "manifest.json").read_text() == version


def test_images_are_built_from_versions_with_hashes():
    assert "--require-hashes -r requirements-serve.lock" in text_of("Dockerfile")
    for name in ("requirements.lock", "requirements-serve.lock"):
        blocks = re.split(r"\n(?=\S)", (DEPLOY.parent / name).read_text().strip())
        assert all(re.match(r"[\w.\-]+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n?)+$", block) for block in blocks), name
    pinned, served = (
        {line.split(" ")[0] for line in (DEPLOY.parent / name).read_text().splitlines() if line[0] != " "}
        for name in ("requirements.lock", "requirements-serve.lock")
    )
    assert served <= pinned


def test_the_unit_gives_time_to_drain():
    assert int(re.search(r"^TimeoutStopSec=(\d+)", text_of("systemd", "refsynth.service"), re.MULTILINE)[1]) > DRAIN


def named_metrics():
    dashboard = json.loads(text_of("grafana", "dashboards", "refsynth.json"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [rule["expr"] for rule in yaml.safe_load(text_of("prometheus", "rules.yml"))["groups"][0]["rules"]]
    return {name for expression in expressions for name in METRIC.findall(expression)}


def test_every_named_metric_is_one_that_the_server_has():
    metrics = pytest.importorskip("refsynth.service.http.metrics", reason="the server is not here yet")
    known = {sample for family in metrics.Metrics()._registry.collect() for sample in (family.name, f"{family.name}_total")}
    for path in Path(metrics.__file__).parent.glob("*.py"):
        known |= set(METRIC.findall(path.read_text("utf-8")))
    named = {re.sub("_(bucket|sum|count)$", "", name) for name in named_metrics()}
    assert len(named) > 8
    assert named <= known


def commands():
    """Yield each command line of the server that the files run, as words."""
    yield re.search(r'^CMD \["(serve.*)"\]$', text_of("Dockerfile"), re.MULTILINE)[1].split('", "')
    yield compose()["server"]["command"]
    yield kubernetes()["Deployment", "refsynth"]["spec"]["template"]["spec"]["containers"][0]["args"]
    yield re.search(r"^ExecStart=\S+ (serve.*)$", text_of("systemd", "refsynth.service"), re.MULTILINE)[1].split()


def test_every_option_is_one_of_the_command():
    command = typer.main.get_command(app).commands.get("serve")
    if command is None:
        pytest.skip("the server is not here yet")
    known = {option for parameter in command.params for option in parameter.opts}
    for words in commands():
        assert words[0] == "serve"
        assert {word for word in words if word.startswith("--")} <= known
