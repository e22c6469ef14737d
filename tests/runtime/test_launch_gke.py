"""The JobSet for GKE and the image that its pods run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgmae_jax.commands import pretrain
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.runtime.peers import FAILED_ELSEWHERE

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
JOB_SET = LAUNCH / "gke_jobset.yaml"


def pod() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The JobSet's spec, that of its job and that of its pods."""
    spec = yaml.safe_load(JOB_SET.read_text())["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    return spec, job, job["template"]["spec"]


def test_a_pod_has_shared_memory_time_to_save_and_a_cache_that_stays():
    _, job, spec = pod()
    (container,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert spec["terminationGracePeriodSeconds"] == 300
    (cache,) = [entry["value"] for entry in container["env"] if entry["name"] == "MGMAE_CACHE"]
    assert "persistentVolumeClaim" in mounts[f"/{cache.split('/')[1]}"]
    assert job["parallelism"] == job["completions"] == 4
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"google.com/tpu": 4}


def test_pods_find_each_other_by_name():
    spec, _, _ = pod()
    assert spec["network"] == {"enableDNSHostnames": True, "subdomain": "mgmae", "publishNotReadyAddresses": True}


def test_a_preempted_set_restarts_without_limit_and_an_error_a_few_times():
    spec, job, pods = pod()
    (rule,) = spec["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert 0 < spec["failurePolicy"]["maxRestarts"] < 10
    evicted, saved, left = job["podFailurePolicy"]["rules"]
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert saved["onExitCodes"] == {"containerName": "mgmae", "operator": "In", "values": [143]}
    assert {evicted["action"], saved["action"]} == {"FailJob"}
    assert left == {"action": "Ignore", "onExitCodes": saved["onExitCodes"] | {"values": [FAILED_ELSEWHERE]}}
    assert (job["backoffLimit"], pods["restartPolicy"]) == (0, "Never")


def test_the_arguments_of_a_pod_are_those_of_a_command():
    command, *arguments = pod()[2]["containers"][0]["args"]
    assert command == "pretrain"
    args, overrides = pretrain.parser().parse_known_args(arguments)
    assert args.start_timeout > 600
    assert load_config(args.config, overrides).data.path == "/shared/ssv2"


def test_the_image_has_what_it_installs_from_and_starts_mgmae():
    text = (LAUNCH / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert copied == ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "configs", "mgmae_jax"]
    assert all((LAUNCH.parent / name).exists() for name in copied)
    kept = re.findall(r"^!(.*)$", (LAUNCH / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(copied)
    assert re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1] == '["tini", "--", "mgmae"]'
    assert "command" not in pod()[2]["containers"][0]  # which would take the entry point's place


def test_the_file_is_clean():
    yamllint = pytest.importorskip("yamllint", reason="needs yamllint: pip install -e '.[dev]'")
    from yamllint import config, linter

    assert yamllint
    rules = config.YamlLintConfig("{extends: default, rules: {line-length: {max: 120}, document-start: disable}}")
    assert [str(problem) for problem in linter.run(JOB_SET.read_text(), rules)] == []


def test_the_job_and_its_pods_have_the_fields_that_kubernetes_knows():
    kubernetes = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: pip install -e '.[dev]'")
    _, job, pods = pod()
    resource = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "mgmae"}, "spec": job}
    kubernetes.validate(resource, kubernetes.latest_version(), strict=True)
    pods["terminationGracePeriodsSeconds"] = 300
    with pytest.raises(kubernetes.ValidationError, match="terminationGracePeriodsSeconds"):
        kubernetes.validate(resource, kubernetes.latest_version(), strict=True)
