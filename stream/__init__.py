"""headrace: market data from Kinesis to queryable Silver, exactly once, replayable, with proof.

Start at `stream.flow`: it shows the whole road on one page.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("headrace")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"
