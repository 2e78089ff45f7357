"""Fuzz one decoder in a process of its own: guided by coverage if Atheris is installed, else blind.

Started by run.py. A finding does not end it: the input is written to the folder of findings once
per place of failure, and it goes on. Only a crash of the process itself does: Atheris then leaves
the input next to the report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

MODULES = (
    "stream.decode", "stream.feeds", "stream.lake.entries", "stream.lake.layout",
    "stream.lake.closed", "stream.producers.rss", "stream.producers.venue_protocol",
    "stream.sources.aggregation", "stream.sources.extract_columns",
    "stream.sources.extract_formats", "stream.sources.kinesis_parser", "stream.slices",
)  # fmt: skip
"""Whose branches guide Atheris."""
MAX_BYTES = 8_192
CHANGED = 23
"""Payloads of a slice that are changed, each in another way."""


class Findings:
    """What failed, one input per place of failure: the shortest that was seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, str] = {}
        self.executions = 0
        self._size: dict[str, int] = {}

    def watch(self, check: Callable[[bytes], None], data: bytes) -> None:
        """Run the check, keep what it raises."""
        self.executions += 1
        try:
            check(data)
        except Exception as error:  # noqa: BLE001 - any is a finding
            self._keep(error, data)

    def _keep(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "site-packages" not in f.filename]
        place = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if len(data) >= self._size.get(place, sys.maxsize):
            return
        self._size[place] = len(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{sha256(place.encode()).hexdigest()[:12]}.bin"
        (self.folder / name).write_bytes(data)
        self.found[place] = f"{name}: {str(error)[:300]}"

    def report(self, began: float, engine: str) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "engine": engine,
                "executions": self.executions,
                "seconds": round(time.monotonic() - began, 1),
                "findings": self.found,
            }
        )


def main() -> None:
    """Fuzz until the time is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("decoder")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    findings, began = Findings(options.findings), time.monotonic()
    try:
        import atheris  # noqa: PLC0415 - in an environment of its own
    except ImportError:
        _fuzz_blindly(options, findings)
        options.report.write_text(findings.report(began, "blind"))
        return
    _fuzz_guided(atheris, options, findings, began)


def _fuzz_blindly(options: argparse.Namespace, findings: Findings) -> None:
    from decoders import decoders  # noqa: PLC0415 - must come after Atheris' instrumentation
    from feed_checks import BETWEEN  # noqa: PLC0415
    from mutation import mutate  # noqa: PLC0415

    decoder = decoders()[options.decoder]
    seeds, rng = list(decoder.seeds()), random.Random(options.seed)
    end = time.monotonic() + options.seconds
    for seed in seeds:
        findings.watch(decoder.check, seed)
    while time.monotonic() < end:
        if decoder.is_slice:
            first = rng.choice(seeds)
            base = first if rng.random() < 0.5 else mutate(first, rng, seeds)
            payloads = [mutate(rng.choice((base, first)), rng, seeds) for _ in range(CHANGED)]
            data = BETWEEN.join([base, *(payload[:MAX_BYTES] for payload in payloads)])
        else:
            data = mutate(rng.choice(seeds), rng, seeds)[:MAX_BYTES]
        findings.watch(decoder.check, data)


def _fuzz_guided(
    atheris: object, options: argparse.Namespace, findings: Findings, began: float
) -> None:
    with atheris.instrument_imports(include=list(MODULES)):  # type: ignore[attr-defined]
        from decoders import decoders  # noqa: PLC0415
    from mutation import mutate  # noqa: PLC0415

    decoder = decoders()[options.decoder]
    seeds = list(decoder.seeds())
    options.corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (options.corpus / f"seed-{number:03d}").write_bytes(seed)

    def check(data: bytes) -> None:
        findings.watch(decoder.check, data)
        if time.monotonic() - began > options.seconds:
            options.report.write_text(findings.report(began, "atheris"))

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.25:
            return bytes(atheris.Mutate(data, max_size))  # type: ignore[attr-defined]
        return mutate(data, rng, seeds)[:max_size]

    arguments = [
        sys.argv[0], str(options.corpus), f"-seed={options.seed}", f"-max_len={MAX_BYTES}",
        f"-max_total_time={int(options.seconds) + 1}", f"-artifact_prefix={options.report.parent}/",
        "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(arguments, check, custom_mutator=change)  # type: ignore[attr-defined]
    with contextlib.suppress(SystemExit):
        atheris.Fuzz()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
