"""Files come whole and right from a web server, or not at all, whatever it does."""

import contextlib
import hashlib
import time

import pytest
import web_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_server import WebServer

from descnet3d import progress
from descnet3d.zoo import downloads
from descnet3d.zoo.downloads import DownloadError, Patience, UnreachableError

CONTENT = bytes(range(256)) * 400
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(downloads, "PATIENCE", Patience(4, 0.6, 256, 0.01, 0.02))
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    server = WebServer(folder)
    yield server
    server.stop()


def fetch(server, tmp_path, size=SIZE, sha256=SHA256, name="file"):
    return downloads.fetch_file(f"{server.address}/{name}", tmp_path / "got", sha256, size)


def leftovers(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.name != "served")


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_file_comes_whole_and_once(server, tmp_path, size):
    for _ in range(2):
        assert fetch(server, tmp_path, size).read_bytes() == CONTENT
    assert server.count("file") == 1
    assert leftovers(tmp_path) == ["got"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=3), known=st.booleans())
def test_a_file_that_breaks_off_anywhere_goes_on_from_there(server, tmp_path, cuts, known):
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "got").unlink()
    server.asked.clear()
    server.plans["/file"] = [web_server.cut(after) for after in cuts]
    got = fetch(server, tmp_path, len(CONTENT) if known else None)
    assert got.read_bytes() == CONTENT
    # Nothing that came is asked for again.
    come = 0
    for after, (_, headers) in zip(cuts, server.asked, strict=False):
        assert headers.get("Range", "bytes=0-") == f"bytes={come}-"
        come = min(come + after, len(CONTENT))
    assert leftovers(tmp_path) == ["got"]


def test_an_interrupted_call_is_taken_up_by_the_next(server, tmp_path):
    server.always["/file"] = web_server.cut(100)
    server.plans["/file"] = [web_server.cut(5000)]
    with pytest.raises(UnreachableError, match=r"broke off|IncompleteRead|more expected"):
        fetch(server, tmp_path)
    [part] = leftovers(tmp_path)
    assert part == "got.part"
    have = (tmp_path / part).stat().st_size
    assert have >= 5000
    del server.always["/file"]
    server.asked.clear()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[0][1]["Range"] == f"bytes={have}-"


def test_a_part_of_another_file_spoils_nothing(server, tmp_path):
    for stale in (b"x" * 1000, b"x" * len(CONTENT), b"x" * 2 * len(CONTENT)):
        (tmp_path / "got").unlink(missing_ok=True)
        (tmp_path / "got.part").write_bytes(stale)
        assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert fetch(server, tmp_path, None).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.plans["/file"] = [web_server.cut(5000), web_server.whole]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_waited_for(server, tmp_path, status):
    server.plans["/file"] = [web_server.refuse(status)] * 3
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.count("file") == 4


def test_a_server_that_asks_for_time_gets_it(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", Patience(4, 0.6, 256, 0.01, 5))
    server.plans["/file"] = [web_server.refuse(429, **{"Retry-After": "1"})]
    started = time.monotonic()
    fetch(server, tmp_path)
    assert time.monotonic() - started > 0.95


@pytest.mark.parametrize(
    ("plan", "kind", "message", "requests"),
    [
        (web_server.refuse(404), DownloadError, r"is not there \(404", 1),
        (web_server.refuse(403), DownloadError, "not open to you", 1),
        (web_server.refuse(418), DownloadError, "the server answers 418", 1),
        (web_server.refuse(500), UnreachableError, r"answers 500 .*\(4 attempts\)", 4),
        (web_server.refuse(429), UnreachableError, r"answers 429 .*\(4 attempts\)", 4),
        (web_server.other(CONTENT[:-1] + b"x"), DownloadError, "not the file that was exp", 2),
        (web_server.other(CONTENT[:-9]), DownloadError, "has 102391 bytes, and should have", 1),
        (web_server.other(CONTENT + b"x"), DownloadError, "has 102401 bytes, and should have", 1),
        (web_server.endless, DownloadError, "sends more than the 102400 bytes", 1),
        (web_server.redirect("/file"), DownloadError, "one redirect to the next", None),
        (web_server.trickle, UnreachableError, r"only \d+ bytes came in", 4),
        (web_server.silent, UnreachableError, r"timed out|Read timed", 4),
        (web_server.cut(10), UnreachableError, r"\(4 attempts\)", 4),
    ],
)
def test_a_failure_that_stays_is_told_in_one_line(server, tmp_path, plan, kind, message, requests):
    server.always["/file"] = plan
    started = time.monotonic()
    with pytest.raises(kind, match=message) as raised:
        fetch(server, tmp_path)
    assert time.monotonic() - started < 20
    assert type(raised.value) is kind
    assert f"{server.address}/file" in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "got").exists()
    assert requests in (None, server.count("file"))


def test_nobody_at_the_address(server, tmp_path):
    server.stop()
    with pytest.raises(UnreachableError, match="refused"):
        fetch(server, tmp_path)


def test_an_address_that_is_none(tmp_path):
    for address in ("http://", "http://[", "ftp://somewhere/file"):
        with pytest.raises(DownloadError, match="no address that can be fetched"):
            downloads.fetch_file(address, tmp_path / "got", SHA256)


def test_a_log_hears_now_and_then_how_far_it_is(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0.05)
    server.always["/file"] = web_server.steady(pieces=20, pause=0.02)
    fetch(server, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    shares = [int(line.split("%")[0].split()[-1]) for line in lines]
    assert len(shares) > 2 and shares == sorted(shares)
    assert all("file" in line and "\r" not in line for line in lines)


def test_slow_is_no_failure(server, tmp_path):
    server.always["/file"] = web_server.steady(pieces=20, pause=0.1)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.count("file") == 1


def test_redirects_are_followed_to_another_server(server, tmp_path):
    elsewhere = WebServer(server.folder)
    server.always["/moved"] = web_server.redirect(f"{elsewhere.address}/file", 307)
    server.always["/old"] = web_server.redirect("/moved", 301)
    elsewhere.plans["/file"] = [web_server.cut(1000)]
    assert fetch(server, tmp_path, name="old").read_bytes() == CONTENT
    elsewhere.stop()


def test_a_full_disk_is_named_and_not_kept_full(server, tmp_path):
    (tmp_path / "got.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="cannot be kept in .*No space left") as raised:
        fetch(server, tmp_path)
    assert "DESCNET3D_CACHE" in str(raised.value)
    assert leftovers(tmp_path) == []


def test_a_short_document_comes_whole_or_not_at_all(server):
    address = f"{server.address}/file"
    server.plans["/file"] = [web_server.cut(10), web_server.refuse(503)]
    assert downloads.fetch_bytes(address, len(CONTENT)) == CONTENT
    with pytest.raises(DownloadError, match="sends more than the 100 bytes"):
        downloads.fetch_bytes(address, 100)
    with pytest.raises(DownloadError, match="is not there"):
        downloads.fetch_bytes(f"{server.address}/none", 100)
