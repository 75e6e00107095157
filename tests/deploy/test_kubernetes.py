"""The Helm chart: what it renders is valid, fits the registry, and what cannot work is refused."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from auth.keys import KeyRing
from registry import collecting
from registry.cli import serve
from registry.cli_collector import collect
from registry.cli_image import ANONYMOUS
from registry.config import load
from registry.config.section import known_keys, variable_of
from registry.config.settings import Settings
from tests.deploy import helm
from tests.deploy.helm import Manifest, containers, one, pods, render
from tests.support.servers import free_port, merged, running

VERSIONS = ("1.29", "1.33", "1.37")
S3, VOLUME = helm.example("s3.yaml"), helm.example("volume.yaml")
SHARED: dict[str, Any] = {
    "replicas": 2,
    "config": {
        "storage": {"filesystem": {"maxthreads": 200}},
        "auth": {"htpasswd": {"realm": "Registry", "path": "/etc/holdfast/files/htpasswd"}},
        "http": {
            "prefix": "/images/",
            "tls": {
                "certificate": "/etc/holdfast/files/tls.crt",
                "key": "/etc/holdfast/files/tls.key",
            },
        },
    },
    "secrets": {"environment": "variables", "files": "files"},
    "imagePullSecrets": [{"name": "elsewhere"}],
    "persistence": {"enabled": True, "storageClass": "nfs"},
    "service": {"annotations": {"example.com/a": "b"}},
    "ingress": {"enabled": True, "tlsSecret": ""},
    "collector": {"arguments": ["--delete-untagged"], "textfileHostPath": "/var/lib/node_exporter"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"enabled": True},
    "podAnnotations": {"example.com/c": "d"},
    "podLabels": {"azure.workload.identity/use": "true"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "registry", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}
SMALL = {
    "replicas": 1,
    "anonymous": True,
    "config": {"storage": {"inmemory": {}}},
    "collector": {"enabled": False},
}
ALL = {"s3": S3, "volume": VOLUME, "shared": SHARED, "small": SMALL}

pytestmark = pytest.mark.engine("helm")


@pytest.fixture(params=ALL)
def values(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return ALL[request.param]


@pytest.fixture
def manifests(values: Mapping[str, Any]) -> list[Manifest]:
    return render(values)


def test_helm_finds_nothing_to_complain_of() -> None:
    found = helm.library().lint(str(helm.CHART))
    information = 1
    assert [each for each in found["messages"] if each["severity"] > information] == []


def test_every_manifest_is_valid(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "ServiceMonitor":
            continue  # of an operator, so no version of Kubernetes has a schema for it
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_what_one_names_another_has(manifests: list[Manifest]) -> None:
    templates = pods(manifests)
    labels = [template["metadata"]["labels"] for template in templates.values()]
    ports = {
        port["name"]
        for template in templates.values()
        for container in containers(template)
        for port in container.get("ports", [])
    }
    for manifest in manifests:
        spec, name = manifest.get("spec", {}), manifest["metadata"]["name"]
        match manifest["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                wanted = spec["selector"]["matchLabels"]
                assert [each for each in labels if wanted.items() <= each.items()] == labels[:1]
            case "NetworkPolicy":
                wanted = spec["podSelector"]["matchLabels"]
                assert len([each for each in labels if wanted.items() <= each.items()]) == 1, name
            case "Service":
                assert [each for each in labels if spec["selector"].items() <= each.items()] == (
                    labels[:1]
                )
                assert {port["targetPort"] for port in spec["ports"]} <= ports
            case "ServiceMonitor":
                service = one(manifests, "Service")
                assert (
                    spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
                )
                assert service["metadata"]["labels"][spec["jobLabel"]] == "holdfast"
                named = {port["name"] for port in service["spec"]["ports"]}
                assert {endpoint["port"] for endpoint in spec["endpoints"]} <= named
            case "Ingress":
                service = one(manifests, "Service")
                for path in spec["rules"][0]["http"]["paths"]:
                    backend = path["backend"]["service"]
                    assert backend["name"] == service["metadata"]["name"]
                    assert backend["port"]["name"] == service["spec"]["ports"][0]["name"]
    for template in templates.values():
        pod = template["spec"]
        assert pod["serviceAccountName"] == one(manifests, "ServiceAccount")["metadata"]["name"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in containers(template):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        config = volumes["config"]["configMap"]["name"]
        assert config == one(manifests, "ConfigMap")["metadata"]["name"]
        if "tree" in volumes:
            claim = one(manifests, "PersistentVolumeClaim")["metadata"]["name"]
            assert volumes["tree"]["persistentVolumeClaim"]["claimName"] == claim


def test_pods_may_do_as_little_as_the_image(manifests: list[Manifest]) -> None:
    dockerfile = (helm.DIRECTORY.parent / "Dockerfile").read_text()
    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)[-1]
    for template in pods(manifests).values():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": int(user),
            "runAsGroup": int(group),
            "fsGroup": int(group),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"].keys() == {"memory"}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_configuration_is_one_that_the_registry_takes(
    manifests: list[Manifest], tmp_path: Path
) -> None:
    path = _config(manifests, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "registry.cli", "config", "check", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for warning in done.stderr.splitlines():
        assert "registry serve refuses this" in warning, warning  # without --insecure-anonymous
    settings = load(path, {}).settings
    pod = pods(manifests)["Deployment"]["spec"]
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert settings.http.addr == f":{port['containerPort']}"
    drained = settings.http.draindelay + settings.http.draintimeout
    assert pod["terminationGracePeriodSeconds"] == drained + 10
    readiness = container["readinessProbe"]
    unready = (
        readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    )
    assert unready < settings.http.draindelay
    encrypted = "HTTPS" if settings.http.tls.certificate else "HTTP"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == encrypted
    if settings.storage.driver == "filesystem":
        root = str(settings.storage.filesystem and settings.storage.filesystem.rootdirectory)
        assert root in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_files_that_the_configuration_names_are_mounted(manifests: list[Manifest]) -> None:
    text = one(manifests, "ConfigMap")["data"]["config.yml"]
    (container,) = pods(manifests)["Deployment"]["spec"]["containers"]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in re.findall(r": (/(?:etc|run|var)/\S+)", text):
        assert any(path == each or path.startswith(f"{each}/") for each in mounted), path


def test_commands_are_ones_that_the_programs_know(manifests: list[Manifest]) -> None:
    templates = pods(manifests)
    (registry,) = templates["Deployment"]["spec"]["containers"]
    assert "command" not in registry  # the image's entry point is the registry
    command, *arguments = registry["args"]
    assert command == serve.name
    config = str(serve.make_context("serve", list(arguments)).params["config"])
    assert config in {mount["mountPath"] for mount in registry["volumeMounts"]}
    assert [each["name"] for each in registry["env"]] == [ANONYMOUS]
    if "CronJob" not in templates:
        return
    (collector,) = templates["CronJob"]["spec"]["containers"]
    scripts = (helm.DIRECTORY.parents[1] / "pyproject.toml").read_text()
    (program,) = collector["command"]
    assert f'\n{program} = "registry.cli_collector:main"\n' in scripts
    command, *arguments = collector["args"]
    assert command == collect.name
    given = collect.make_context("collect", list(arguments)).params
    assert str(given["config"]) == config
    assert given["wait"]
    assert given["max_duration"] == 6 * 3600
    if (textfile := given["textfile"]) is not None:
        assert str(textfile.parent) in {mount["mountPath"] for mount in collector["volumeMounts"]}


def test_how_the_collector_ends_is_understood() -> None:
    job = one(render(S3), "CronJob")["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    spec = job["jobTemplate"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy demands it
    rules = spec["podFailurePolicy"]["rules"]
    codes = {
        code: rule["action"]
        for rule in rules
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    wrong_configuration = 2
    assert codes == {
        wrong_configuration: "FailJob",
        collecting.BRAKED: "FailJob",
        collecting.BUSY: "Ignore",
    }
    (container,) = spec["template"]["spec"]["containers"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {
        container["name"]
    }


def test_variables_that_are_named_exist() -> None:
    known = {variable_of(key) for key in known_keys(Settings)}
    files = [path for path in helm.DIRECTORY.rglob("*") if path.is_file()]
    named = {
        name for path in files for name in re.findall(r"\bREGISTRY_[A-Z0-9_]+\b", path.read_text())
    }
    assert len(named) >= 3
    assert named <= known


def test_every_value_is_in_the_schema_and_explained() -> None:
    schema = yaml.safe_load((helm.CHART / "values.schema.json").read_text())
    values = yaml.safe_load((helm.CHART / "values.yaml").read_text())
    assert schema["properties"].keys() == {*values, "global"}
    for name, value in values.items():
        properties = schema["properties"][name].get("properties")
        if properties is not None:
            assert properties.keys() == value.keys(), name


REFUSED = {
    "replica": (merged(SMALL, {"replica": 2}), "replica"),
    "no storage": ({"anonymous": True}, "Say where images go"),
    "no volume": ({"config": {"storage": {"filesystem": {}}}}, "needs a volume"),
    "useless volume": (merged(S3, {"persistence": {"enabled": True}}), "nothing uses"),
    "two in memory": (merged(SMALL, {"replicas": 2}), "replicas=1"),
    "two on one machine's": (merged(VOLUME, {"replicas": 2}), "ReadWriteOnce"),
    "open to all": (merged(SMALL, {"anonymous": False}), "anonymous=true"),
    "no keys": (merged(S3, {"secrets": {"keys": ""}}), "secrets.keys"),
    "another drain": (merged(S3, {"config": {"http": {"draindelay": "1s"}}}), "drain.delaySeconds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_a_sentence(case: str) -> None:
    values, sentence = REFUSED[case]
    with pytest.raises(helm.library().HelmError, match=re.escape(sentence)):
        render(values)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A directory as the kubelet makes one of a Secret."""
    made = KeyRing(str(tmp_path / "made"))
    made.rotate()
    secret = tmp_path / "secret"
    (secret / "..2026").mkdir(parents=True)
    (secret / "..data").symlink_to("..2026")
    for name, data in {
        **{path.name: path.read_text() for path in (tmp_path / "made").glob("*.pem")},
        "sealing-key": "ab" * 32 + "\n",
    }.items():
        (secret / "..2026" / name).write_text(data)
        (secret / name).symlink_to(f"..data/{name}")
    return secret


