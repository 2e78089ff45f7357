"""The documentation of a published build: one page, made by dbt once, kept with its artifacts."""

from __future__ import annotations

import http.server
from collections.abc import Callable

from batch.gold.artifacts import keep_artifacts, read_artifact
from batch.gold.dbt_process import DBT_PAGE, run_dbt
from batch.gold.project import find_project
from batch.gold.slots import slot_environment
from stream.errors import ConfigError
from stream.lake.connect import connect_lake
from stream.lake.gold import read_published, slot_file
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
    if target == "local":
        file = slot_file(settings.home, build.slot)
        places = {"DBT_TARGET": "local", "DBT_GOLD_FILE": str(file)}
    else:
        places = slot_environment(target, build.slot, lake.store.root)
    folder = settings.home / "gold" / f"docs-{target}"
    arguments = ["docs", "generate", "--static"]
    run_dbt(find_project(), arguments, folder, {**child_environment(settings), **places})
    page = (folder / "target" / DBT_PAGE).read_bytes()
    keep_artifacts(lake.store, target, build.number, folder)
    return page


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
