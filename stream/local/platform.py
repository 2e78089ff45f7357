"""The local platform as a user sees it: up, down, status; and how a command finds it.

    up       a supervisor in the background: emulator, streams, one dataflow per feed
    down     stop it, data stays
    connect  point this process at what is running (does nothing for a real AWS account)
    embedded an emulator for the length of a `with` block: what `headrace demo` uses

Not here: restarting (`supervisor`), the emulator's own start (`roto`), printing (`cli`).
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.local import Emulator, sdk_environment
from stream.local.external import External
from stream.local.process import end, last_line, spawn_daemon, wait_until_gone
from stream.local.roto import Roto, prepare_folder
from stream.local.state import (
    PlatformState,
    hold_lock,
    is_locked,
    read_state,
    state_path,
    write_state,
)
from stream.local.supervisor import Child, Supervisor
from stream.settings import SECRETS, Settings, aws_endpoint, child_environment, set_aws_environment

log = logging.getLogger(__name__)

UP_SECONDS = 60.0
DOWN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class UpResult:
    """What `up` found or made."""

    state: PlatformState
    was_running: bool


def build_emulator(settings: Settings) -> Emulator:
    """The emulator that the settings name: embedded, or a URL."""
    if settings.emulator == "roto":
        return Roto(settings.home.absolute(), settings.region)
    return External(settings.emulator, settings.region)


@dataclass(frozen=True, slots=True)
class Addition:
    """More that a platform may run: how its supervisor is started, the children it adds, and what
    a user should know about them.
    """

    command: Sequence[str]
    children: Callable[[Settings], Sequence[Child]]
    note: Callable[[Settings], str] = lambda _: ""


PLAIN = Addition(("-m", "stream.cli", "up", "--foreground", "--no-ui"), lambda _: ())
"""An emulator and the dataflows, nothing else."""


def up(
    settings: Settings,
    feeds: Sequence[str],
    addition: Addition = PLAIN,
    clock: Clock = SYSTEM_CLOCK,
) -> UpResult:
    """Start the platform in the background and wait until it runs; a second call finds it running.

    Raises: ConfigError saying why it could not start.
    """
    home = settings.home.absolute()
    _refuse_account(settings)
    if is_locked(home):
        return UpResult(_wait_until_up(home, clock), was_running=True)
    prepare_folder(home)
    end_leftovers(home)
    state_path(home).unlink(missing_ok=True)
    output = home / "log" / "platform.log"
    command = [sys.executable, *addition.command, *feeds]
    daemon = spawn_daemon(command, output, child_environment(settings, SECRETS))
    deadline = clock.monotonic() + UP_SECONDS
    while clock.monotonic() < deadline:
        state = read_state(home)
        if state.phase in {"running", "failed"}:
            break
        if daemon.poll() is not None and not is_locked(home):
            state = read_state(home)
            break
        clock.sleep(0.05)
    if state.phase == "running":
        # Another `up` may have won the start; then this daemon ended and theirs runs.
        is_ours = state.supervisor is not None and state.supervisor.pid == daemon.pid
        return UpResult(state, was_running=not is_ours)
    if daemon.poll() is None:
        daemon.terminate()
    raise ConfigError(state.error or f"the platform did not start: {last_line(output)}")


def run_supervisor(settings: Settings, feeds: Sequence[str], addition: Addition = PLAIN) -> None:
    """Be the supervisor until SIGTERM or SIGINT: what `headrace up --foreground` runs.

    Raises: ConfigError when another one runs or the start is impossible.
    """
    home = settings.home.absolute()
    _refuse_account(settings)
    with hold_lock(home):
        stop = StopSignals()
        supervisor = Supervisor(
            home,
            build_emulator(settings),
            lambda url: [*_prepare(settings, feeds, url), *addition.children(settings)],
        )
        try:
            supervisor.run(lambda: stop.requested)
        except ConfigError as error:
            write_state(home, PlatformState("failed", error=str(error)))
            raise


class StopSignals:
    """Turns SIGTERM and SIGINT into a flag; the first one asks, children do their own work."""

    def __init__(self) -> None:
        self.requested = False
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            signal.signal(number, self._request)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # whatever our parent blocked

    def _request(self, *_: object) -> None:
        self.requested = True


def down(settings: Settings) -> bool:
    """Stop the platform; returns whether it was running. Data stays.

    Raises: ConfigError if it does not end.
    """
    home = settings.home.absolute()
    state = read_state(home)
    was_running = is_locked(home)
    if was_running and state.supervisor:
        end(state.supervisor, DOWN_SECONDS)
    end_leftovers(home)
    if is_locked(home):
        raise ConfigError(
            f"the platform of {home} did not end; its process is named in {state_path(home)}"
        )
    return was_running


def end_leftovers(home: Path) -> None:
    """End children of a supervisor that was killed where the kernel does not do it for us."""
    for child in read_state(home).processes:
        if child.process and not wait_until_gone(child.process, 1.0):
            log.warning("ending %s, left behind by a killed supervisor", child.name)
            end(child.process)


def connect(settings: Settings) -> str | None:
    """Point this process and its children at the running platform; returns the endpoint.

    Does nothing for a real account, or when the caller set AWS_ENDPOINT_URL_KINESIS already.
    Raises: ConfigError if the platform is not running.
    """
    given = aws_endpoint("kinesis")
    if settings.aws == "account" or given:
        return given
    if settings.emulator != "roto":
        endpoint: str | None = External(settings.emulator, settings.region).start()
    else:
        state = read_state(settings.home.absolute())
        endpoint = state.endpoint if state.phase in {"starting", "running"} else None
    if not endpoint:
        raise ConfigError(
            f"the local platform of {settings.home} is not running: start it with `headrace up` "
            "(or set HEADRACE_AWS=account to use the AWS account of your credentials)"
        )
    set_aws_environment(sdk_environment(endpoint, settings.region))
    return endpoint


def is_at_rest(settings: Settings) -> bool:
    """Whether there is a local platform's data and nothing that serves it."""
    home = settings.home.absolute()
    is_embedded = settings.aws == "embedded" and settings.emulator == "roto"
    return (
        is_embedded
        and aws_endpoint("kinesis") is None
        and (home / "aws").is_dir()
        and not is_locked(home)
    )


