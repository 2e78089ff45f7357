"""Make what the dataflows of docker-compose.yml expect: `python deploy/compose/prepare.py [DATA]`.

The lake's bucket and a stream per feed on the emulator of HEADRACE_EMULATOR; with the emulator's
data folder also the index that it lacks. A second run changes nothing. What `headrace up` does for
processes, for containers. On AWS, infra/ makes these things.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stream.errors import ConfigError
from stream.feeds import streamed_feeds
from stream.local.platform import connect, create_lake_and_streams
from stream.local.roto import add_missing_index
from stream.settings import load_settings


def main(arguments: list[str]) -> int:
    """Prepare and say what there is; returns the exit code."""
    try:
        settings = load_settings()
        endpoint = connect(settings)
        create_lake_and_streams(settings, streamed_feeds())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for folder in arguments:
        add_missing_index(Path(folder) / "kinesis.db")
    print(f"{endpoint}: {settings.lake}, {', '.join(map(settings.stream_name, streamed_feeds()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
