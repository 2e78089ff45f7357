"""The coordinator `kcl-java`: AWS's own library, its MultiLangDaemon and a process per shard.

The daemon (Java) shares the shards by its lease table, reads them, and starts `child` for every
shard it owns; they talk over pipes. The same processor as with `kcl` runs in the child. The
daemon's jars come with the Python package amazon_kclpy, Java does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from stream.archive.processor import ArchiveRun
from stream.errors import ConfigError, StoreUnavailableError
from stream.local.process import reap, spawn
from stream.settings import Settings, aws_endpoint, child_environment

log = logging.getLogger(__name__)

MAIN = "software.amazon.kinesis.multilang.MultiLangDaemon"
STOP_SECONDS = 20.0
LOGBACK = """<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder>
    <pattern>%d %-5level %logger{0} [%mdc{ShardId:-}] %msg%n</pattern></encoder></appender>
  <root level="{level}"><appender-ref ref="OUT"/></root>
</configuration>
"""


def archive_with_java(
    settings: Settings,
    feed: str,
    run: ArchiveRun,
    *,
    worker: str | None = None,
) -> None:
    """Archive a feed's stream until `run.stopping` is set. What the shards did is in the log.

    Raises: ConfigError (Java or the jars are missing), StoreUnavailableError (the daemon ended: its
    log says why; a restart will do unless it says otherwise).
    """
    java, jars = find_java(), find_jars()
    home, name = settings.home.absolute(), f"archive-{feed}-{os.getpid()}"  # a home may hold more
    properties, logback = home / "run" / f"{name}.properties", home / "run" / f"{name}.xml"
    properties.parent.mkdir(parents=True, exist_ok=True)
    properties.write_text(format_properties(daemon_properties(settings, feed, worker)))
    logback.write_text(LOGBACK.replace("{level}", settings.log_level.replace("WARNING", "WARN")))
    output = home / "log" / f"{name}.log"
    command = [
        *(java, "-cp", f"{jars}/*", MAIN),
        *("--properties-file", str(properties), "--log-configuration", str(logback)),
    ]
    daemon = spawn(command, output, child_environment(settings))
    log.info("%s: the client library's daemon runs, its log is %s", feed, output)
    try:
        while daemon.poll() is None and not run.stopping.wait(0.2):
            pass
    finally:
        ended = daemon.poll()
        reap(daemon, STOP_SECONDS)
        for file in (properties, logback):
            file.unlink(missing_ok=True)
    if ended is not None:
        raise StoreUnavailableError(
            f"the client library's daemon ended with code {ended}: see {output}"
        )


def daemon_properties(settings: Settings, feed: str, worker: str | None) -> dict[str, str]:
    """The daemon's configuration: AWS_ENDPOINT_URL… reach it as its own properties."""
    poll = str(settings.archive_poll_ms)
    found = {
        "executableName": f"{sys.executable} -m stream.archive.child {feed}",
        "streamName": settings.stream_name(feed),
        "applicationName": f"{settings.archive_prefix}{feed}",
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "processingLanguage": "python",
        "initialPositionInStream": "TRIM_HORIZON",
        "regionName": settings.region,
        "retrievalMode": "POLLING",
        "idleTimeBetweenReadsInMillis": poll,
        "callProcessRecordsEvenForEmptyRecordList": "true",  # a quiet window is cut then
        "parentShardPollIntervalMillis": "2000",
        "shardSyncIntervalMillis": "10000",
        "metricsLevel": "NONE",
        "workerId": worker,
        "kinesisEndpoint": aws_endpoint("kinesis"),
        "dynamoDBEndpoint": aws_endpoint("dynamodb"),
    }
    return {name: value for name, value in found.items() if value is not None}


def format_properties(values: Mapping[str, str]) -> str:
    r"""A Java properties file, where a backslash begins an escape.

    >>> format_properties({"executableName": "python -m x"})
    'executableName = python -m x\n'
    """
    escaped = {name: value.replace("\\", "\\\\") for name, value in values.items()}
    return "".join(f"{name} = {value}\n" for name, value in escaped.items())


def find_java() -> str:
    """The `java` of this machine. Raises: ConfigError."""
    found = shutil.which("java")
    if found is None:
        raise ConfigError(
            "the coordinator `kcl-java` needs Java 8 or later and there is no `java` on the PATH: "
            "install a runtime (Debian: `apt-get install openjdk-17-jre-headless`), or use "
            "`--coordinator kcl`, which needs none."
        )
    return found


def find_jars() -> Path:
    """The folder of the library's jars, inside its Python package. Raises: ConfigError."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("amazon_kclpy")
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            jars = Path(folder) / "jars"
            if any(jars.glob("amazon-kinesis-client-multilang-*.jar")):
                return jars
    raise ConfigError(
        "the coordinator `kcl-java` needs the package amazon_kclpy with its jars, which is not "
        "installed. Install the extra: `pip install 'headrace[kcl]'` (kclpy-ext holds the jars)."
    )