@contextmanager
def embedded(settings: Settings) -> Iterator[str]:
    """An emulator for the length of the block; the environment points at it, streams are absent.

    Ends with the process however that ends. Raises: ConfigError; also when `up` uses this home.
    """
    home = settings.home.absolute()
    with hold_lock(home):
        emulator = build_emulator(settings)
        try:  # around the start as well: an interrupted one has a process already
            endpoint = emulator.start()
            set_aws_environment(sdk_environment(endpoint, settings.region))
            yield endpoint
        finally:
            emulator.stop()


def create_lake_and_streams(settings: Settings, feeds: Sequence[str]) -> None:
    """The lake's buckets and one stream per feed, unless they exist. Call after `connect`."""
    # Here and not above: the SDK costs 0.3 s that `status` and `down` need not pay.
    from stream.lake.store import create_bucket  # noqa: PLC0415
    from stream.sources.kinesis_streams import create_stream  # noqa: PLC0415

    for root in (settings.lake, *settings.zones.values()):
        create_bucket(root, region=settings.region, endpoint=aws_endpoint("s3"))
    for feed in feeds:
        create_stream(settings.stream_name(feed), settings.shards, region=settings.region)


def _prepare(settings: Settings, feeds: Sequence[str], endpoint: str) -> list[Child]:
    home = settings.home.absolute()
    set_aws_environment(sdk_environment(endpoint, settings.region))
    create_lake_and_streams(settings, feeds)
    return [
        Child(
            name=feed,
            command=[sys.executable, "-m", "stream.cli", "run", feed],
            log=home / "log" / f"{feed}.log",
            env=feed_environment(settings, feed),
        )
        for feed in feeds
    ]


def feed_environment(settings: Settings, feed: str) -> dict[str, str]:
    """What a feed's dataflow needs: of the secrets, the key that masks, if it has what to mask."""
    from stream.feeds import load_feed  # noqa: PLC0415 - as above

    return child_environment(settings, ("pii_key",) if load_feed(feed).pii_columns else ())


def _wait_until_up(home: Path, clock: Clock) -> PlatformState:
    deadline = clock.monotonic() + UP_SECONDS
    while (state := read_state(home)).phase != "running" and clock.monotonic() < deadline:
        clock.sleep(0.05)
    return state


def _refuse_account(settings: Settings) -> None:
    if settings.aws == "account":
        raise ConfigError(
            "HEADRACE_AWS=account: the platform runs in that account (see infra/), not here. "
            "Unset it to start the local platform, or start one feed with `headrace run FEED`."
        )
