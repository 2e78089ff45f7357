"""The documentation of a published build: one page, made by dbt once, kept with its artifacts."""

from __future__ import annotations

import http.server
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.gold.artifacts import DOCUMENTATION, keep_artifacts, read_artifact
from batch.gold.dbt_process import DBT_PAGE, run_dbt
from batch.gold.project import find_project
from batch.gold.slots import slot_environment
from stream.errors import ConfigError
from stream.lake.connect import connect_lake
from stream.lake.gold import GoldBuild, read_published, slot_file
from stream.lake.store import Store
from stream.settings import Settings, child_environment

LOOPBACK = "127.0.0.1"


def read_page(settings: Settings, target: str) -> bytes:
    """The page of the published build. Raises: ConfigError before the first build."""
    lake = connect_lake(settings)
    build = read_published(lake.store, target)
    if build is None:
        raise ConfigError(f"no build of Gold for target {target} yet: run `headrace gold`")
    kept = read_artifact(lake.store, target, DBT_PAGE, build.number)
    if kept is not None:
        return kept
    folder = settings.home / "gold" / f"docs-{target}"
    with _readable(settings, target, build, folder, lake.store) as places:
        arguments = ["docs", "generate", "--static"]
        run_dbt(find_project(), arguments, folder, {**child_environment(settings), **places})
    page = (folder / "target" / DBT_PAGE).read_bytes()
    keep_artifacts(lake.store, target, build.number, folder, DOCUMENTATION)
    return page


@contextmanager
def _readable(
    settings: Settings, target: str, build: GoldBuild, folder: Path, store: Store
) -> Iterator[dict[str, str]]:
    """Where dbt finds the build. It opens files for writing, which would lock out every reader of
    the published one: it gets a copy.
    """
    if target != "local":
        yield slot_environment(target, build.slot, store)
        return
    published = slot_file(settings.home, build.slot)
    copy = folder / published.name  # dbt names the database by the file
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(published, copy)
    try:
        yield {"DBT_TARGET": "local", "DBT_GOLD_FILE": str(copy.absolute())}
    finally:
        copy.unlink()


def serve_page(page: bytes, port: int, announce: Callable[[str], object]) -> None:
    """Serve one page on loopback until interrupted. `announce` gets its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Requests of one reader are no news."""

    with http.server.ThreadingHTTPServer((LOOPBACK, port), Handler) as server:
        announce(f"http://{LOOPBACK}:{server.server_port}/")
        server.serve_forever()
