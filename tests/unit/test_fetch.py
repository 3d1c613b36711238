"""Downloads from a loopback server that misbehaves in every way, and files on disk that are not the right ones."""

import gzip
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import time
from contextlib import contextmanager

import pytest

from geolib.fetch import DataError, Source, read_verified

CONTENT = bytes(range(256)) * 500
PACKED = gzip.compress(CONTENT, mtime=0)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def md5(raw: bytes) -> str:
    return hashlib.md5(raw).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``/<behaviour>/<name>``."""

    def do_GET(self):
        _, behaviour, name = self.path.split("/")
        self.server.asked.append(self.path)
        body = self.server.files[name]
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour == "broken":
            self.send_error(500)
            return
        if behaviour == "hangs":
            time.sleep(3)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "truncates":
            self.wfile.write(body[: len(body) // 2])
        elif behaviour == "stalls":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(3)
        elif behaviour == "corrupts":
            self.wfile.write(b"\0" * len(body))
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {"numbers.gz": PACKED}, []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def address(server, behaviour: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{behaviour}/"


def source(*mirrors: str) -> Source:
    return Source("numbers", mirrors, {"numbers": sha256(CONTENT)}, {"numbers.gz": md5(PACKED)})


def tree(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_downloads_once_and_then_reads_from_disk(server, tmp_path, capsys):
    first = read_verified(source(address(server, "ok")), tmp_path)
    again = read_verified(source(address(server, "ok")), tmp_path)
    assert first == again == {"numbers": CONTENT}
    assert server.asked == ["/ok/numbers.gz"]
    assert tree(tmp_path) == {"numbers", "numbers/numbers.gz"}
    assert "100%" in capsys.readouterr().err  # the progress bar


@pytest.mark.parametrize(
    ("behaviour", "reported"),
    [
        ("missing", "HTTP status 404"),
        ("broken", "HTTP status 500"),
        ("hangs", "ReadTimeout"),
        ("stalls", "timed out"),
        ("truncates", "IncompleteRead"),
        ("corrupts", f"found MD5 {md5(bytes(len(PACKED)))}"),
    ],
)
def test_a_bad_server_is_named_and_leaves_nothing(server, tmp_path, behaviour, reported):
    with pytest.raises(DataError) as caught:
        read_verified(source(address(server, behaviour)), tmp_path, timeout=0.5)
    message = str(caught.value)
    assert f"could not download numbers.gz (expected MD5 {md5(PACKED)})" in message
    assert f"{address(server, behaviour)}numbers.gz" in message
    assert reported in message
    assert f"put the numbers.gz itself in {tmp_path / 'numbers'}" in message
    assert tree(tmp_path) == set()


@contextmanager
def refusing_port():
    """A port that nothing listens on."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_a_refusing_server_is_named(tmp_path):
    with refusing_port() as port, pytest.raises(DataError, match=f"127.0.0.1:{port}.*ConnectionError"):
        read_verified(source(f"http://127.0.0.1:{port}/"), tmp_path)
    assert tree(tmp_path) == set()


@pytest.mark.parametrize("first", ["missing", "hangs", "stalls", "truncates", "corrupts"])
def test_the_next_mirror_is_tried(server, tmp_path, first):
    found = read_verified(source(address(server, first), address(server, "ok")), tmp_path, timeout=0.5)
    assert found == {"numbers": CONTENT}
    assert tree(tmp_path) == {"numbers", "numbers/numbers.gz"}


def test_an_archive_with_the_right_hash_and_the_wrong_content_is_refused(server, tmp_path):
    wrong = Source("numbers", [address(server, "ok")], {"numbers": sha256(b"other")}, {"numbers.gz": md5(PACKED)})
    with pytest.raises(DataError, match=f"has content of SHA-256 {sha256(CONTENT)}, expected {sha256(b'other')}"):
        read_verified(wrong, tmp_path)


