"""Which process of a cluster this one is.

A feed's dataflow may be split among n processes: lanes are shared out (`sources.shares`), payload
stays where it was read, and process 0 commits for all. Not here: how results travel (`engine`),
what they bring (`member`), who starts and restarts the processes (`local.gang`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from stream.settings import Settings
from stream.sources.shares import lane_shares


@dataclass(frozen=True, slots=True)
class Cluster:
    """A process among those of a cluster: its index, and where each of them listens
    ("host:port"). Alone, it listens nowhere.
    """

    index: int = 0
    addresses: tuple[str, ...] = ("",)

    @property
    def processes(self) -> int:
        """How many there are."""
        return len(self.addresses)

    @property
    def is_alone(self) -> bool:
        """Whether this process is the whole dataflow."""
        return self.processes == 1

    @property
    def is_committer(self) -> bool:
        """Whether this process commits: Bytewax builds a sink's only part in the first worker."""
        return self.index == 0

    @property
    def is_on_one_machine(self) -> bool:
        """Whether all processes run here, so that their pulses lie side by side."""
        return self.is_alone or all(map(_is_loopback, self.addresses))

    def own_lanes(self, lanes: int) -> range:
        """The lanes that this process reads. Raises: ConfigError when there are too few."""
        return lane_shares(lanes, self.processes)[self.index]


ALONE = Cluster()


def cluster_of(settings: Settings) -> Cluster:
    """The place that the settings give this process.

    >>> cluster_of(Settings(process_index=1, addresses="10.0.0.1:2101,10.0.0.2:2101")).processes
    2
    """
    if settings.process_index is None:
        return ALONE
    return Cluster(settings.process_index, settings.process_addresses)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
