"""Names that become paths: none leads out of the lake, a home or a folder of files."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch.extracts import ExtractRequest
from batch.extracts.files import FilesExtractor
from batch.extracts.folder import open_place
from batch.extracts.landing import check_names
from stream.errors import ConfigError, FatalError
from stream.lake.gold import GoldBuild, read_published
from stream.lake.layout import ExtractManifestKey, ExtractPartKey, GoldBuildKey
from stream.lake.store import open_store, sha256
from stream.sources.extract import Manifest, PartRef, read_manifest

OUT = [
    "../x",
    "..",
    "a/../../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "",
    ".",
    "a\0b",
    "%2e%2e%2fx",
    "a\n",
]
PART = PartRef(ExtractPartKey("files", "mine", 0, 0, "jsonl").path, "jsonl", 1, 3, "", {})
MANIFEST = Manifest("files", "trades", "trades", "mine", 0, None, None, {}, (PART,))


@given(run_id=st.text(max_size=130))
@example(run_id="../../x")
@example(run_id="a/..")
@example(run_id="a\n")
def test_run_id_that_is_taken_makes_a_key_inside_its_folder(run_id):
    try:
        check_names("files", run_id)
    except ConfigError:
        return
    for key in (ExtractManifestKey("files", run_id), ExtractPartKey("files", run_id, 0, 0, "json")):
        assert type(key).parse(key.path) == key
        assert not {"..", "."} & set(key.path.split("/"))
        assert re.fullmatch(r"[ -~]+", key.path)


@pytest.mark.parametrize("run_id", OUT)
def test_run_id_that_leads_elsewhere_is_refused_by_the_command_line(say, planted, home, run_id):
    code, printed = say("extract", "simulated", "prices_daily", "--run-id", run_id or " ")
    assert (code, "run id" in printed) == (2, True), printed
    assert not [path for path in home.rglob("*") if path.is_file() and "lake" in path.parts]


@pytest.mark.parametrize("path", ["../secret", "a/../../secret"])
def test_store_reads_and_writes_nothing_outside_its_root(tmp_path, path):
    (tmp_path / "secret").write_bytes(b"planted")
    store = open_store(f"file://{tmp_path}/lake")
    with pytest.raises(ValueError, match=r"\.\."):
        store.get(path)
    with pytest.raises(ValueError, match=r"\.\."):
        store.put_once(f"{path}-new", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "secret"]


@pytest.mark.parametrize("path", [*OUT, "ledger/feed=trades/0.json", "bronze/source=files/../x"])
def test_manifest_that_names_another_object_as_its_part_is_refused(tmp_path, path):
    store = open_store(f"file://{tmp_path}/lake")
    part = replace(PART, path=path, sha256=sha256(b"{}\n"))
    store.put(MANIFEST.path, replace(MANIFEST, parts=(part,)).to_bytes())
    with pytest.raises(FatalError, match="is not a manifest"):
        read_manifest(store, "files", "mine")
    store.put(MANIFEST.path, MANIFEST.to_bytes())
    assert read_manifest(store, "files", "mine") == MANIFEST


@pytest.mark.parametrize("slot", OUT)
def test_gold_record_whose_slot_leads_elsewhere_is_refused(tmp_path, slot):
    store = open_store(f"file://{tmp_path}/lake")
    build = GoldBuild(1, slot, 0, "", {}, relations={"t": "main"})
    store.put(GoldBuildKey("local", 1).path, build.to_bytes())
    with pytest.raises(FatalError, match="no record of a build"):
        read_published(store, "local")


def test_archive_that_could_hold_paths_is_no_format_that_is_unpacked(tmp_path):
    """Zip and tar members have names; gzip has none that is used."""
    for name in ("a.zip", "b.tar", "c.tar.gz", "d.tgz"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"a\.zip, b\.tar, c\.tar\.gz, d\.tgz: no known ending"):
        list(FilesExtractor(tmp_path, feed="trades").extract(ExtractRequest("trades")))


def test_link_that_appears_after_the_look_is_not_followed(tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    (tmp_path / "secret.jsonl").write_bytes(b"planted")
    (folder / "a.jsonl").write_bytes(b"{}")
    place = open_place(folder)
    [found] = place.files()
    (folder / "a.jsonl").unlink()
    (folder / "a.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(ConfigError, match=r"a\.jsonl: cannot be read"), place.open(found) as stream:
        assert stream.read() != b"planted"