@pytest.mark.parametrize(
    ("name", "raw", "found"),
    [
        ("numbers", CONTENT[:-1], f"has content of SHA-256 {sha256(CONTENT[:-1])}"),
        ("numbers", b"", f"has content of SHA-256 {sha256(b'')}"),
        ("numbers.gz", PACKED[:-20], "cannot be read"),
        ("numbers.gz", b"not gzip", "cannot be read"),
        ("numbers.gz", PACKED[:40] + b"\xff" * 40 + PACKED[80:], "cannot be read"),
        ("numbers.gz", gzip.compress(b"other"), f"has content of SHA-256 {sha256(b'other')}"),
    ],
)
def test_a_wrong_file_on_disk_is_reported_and_kept(server, tmp_path, name, raw, found):
    folder = tmp_path / "numbers"
    folder.mkdir()
    (folder / name).write_bytes(raw)
    with pytest.raises(DataError) as caught:
        read_verified(source(address(server, "ok")), tmp_path)
    message = str(caught.value)
    assert str(folder / name) in message
    assert found in message
    assert sha256(CONTENT) in message
    assert "delete it to have it downloaded again" in message
    assert (folder / name).read_bytes() == raw
    assert server.asked == []


@pytest.mark.parametrize(("name", "raw"), [("numbers", CONTENT), ("numbers.gz", gzip.compress(CONTENT, 1, mtime=5))])
def test_plain_and_gzipped_files_are_read_whatever_their_compression(server, tmp_path, name, raw):
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / name).write_bytes(raw)
    assert read_verified(source(), tmp_path) == {"numbers": CONTENT}


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, raw in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    return buffer.getvalue()


def batches(server, members: dict[str, bytes]) -> Source:
    packed = archive(members)
    server.files["batches.tar.gz"] = packed
    content = {"a.bin": sha256(b"aa"), "b.bin": sha256(b"bb")}
    return Source("batches", [address(server, "ok")], content, {"batches.tar.gz": md5(packed)})


def test_an_archive_is_unpacked_and_only_its_data_kept(server, tmp_path):
    wanted = batches(server, {"batches/a.bin": b"aa", "batches/b.bin": b"bb", "batches/readme.html": b"x"})
    assert read_verified(wanted, tmp_path) == {"a.bin": b"aa", "b.bin": b"bb"}
    assert tree(tmp_path) == {"batches", "batches/a.bin", "batches/b.bin"}
    assert read_verified(wanted, tmp_path) == {"a.bin": b"aa", "b.bin": b"bb"}
    assert len(server.asked) == 1


def test_a_missing_file_of_an_archive_is_restored_and_the_others_kept(server, tmp_path):
    wanted = batches(server, {"batches/a.bin": b"aa", "batches/b.bin": b"bb"})
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches/a.bin").write_bytes(b"aa")
    kept = (tmp_path / "batches/a.bin").stat().st_ino
    assert read_verified(wanted, tmp_path) == {"a.bin": b"aa", "b.bin": b"bb"}
    assert (tmp_path / "batches/a.bin").stat().st_ino == kept


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"batches/a.bin": b"aa", "batches/b.bin": b"xx"}, f"SHA-256 {sha256(b'xx')}, expected {sha256(b'bb')}"),
        ({"batches/a.bin": b"aa"}, "b.bin is missing although its archive was unpacked"),
        ({"batches/a.bin": b"aa", "../escape": b"!"}, "cannot be unpacked.*escape"),
    ],
)
def test_a_bad_archive_leaves_nothing(server, tmp_path, members, message):
    root = tmp_path / "root"
    with pytest.raises(DataError, match=message):
        read_verified(batches(server, members), root)
    assert tree(root) == set()
    assert tree(tmp_path) == {"root"}


def test_something_that_is_no_archive_cannot_be_unpacked(server, tmp_path):
    server.files["batches.tar.gz"] = b"junk"
    wanted = Source("batches", [address(server, "ok")], {"a.bin": sha256(b"aa")}, {"batches.tar.gz": md5(b"junk")})
    with pytest.raises(DataError, match=r"batches.tar.gz cannot be unpacked"):
        read_verified(wanted, tmp_path)


def test_a_download_of_cifar_says_what_to_put_there_by_hand(server, tmp_path):
    wanted = batches(server, {})
    with pytest.raises(DataError, match=r"put the \.bin files of batches\.tar\.gz in"):
        read_verified(Source("batches", [address(server, "missing")], wanted.content, wanted.archives), tmp_path)


def test_a_root_that_cannot_be_written_says_so(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write below .*point GEOLIB_DATA at one that is"):
        read_verified(source(address(server, "ok")), tmp_path / "file")
