"""deploy/: linted, and held against the server whose flags, ports and metrics it names.

None of it is run here; see deploy/README.md.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from servers import Running

from jpaged import __version__
from jpaged.cli.parser import build_parser
from jpaged.cli.server_options import gathered
from jpaged.server.options import ServerOptions
from jpaged.server.serve import FLUSH_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
CUSTOM = ("monitoring.coreos.com", "serving.kserve.io")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def document(name: str) -> dict[str, Any]:
    return documents(name)[0]


def containers() -> dict[str, dict[str, Any]]:
    """Those that run the server."""
    runtime = document("serving-runtime.yaml")["spec"]["containers"]
    deployed = document("deployment.yaml")["spec"]["template"]["spec"]["containers"]
    [kserve], [plain] = runtime, deployed
    return {"kserve": kserve, "plain": plain}


def options_of(container: dict[str, Any]) -> ServerOptions:
    """As the server itself would read them, in the image."""
    words = [word.replace("{{.Name}}", "fox") for word in container["args"]]
    return ServerOptions.of(gathered(vars(build_parser().parse_args(words)), environment()))


def environment() -> dict[str, str]:
    """Of the image: what its ENV says of the server."""
    return dict(re.findall(r"(JPAGED_SERVE_\w+)=(\S+)", DOCKERFILE))


def metrics_in(expression: str) -> set[str]:
    """The names before a selector or a range."""
    bare = re.sub(r"\{[^}]*\}", "{}", expression)
    return set(re.findall(r"([a-zA-Z_:][\w:]*)(?=\{|\[)", bare)) or {bare}


@pytest.fixture
def exported(server: Running) -> dict[str, set[str]]:
    """What a scrape has: sample -> its labels."""
    with server.client() as client:
        client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 3})
        text = client.get("/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install 'jpaged[dev]'")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_manifests_are_valid_for_kubernetes():
    validating = pytest.importorskip(
        "kubernetes_validate", reason="it is not installed: pip install 'jpaged[dev]'"
    )
    checked = []
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for each in documents(path.name):
            if "kind" in each and not each["apiVersion"].startswith(CUSTOM):
                validating.validate(each, "1.37", strict=True)
                checked.append(each["kind"])
    assert sorted(checked) == [
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "Service",
    ]


def test_a_manifest_with_a_misspelt_field_is_not_valid():
    validating = pytest.importorskip("kubernetes_validate", reason="it is not installed")
    deployment = document("deployment.yaml")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 75
    with pytest.raises(validating.ValidationError, match="terminationGracePeriod"):
        validating.validate(deployment, "1.37", strict=True)


@pytest.mark.parametrize("name", ["plain", "kserve"])
def test_servers_are_started_with_flags_that_exist_where_their_probes_look(name: str):
    container = containers()[name]
    options = options_of(container)

    assert options.host == "0.0.0.0"
    [port] = container["ports"]
    assert options.port == port["containerPort"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        look = container[probe]["httpGet"]
        assert look["path"] == "/health"
        assert look["port"] in (port.get("name"), port["containerPort"])
    assert options.open_metrics and options.log_json
    assert container["image"] == f"jpaged:{__version__}"


def test_pods_have_the_time_that_draining_takes():
    pod = document("deployment.yaml")["spec"]["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = options_of(containers()["plain"]).shutdown_timeout
    assert pod["terminationGracePeriodSeconds"] >= before + drain + 2 * FLUSH_SECONDS

    _, service = documents("serving-runtime.yaml")
    drain = options_of(containers()["kserve"]).shutdown_timeout
    assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] >= drain + 10


def test_who_selects_finds_what_is_labelled():
    deployment, service = document("deployment.yaml"), document("service.yaml")
    template = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        document("disruption.yaml")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= template.items()
    monitor = document("service-monitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in [each["name"] for each in service["spec"]["ports"]]
    assert document("autoscaler.yaml")["spec"]["scaleTargetRef"]["name"] == "jpaged"


def test_aibrix_finds_the_model_and_its_metrics():
    deployment = document("deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [port] = [each["containerPort"] for each in container["ports"]]

    assert labels["model.aibrix.ai/engine"] == "vllm"  # the names of our metrics
    assert labels["model.aibrix.ai/port"] == labels["model.aibrix.ai/metric-port"] == str(port)
    assert f"--served-model-name={labels['model.aibrix.ai/name']}" in container["args"]


def test_the_autoscaler_asks_for_metrics_that_the_adapter_makes_of_ours(exported):
    rules = document("prometheus-adapter.yaml")["rules"]["custom"]
    made = {each["name"]["as"] for each in rules}
    metrics = document("autoscaler.yaml")["spec"]["metrics"]

    assert {each["pods"]["metric"]["name"] for each in metrics} == made
    for rule in rules:
        assert metrics_in(rule["seriesQuery"]) <= set(exported)


def test_the_image_runs_as_nobody_special_and_knows_the_servers_options():
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert users and users[-1].isdigit() and users[-1] != "0"
    pod = document("deployment.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(users[-1])
    assert set(environment()) == {"JPAGED_SERVE_HOST", "JPAGED_SERVE_PORT"}
    assert ":8000/health" in DOCKERFILE and environment()["JPAGED_SERVE_PORT"] == "8000"
    assert "HEALTHCHECK" in DOCKERFILE and "STOPSIGNAL SIGTERM" in DOCKERFILE

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for named in re.findall(r"EXTRAS=(\S+)", DOCKERFILE):
        assert set(named.split(",")) <= set(extras)


def test_the_dashboard_shows_metrics_that_we_export(exported):
    dashboard = json.loads((DEPLOY / "grafana" / "jpaged.json").read_text())
    shown = [each for each in dashboard["panels"] if each["type"] != "row"]
    asked = [target["expr"] for panel in shown for target in panel["targets"]]
    asked += [
        each["definition"] for each in dashboard["templating"]["list"] if "definition" in each
    ]

    assert len(shown) >= 20 and len({panel["id"] for panel in dashboard["panels"]}) > len(shown)
    for expression in asked:
        names = metrics_in(expression.replace("label_values(", "").split(", model_name)")[0])
        assert names and names <= set(exported), expression
        for name in names:
            used = set(re.findall(r"(\w+)=~?\"", expression))
            assert used <= exported[name], expression
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            for name in names:
                assert {each.strip() for each in labels.split(",")} <= exported[name], expression


def test_the_dashboard_shows_what_one_wants_to_know():
    text = (DEPLOY / "grafana" / "jpaged.json").read_text()
    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_hits_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:request_time_per_output_token_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
        "vllm:generation_tokens_total",
        "jpaged:bucket_padding_ratio_sum",
        "jpaged:recompute_tax",
        "jpaged:policy_decision_seconds_bucket",
    ):
        assert name in text, name


def test_panels_do_not_lie_on_each_other():
    dashboard = json.loads((DEPLOY / "grafana" / "jpaged.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
