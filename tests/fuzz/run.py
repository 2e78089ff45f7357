"""Fuzz the decoders: no bytes may crash one, vanish in it, or be read in two ways.

    python tests/fuzz/run.py --seconds 600                 all decoders, 10 minutes in all
    python tests/fuzz/run.py --seconds 60 --decoder trades
    python tests/fuzz/run.py --seconds 600 --json

Guided by coverage with Atheris, from an environment of its own:

    python -m venv --without-pip .venv/fuzz
    uv pip install --python .venv/fuzz/bin/python --require-hashes -r deploy/tools/fuzz.txt

Without it the same changes are made blindly, and so they are to feeds, whose inputs are slices. The
environment in which this runs must be able to import headrace; Atheris' process borrows its
libraries. Findings are inputs in tests/fixtures/fuzz/<decoder>/, which a fast test replays from
then on: mend the decoder, keep the file. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GUIDED = ROOT / ".venv" / "fuzz" / "bin" / "python"
FINDINGS = ROOT / "tests" / "fixtures" / "fuzz"
GRACE_SECONDS = 120.0


def main() -> None:
    """Fuzz each decoder for its share of the time, print a table."""
    sys.path.insert(0, str(Path(__file__).parent))
    from decoders import decoders  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--decoder", action="append", choices=sorted(decoders()))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="without Atheris")
    parser.add_argument("--findings", type=Path, default=FINDINGS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.decoder or list(decoders())
    python = sys.executable if options.blind or not GUIDED.exists() else str(GUIDED)
    reports = {
        name: fuzz(
            sys.executable if decoders()[name].is_slice else python,
            name,
            options.seconds / len(names),
            options.seed,
            options.findings,
        )
        for name in names
    }
    if options.json:
        print(json.dumps(reports))
    else:
        _print(reports)
    sys.exit(1 if any(report["findings"] for report in reports.values()) else 0)


def fuzz(python: str, name: str, seconds: float, seed: int, findings: Path) -> dict[str, Any]:
    """One decoder in a process of its own: what it reports, or how it died."""
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as folder:
        report = Path(folder) / "report.json"
        command = [python, str(Path(__file__).with_name("fuzz_one.py")), name]
        command += ["--seconds", str(seconds), "--seed", str(seed), "--report", str(report)]
        command += ["--findings", str((findings / name).absolute())]
        command += ["--corpus", str(Path(folder) / "corpus")]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *site.getsitepackages()])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
        if not report.exists():
            for artifact in Path(folder).glob("*-*"):  # crash-, timeout-, oom- and a hash
                (findings / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(artifact, findings / name / f"{artifact.name[:24]}.bin")
            died = {f"died with {done.returncode}": done.stdout[-3_000:]}
            return {"engine": "?", "executions": 0, "seconds": seconds, "findings": died}
        found: dict[str, Any] = json.loads(report.read_text())
        return found


def _print(reports: dict[str, dict[str, Any]]) -> None:
    print(f"{'decoder':18}{'engine':>10}{'seconds':>9}{'inputs':>10}{'findings':>10}")
    for name, report in reports.items():
        print(
            f"{name:18}{report['engine']:>10}{report['seconds']:>9,.0f}"
            f"{report['executions']:>10,}{len(report['findings']):>10}"
        )
        for place, detail in report["findings"].items():
            print(f"    {place}\n        {detail}")


if __name__ == "__main__":
    main()