def _copy(given: Path, kept: Path) -> subprocess.CompletedProcess[str]:
    (container,) = pods(render(S3))["Deployment"]["spec"]["initContainers"]
    python, *arguments, secret, keys = container["command"]
    assert python == "python3"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["given-keys"] == secret
    assert str(Path(keys).parent) == mounts["keys"]
    return subprocess.run(
        [sys.executable, *arguments, str(given), str(kept)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_keys_of_a_secret_become_files_that_nobody_else_can_read(
    given: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    for _ in range(2):  # an init container may run again
        assert _copy(given, kept).returncode == 0
    ring = KeyRing(str(kept))
    assert ring.signing().kid == KeyRing(str(tmp_path / "made")).signing().kid
    assert ring.complaints == ()
    assert (kept / "sealing-key").read_text() == "ab" * 32 + "\n"
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}


def test_a_secret_that_lacks_a_key_is_one_line(given: Path, tmp_path: Path) -> None:
    (given / "sealing-key").unlink()
    done = _copy(given, tmp_path / "kept")
    assert done.returncode == 1
    assert done.stderr.startswith("The Secret of secrets.keys needs sealing-key")
    assert done.stderr.count("\n") == 1


def test_the_readme_makes_such_keys(tmp_path: Path) -> None:
    readme = textwrap.dedent((helm.DIRECTORY / "README.md").read_text().partition("2. ")[2])
    (config,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "config.yml").write_text(textwrap.dedent(config))
    (tmp_path / "htpasswd").write_text("")
    assert "registry keys rotate config.yml" in readme
    command = [sys.executable, "-m", "registry.cli", "keys", "rotate", "config.yml"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert KeyRing(str(tmp_path / "keys")).signing().kid in {
        path.stem.partition("-")[2] for path in (tmp_path / "keys").glob("*.pem")
    }


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[Manifest]]]:
    """A registry with the very config.yml of volume.yaml; where it is, and the manifests."""
    manifests = render(VOLUME)
    path = _config(manifests, tmp_path)
    (tmp_path / "htpasswd").write_text("")
    port = free_port()
    moved = {
        "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
        "REGISTRY_HTTP_DRAINDELAY": "0s",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / "tree"),
        "REGISTRY_AUTH_BUILTIN_KEYS": str(tmp_path / "keys"),
        "REGISTRY_AUTH_BUILTIN_HTPASSWD": str(tmp_path / "htpasswd"),
    }
    command = [sys.executable, "-m", "registry.cli", "serve", str(path)]
    with running(
        command,
        port=port,
        log=tmp_path / "log",
        root=tmp_path / "tree",
        ready="/readyz",
        environ=moved,
    ) as server:
        yield server.url, manifests


def test_the_registry_has_what_is_asked_of_it(served: tuple[str, list[Manifest]]) -> None:
    url, manifests = served
    (container,) = pods(manifests)["Deployment"]["spec"]["containers"]
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    for path in [container[probe]["httpGet"]["path"] for probe in probes]:
        assert httpx.get(url + path).status_code == 200
    (endpoint,) = one(render(S3), "ServiceMonitor")["spec"]["endpoints"]
    assert "holdfast_build_info" in httpx.get(url + endpoint["path"]).text
    (rule,) = one(manifests, "Ingress")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/v2", "/auth"]
    assert httpx.get(f"{url}/v2/").status_code == 401
    assert httpx.get(f"{url}/auth/jwks").status_code == 200
    challenge = httpx.get(f"{url}/v2/").headers["www-authenticate"]
    assert f'realm="https://{rule["host"]}/auth/token"' in challenge


def _config(manifests: list[Manifest], directory: Path) -> Path:
    path = directory / "config.yml"
    path.write_text(one(manifests, "ConfigMap")["data"]["config.yml"])
    return path
