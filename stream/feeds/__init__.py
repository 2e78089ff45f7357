"""The feeds: one module per feed in this folder that exports `CONTRACT`; never registered.

A new feed is a new file here; stream, table, alarm and service derive from `load_feeds()`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from stream.errors import ConfigError
from stream.feeds.contract import Contract


@cache
def load_feeds() -> dict[str, Contract]:
    """Every feed's contract by name, in name order.

    Raises: ConfigError when a module's contract names another feed than the module.

    >>> "trades" in load_feeds()
    True
    """
    feeds = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        contract = getattr(importlib.import_module(f"{__name__}.{module.name}"), "CONTRACT", None)
        if contract is None:
            continue
        if contract.feed != module.name:
            raise ConfigError(
                f"stream/feeds/{module.name}.py: its CONTRACT names feed {contract.feed!r}; "
                "name the feed like its module"
            )
        feeds[module.name] = contract
    return feeds


def streamed_feeds() -> list[str]:
    """The feeds whose messages arrive through a stream: they have a dataflow each."""
    return [name for name, contract in load_feeds().items() if contract.has_stream]


def load_feed(name: str) -> Contract:
    """The contract of one feed.

    Raises: ConfigError naming the valid feeds.
    """
    feeds = load_feeds()
    if name not in feeds:
        raise ConfigError(f"no feed {name!r}; feeds are: {', '.join(feeds)}")
    return feeds[name]
