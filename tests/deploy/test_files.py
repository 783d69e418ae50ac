"""What deploy/ starts fits together, and fits the package: settings, versions, flows, names."""

import re
import shlex
import subprocess

import pytest
import yaml
from support.compose_file import DEPLOY, VARIABLE, example_values, read

from recapture.conf.load import load_config
from recapture.flows.commands.deployments import deployments_text

ROOT = DEPLOY.parent
OURS = {"prefect", "mlflow", "ray-head", "ray-worker", "setup", "driver"}


@pytest.fixture(scope="module")
def services():
    return read("compose.yaml", example_values())["services"]


@pytest.fixture(scope="module", params=["cluster", "job"])
def ray_cluster(request):
    """The specification of a Ray cluster on Kubernetes."""
    spec = yaml.safe_load((DEPLOY / f"kubernetes/{request.param}.yaml").read_text())["spec"]
    return spec.get("rayClusterSpec", spec)


def test_every_variable_is_in_the_example_and_every_secret_there_says_that_it_is_to_be_replaced():
    text = (DEPLOY / "compose.yaml").read_text()
    assert {match[0] for match in VARIABLE.findall(text)} == example_values().keys()
    asked = {name for name, kind, _ in VARIABLE.findall(text) if kind == "?"}
    for name, value in example_values().items():
        assert value.startswith("replace-") == (name in asked), name


def test_services_wait_for_healthy_ones_have_pinned_images_and_publish_to_this_machine_alone(services):
    assert services.keys() == OURS | {"postgres", "s3"}
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*|recapture:cpu", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        for other, wait in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == "setup" else "service_healthy"
            assert wait == {"condition": wanted}
            assert other == "setup" or services[other]["healthcheck"]["test"][0] == "CMD"
        hosts = re.findall(
            r"(?://|@|=)([a-z][\w-]*):\d+", f"{service.get('command')} {service['environment']}"
        )
        assert set(hosts) <= services.keys()
        if name in OURS:
            assert service["cap_drop"] == ["ALL"] and "user" not in service  # the image's own user


def test_the_gpu_file_changes_services_that_exist_and_all_of_ours(services):
    changed = read("compose.gpu.yaml", {})["services"]
    assert changed.keys() == OURS
    assert {service["image"] for service in changed.values()} == {"recapture:cuda"}
    asked = [load_config(environment=changed[name]["environment"]) for name in ("setup", "driver")]
    assert asked[0] == asked[1] and asked[0].execution.resources["fill"].gpus == 0.8


def test_the_settings_of_the_driver_are_settings_and_become_parameters_of_its_deployments(services):
    driver = services["driver"]["environment"]
    config = load_config(environment=driver)
    assert (config.store, config.outputs) == ("s3://recapture/artifacts", "s3://recapture/outputs")
    assert config.tracking.uri == "http://mlflow:5000" and config.execution.ray_address == "auto"
    assert services["setup"]["environment"].items() <= driver.items()
    printed = yaml.safe_load(deployments_text(config))["deployments"]
    assert printed[0]["parameters"]["config"]["store"] == config.store
    assert {one["work_pool"]["name"] for one in printed} == {"recapture"}
    assert "--pool recapture" in services["driver"]["command"][-1]
    assert "work-pool create recapture" in services["setup"]["command"][-1]


def test_all_ray_nodes_have_the_token_and_the_credentials_of_the_storage(services):
    known = [services[name]["environment"] for name in ("ray-head", "ray-worker", "driver")]
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert len({environment[name] for environment in known}) == 1
    assert services["s3"]["environment"].items() <= services["driver"]["environment"].items()


def test_kubernetes_runs_the_ray_of_the_constraints_and_keeps_the_head_from_work_and_from_spot_nodes(
    ray_cluster,
):
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ray_cluster["rayVersion"] == pinned[1]
    head = ray_cluster["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert "nodeAffinity" in head["template"]["spec"]["affinity"]
    for group in ray_cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["rayStartParams"]["num-gpus"] == container["resources"]["limits"]["nvidia.com/gpu"]
        assert group["rayStartParams"]["num-cpus"] == container["resources"]["requests"]["cpu"]
        assert {one["key"] for one in group["template"]["spec"]["tolerations"]} >= {"nvidia.com/gpu"}
    for template in (head["template"], *(group["template"] for group in ray_cluster["workerGroupSpecs"])):
        assert template["spec"]["securityContext"]["runAsUser"] == 1000
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["envFrom"] == [{"secretRef": {"name": "recapture"}}]
    assert "USER 1000" in (DEPLOY / "Dockerfile").read_text()


def test_the_commands_of_the_job_and_of_slurm_have_settings_that_exist():
    job = yaml.safe_load((DEPLOY / "kubernetes/job.yaml").read_text())["spec"]["entrypoint"]
    slurm = (DEPLOY / "slurm.sh").read_text().replace("\\\n", " ")
    found = [
        line.partition("recapture run ")[2].replace('"$@" &', "")
        for text in (job, slurm)
        for line in text.splitlines()
        if "recapture run --" in line
    ]
    assert len(found) == 2
    for line in found:
        flag, profile, *words = shlex.split(line)
        assert (flag, profile) == ("--profile", "cluster")
        assert load_config("cluster", arguments=words).execution.attempts == 10
    compile(job.partition("\n")[2].partition("\nWAIT")[0], "job.yaml", "exec")


def test_the_script_for_slurm_parses():
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)


def test_the_image_holds_what_the_wheel_is_made_of_and_nothing_else():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    links = {path.name for path in (ROOT / "src/recapture").iterdir() if path.is_symlink()}
    assert ignored[1] == "*"
    assert kept == {*links, "src", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
