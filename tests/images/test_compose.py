"""docker-compose.yml means what it says: whatever it names exists, and nothing in it is unbounded.

Every rule is a function from the parsed file to complaints, and has planted faults that it must
catch. No engine runs here: schema and linters are in test_image_scanners.py, the image
in test_image.py.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml
from cyclopts import CycloptsError
from prefect.cli._app import _app as prefect_cli

import batch.cli  # noqa: F401 - adds its verbs
from stream.alerts.prometheus import RULES as ALERT_RULES
from stream.cli import headrace
from stream.feeds import streamed_feeds
from stream.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
SCRAPED = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
IMAGE = "headrace:local"
BOUNDS = ("mem_limit", "cpus", "pids_limit", "logging", "restart")

Document = dict[str, Any]
Rule = Callable[[Document], Iterator[str]]


def services(compose: Document) -> Iterator[tuple[str, Document]]:
    yield from compose["services"].items()


def ours(compose: Document) -> Iterator[tuple[str, Document]]:
    yield from ((name, s) for name, s in services(compose) if s["image"] == IMAGE)


def words(value: Any) -> list[str]:
    """A command as its words: compose takes a string or a list."""
    return value.split() if isinstance(value, str) else [str(word) for word in value or ()]


def bind_mounts(service: Document) -> dict[str, str]:
    """What lies on the host, by its place in the container."""
    mounts = [volume.split(":") for volume in service.get("volumes", ())]
    return {parts[1]: parts[0] for parts in mounts if parts[0].startswith((".", "/"))}


def named_volumes(service: Document) -> set[str]:
    sources = {volume.split(":")[0] for volume in service.get("volumes", ())}
    return {source for source in sources if not source.startswith((".", "/"))}


def copied(path: str) -> bool:
    """Whether the Dockerfile puts a file of the tree to the same place under /app."""
    sources = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return any(Path(path).is_relative_to(s) for line in sources for s in line.split())


def files_exist(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        for source in bind_mounts(service).values():
            if not (ROOT / source).exists():
                yield f"{name}: no file {source}"
        if service.get("build"):
            yield f"{name}: built by the command at the top, so that it is built once"
    named = re.findall(r"docker build -t (\S+) -f (\S+)", TEXT)
    if named != [(IMAGE, "deploy/Dockerfile")] or not (ROOT / named[0][1]).is_file():
        yield f"the command at the top builds {named}"


def scripts_are_in_the_image(compose: Document) -> Iterator[str]:
    for name, service in ours(compose):
        for word in words(service.get("entrypoint")):
            if word.endswith(".py"):
                mounted = bind_mounts(service).get(f"/app/{word}", "").removeprefix("./") == word
                if not ((ROOT / word).is_file() and (mounted or copied(word))):
                    yield f"{name}: {word} is not in the image and not mounted"


def settings_exist(compose: Document) -> Iterator[str]:
    for name, service in ours(compose):
        given = {k: v for k, v in service["environment"].items() if k.startswith("HEADRACE_")}
        fields = {k.removeprefix("HEADRACE_").lower(): v for k, v in given.items()}
        for stray in sorted(set(fields) - set(Settings.model_fields)):
            yield f"{name}: no setting {stray}"
        try:
            load_settings(**{k: v for k, v in fields.items() if k in Settings.model_fields})
        except ValueError as error:
            yield f"{name}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever the settings refuse is the finding
            yield f"{name}: {error}"


def commands_resolve(compose: Document) -> Iterator[str]:
    for name, service in ours(compose):
        entry, command = words(service.get("entrypoint")), words(service.get("command"))
        try:
            RESOLVE[entry[0] if entry else "headrace"](entry[1:] + command)
        except KeyError:
            yield f"{name}: {entry[0]} is no program of the image that this test knows"
        except (click.ClickException, CycloptsError, ValueError) as error:
            yield f"{name}: {' '.join(entry + command)}: {error}"


def resolve_verb(arguments: list[str]) -> None:
    """Parse as `headrace` would, without running anything."""
    with click.Context(headrace, info_name="headrace") as context:
        verb, command, rest = headrace.resolve_command(context, list(arguments))
        assert command is not None
        command.make_context(verb, rest, parent=context)


def resolve_prefect(arguments: list[str]) -> None:
    prefect_cli.parse_args(arguments, exit_on_error=False, print_error=False)


def resolve_emulator(arguments: list[str]) -> None:
    binary = Path(sys.executable).with_name("roto-server")
    usage = subprocess.run([binary, "--help"], capture_output=True, text=True, check=True).stdout
    for option in (word for word in arguments if word.startswith("--")):
        if f" {option} <" not in usage:
            raise ValueError(f"roto-server has no option {option}")


RESOLVE: dict[str, Callable[[list[str]], object]] = {
    "headrace": resolve_verb,
    "prefect": resolve_prefect,
    "roto-server": resolve_emulator,
    "python": lambda arguments: None,  # scripts: `scripts_are_in_the_image`
}


def feeds_are_all_there(compose: Document) -> Iterator[str]:
    for kind, verb in (("dataflow", "run"), ("produce", "produce")):
        found = {n: words(s["command"])[:2] for n, s in services(compose) if n.startswith(kind)}
        wanted = {f"{kind}-{feed}": [verb, feed] for feed in streamed_feeds()}
        if found != wanted:
            yield f"feeds with a stream are {streamed_feeds()}, found {found}"


def ports_are_on_loopback(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        for port in service.get("ports", ()):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", str(port)):
                yield f"{name}: {port} is open to others"
        if service.get("network_mode"):
            yield f"{name}: has the host's network or another's"


def services_are_bounded(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        yield from (f"{name}: no {bound}" for bound in BOUNDS if bound not in service)
        if not {"max-size", "max-file"} <= set(service.get("logging", {}).get("options", {})):
            yield f"{name}: its log has no end"


def services_are_checked_or_end(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        if ("healthcheck" in service) is (service.get("restart") == "no"):
            yield f"{name}: either it has a health check or it runs once"


def services_have_no_privilege(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        if "no-new-privileges:true" not in service.get("security_opt", ()):
            yield f"{name}: may gain privileges"
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            yield f"{name}: has capabilities"
        if service.get("read_only") is not True:
            yield f"{name}: its root can be written to"
        if service.get("privileged") or "0" in str(service.get("user", "")).split(":"):
            yield f"{name}: is root"


def dependencies_are_met(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        for other, condition in service.get("depends_on", {}).items():
            target = compose["services"].get(other)
            if target is None:
                yield f"{name}: no service {other}"
                continue
            is_once = target.get("restart") == "no"
            wanted = "service_completed_successfully" if is_once else "service_healthy"
            if condition["condition"] != wanted:
                yield f"{name}: {other} never is {condition['condition']}"
            if set(target.get("profiles", ())) - set(service.get("profiles", ())):
                yield f"{name}: {other} is of a profile that is off"


def addresses_are_of_services(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        for key, value in service.get("environment", {}).items():
            host = urlsplit(str(value)).hostname if "://" in str(value) else None
            if host and host != "127.0.0.1" and host not in compose["services"]:
                yield f"{name}: {key} names {host}, which is no service"


def volumes_are_declared_and_used(compose: Document) -> Iterator[str]:
    used = {volume for _, service in services(compose) for volume in named_volumes(service)}
    for volume in sorted(used ^ set(compose["volumes"])):
        yield f"volume {volume} is not declared, or declared and not used"


def nothing_is_secret(compose: Document) -> Iterator[str]:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|PII_KEY")
    for name, service in services(compose):
        for key, value in service.get("environment", {}).items():
            if secret.search(key) or urlsplit(str(value)).password:
                yield f"{name}: {key} is a secret in the environment; give it as a file"


def dataflows_are_scraped(compose: Document) -> Iterator[str]:
    jobs = {j["job_name"]: j["static_configs"][0]["targets"] for j in SCRAPED["scrape_configs"]}
    served = {
        f"{name}:{service['environment']['HEADRACE_METRICS_PORT']}"
        for name, service in services(compose)
        if name.startswith("dataflow-")
    }
    if set(jobs["dataflow"]) != served:
        yield f"Prometheus scrapes {jobs['dataflow']}, served are {sorted(served)}"
    (alerting,) = SCRAPED["alerting"]["alertmanagers"]
    for target in [*jobs["observe"], *alerting["static_configs"][0]["targets"]]:
        name, port = target.split(":")
        ports = compose["services"].get(name, {}).get("ports", ())
        if not any(published.endswith(f":{port}") for published in ports):
            yield f"Prometheus names {target}, which is no service or another port"


def rules_are_mounted(compose: Document) -> Iterator[str]:
    """What Prometheus is told to read is what `headrace feeds --write` writes, and lies there."""
    mounts = bind_mounts(compose["services"]["prometheus"])
    for pattern in SCRAPED["rule_files"]:
        folder = f"/etc/prometheus/{Path(pattern).parent}"
        if folder not in mounts:
            yield f"prometheus: nothing is mounted at {folder}"
        elif not list((ROOT / mounts[folder]).glob(Path(pattern).name)):
            yield f"prometheus: no rules in {mounts[folder]}"
    if f"./{ALERT_RULES.parent}" not in mounts.values():
        yield f"prometheus: {ALERT_RULES} is not mounted"


def images_are_of_a_version(compose: Document) -> Iterator[str]:
    for name, service in services(compose):
        tag = service["image"].rpartition(":")[2]
        if service["image"] == IMAGE:
            if service.get("pull_policy") != "never":
                yield f"{name}: would look for {IMAGE} in a registry"
        elif not re.match(r"v?\d", tag):
            yield f"{name}: {service['image']} is whatever is newest"


FAULTS: list[tuple[Rule, str, Callable[[Document], object]]] = [
    (files_exist, "no file ./deploy/gone.yml",
     lambda s: s["prometheus"]["volumes"].append("./deploy/gone.yml:/etc/gone.yml:ro")),
    (files_exist, "so that it is built once", lambda s: s["prepare"].update(build=".")),
    (scripts_are_in_the_image, "not in the image", lambda s: s["prepare"]["volumes"].pop()),
    (scripts_are_in_the_image, "not in the image",
     lambda s: s["prefect-apply"].update(entrypoint=["python", "deploy/prefect/gone.py"])),
    (settings_exist, "no setting metrics_prot",
     lambda s: s["dataflow-news"]["environment"].update(HEADRACE_METRICS_PROT="1")),
    (settings_exist, "HEADRACE_METRICS_PORT",
     lambda s: s["dataflow-news"]["environment"].update(HEADRACE_METRICS_PORT="many")),
    (commands_resolve, "No such command 'rnu'",
     lambda s: s["dataflow-news"].update(command=["rnu", "news"])),
    (commands_resolve, "No such option '--rat'",
     lambda s: s["produce-news"].update(command=["produce", "news", "--rat", "5"])),
    (commands_resolve, "Unknown option: --prot",
     lambda s: s["prefect-server"].update(command="server start --prot 1")),
    (commands_resolve, "has no option --bind",
     lambda s: s["emulator"].update(command=["--bind", "0.0.0.0"])),
    (commands_resolve, "is no program of the image",
     lambda s: s["emulator"].update(entrypoint=["moto_server"])),
    (feeds_are_all_there, "dataflow-news", lambda s: s.pop("dataflow-trades")),
    (feeds_are_all_there, "'news'", lambda s: s["produce-news"].update(command="produce quotes")),
    (ports_are_on_loopback, "0.0.0.0:4200",
     lambda s: s["prefect-server"].update(ports=["0.0.0.0:4200:4200"])),
    (ports_are_on_loopback, "9090", lambda s: s["prometheus"].update(ports=["9090:9090"])),
    (ports_are_on_loopback, "network", lambda s: s["emulator"].update(network_mode="host")),
    (services_are_bounded, "postgres: no mem_limit", lambda s: s["postgres"].pop("mem_limit")),
    (services_are_bounded, "grafana: no cpus", lambda s: s["grafana"].pop("cpus")),
    (services_are_bounded, "grafana: no restart", lambda s: s["grafana"].pop("restart")),
    (services_are_bounded, "no end", lambda s: s["emulator"].update(logging={"driver": "local"})),
    (services_are_checked_or_end, "dataflow-news",
     lambda s: s["dataflow-news"].pop("healthcheck")),
    (services_are_checked_or_end, "prepare", lambda s: s["prepare"].update(restart="always")),
    (services_have_no_privilege, "may gain", lambda s: s["postgres"].pop("security_opt")),
    (services_have_no_privilege, "capabilities",
     lambda s: s["postgres"].update(cap_add=["SYS_ADMIN"])),
    (services_have_no_privilege, "capabilities", lambda s: s["postgres"].pop("cap_drop")),
    (services_have_no_privilege, "written", lambda s: s["emulator"].update(read_only=False)),
    (services_have_no_privilege, "is root", lambda s: s["postgres"].update(user="0:0")),
    (dependencies_are_met, "no service broker",
     lambda s: s["prepare"]["depends_on"].update(broker={"condition": "service_healthy"})),
    (dependencies_are_met, "never is",
     lambda s: s["grafana"]["depends_on"].update(prepare={"condition": "service_healthy"})),
    (dependencies_are_met, "profile that is off",
     lambda s: s["prepare"]["depends_on"].update(grafana={"condition": "service_healthy"})),
    (addresses_are_of_services, "names emulatro",
     lambda s: s["prepare"]["environment"].update(HEADRACE_EMULATOR="http://emulatro:4566")),
    (volumes_are_declared_and_used, "volume aws",
     lambda s: (s["emulator"]["volumes"].clear(), s["prepare"]["volumes"].pop(1))),
    (nothing_is_secret, "POSTGRES_PASSWORD",
     lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="x")),
    (nothing_is_secret, "CONNECTION_URL",
     lambda s: s["prefect-server"]["environment"].update(CONNECTION_URL="postgresql://a:b@c/d")),
    (dataflows_are_scraped, "served are",
     lambda s: s["dataflow-news"]["environment"].update(HEADRACE_METRICS_PORT="9101")),
    (dataflows_are_scraped, "alertmanager:9093", lambda s: s.pop("alertmanager")),
    (rules_are_mounted, "nothing is mounted",
     lambda s: s["prometheus"]["volumes"].pop(1)),
    (images_are_of_a_version, "newest", lambda s: s["grafana"].update(image="grafana/grafana")),
    (images_are_of_a_version, "newest", lambda s: s["grafana"].update(image="grafana:latest")),
    (images_are_of_a_version, "registry", lambda s: s["prepare"].pop("pull_policy")),
]  # fmt: skip
RULES = list(dict.fromkeys(rule for rule, _, _ in FAULTS))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_compose_file_keeps_the_rule(rule):
    assert list(rule(COMPOSE)) == []


@pytest.mark.parametrize(
    ("rule", "phrase", "plant"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_rule_names_a_planted_fault(rule, phrase, plant):
    # Through YAML without aliases: a service shares nothing with another that stays whole.
    faulty = copy.deepcopy(COMPOSE)
    faulty["services"] = {name: copy.deepcopy(s) for name, s in COMPOSE["services"].items()}
    plant(faulty["services"])
    assert [complaint for complaint in rule(faulty) if phrase in complaint]


def test_every_rule_of_this_file_is_tested():
    named = {
        name
        for name, value in globals().items()
        if callable(value)
        and getattr(value, "__annotations__", {}).get("return") == "Iterator[str]"
    }
    assert named == {rule.__name__ for rule in RULES}


def test_alerts_have_a_receiver_and_grafana_reads_the_prometheus_of_this_file():
    alerts = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    assert alerts["route"]["receiver"] in {receiver["name"] for receiver in alerts["receivers"]}
    folder = ROOT / "deploy/grafana/provisioning/datasources"
    (source,) = yaml.safe_load((folder / "prometheus.yml").read_text())["datasources"]
    address = urlsplit(source["url"])
    assert address.hostname in COMPOSE["services"]
    assert COMPOSE["services"][address.hostname]["ports"] == [
        f"127.0.0.1:{address.port}:{address.port}"
    ]
