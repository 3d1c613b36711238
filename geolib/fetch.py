"""Find a data file on disk or download it, and vouch for its content by hash.

Nothing read here is ever unpickled or executed: files are bytes until their SHA-256 is the expected one.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataError", "Source", "read_verified"]

#: Seconds without a byte after which a server counts as hanging.
TIMEOUT_S = 30.0


class DataError(RuntimeError):
    """A data file is missing, damaged, not the expected one, or cannot be downloaded."""


@dataclass(frozen=True)
class Source:
    """What one data set consists of and where its files can be had.

    Attributes
    ----------
    folder
        Folder below the data root that holds the files.
    mirrors
        Base addresses, tried in order; an archive's address is the base followed by its name.
    content
        File name -> SHA-256 of its uncompressed bytes.
    archives
        Name of the file as downloaded -> its MD5: either ``<content name>.gz`` for each content file, or one
        ``.tar.gz`` that holds them all below `folder`.
    """

    folder: str
    mirrors: Sequence[str]
    content: Mapping[str, str]
    archives: Mapping[str, str]


def read_verified(source: Source, root: Path, *, timeout: float = TIMEOUT_S) -> dict[str, bytes]:
    """Return every content file's bytes, each equal in SHA-256 to what `source` states.

    Files already below `root` are used, plain or gzipped; only absent ones are downloaded. A file that is there but
    wrong is reported, never replaced: it may be the reader's own.

    Raises
    ------
    DataError
        Naming the file, the expected and the found hash, and the remedy.
    """
    folder = root / source.folder
    missing = [name for name in source.content if _find(folder, name) is None]
    try:
        for archive in _archives_for(source, missing):
            _download(source, archive, folder, timeout)
    except OSError as error:
        raise DataError(
            f"cannot write below {folder} ({error}); make the folder writable, or point GEOLIB_DATA at one that is"
        ) from error
    return {name: _read(folder, name, expected) for name, expected in source.content.items()}


def _archives_for(source: Source, missing: Sequence[str]) -> list[str]:
    """Name the archives that bring the missing files."""
    single = [f"{name}.gz" for name in missing if f"{name}.gz" in source.archives]
    return single if len(single) == len(missing) else list(source.archives)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


def _read(folder: Path, name: str, expected: str) -> bytes:
    path = _find(folder, name)
    if path is None:
        raise DataError(f"{folder / name} is missing although its archive was unpacked; expected SHA-256 {expected}")
    remedy = "delete it to have it downloaded again, or put the official file in its place"
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}), so it has no content hash; expected SHA-256 {expected}; {remedy}"
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != expected:
        raise DataError(f"{path} has content of SHA-256 {found}, expected {expected}; {remedy}")
    return raw


def _download(source: Source, archive: str, folder: Path, timeout: float) -> None:
    """Bring one archive into `folder`, whole and verified, or leave `folder` as it was."""
    import pooch

    expected, failures = source.archives[archive], []
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The temporary folder lies beside its goal, so that every move below stays on one file system.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".geolib-download-") as scratch:
        part = Path(scratch) / archive
        for mirror in source.mirrors:
            url = mirror + archive
            fetch = pooch.HTTPDownloader(progressbar=True, timeout=timeout)
            try:
                fetch(url, str(part), None)
            except Exception as error:  # requests raises many kinds; each is one mirror's failure, reported below
                failures.append(f"{url}: {_reason(error)}")
                continue
            found = pooch.file_hash(str(part), alg="md5")
            if found == expected:
                _install(part, source, folder)
                return
            failures.append(f"{url}: found MD5 {found}")
    raise DataError(
        f"could not download {archive} (expected MD5 {expected}): {'; '.join(failures)}; check the network and try "
        f"again, or fetch it elsewhere and put {_by_hand(source, archive)} in {folder}"
    )


def _by_hand(source: Source, archive: str) -> str:
    return f"the {archive} itself" if archive.removesuffix(".gz") in source.content else f"the .bin files of {archive}"


def _reason(error: Exception) -> str:
    """One short line: requests' messages nest several exceptions' reprs."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    return f"{type(error).__name__}: {error}"[:160]


def _install(archive: Path, source: Source, folder: Path) -> None:
    """Move a verified archive, or the verified files in it, to their place: each file appears whole or not at all."""
    if not archive.name.endswith(".tar.gz"):
        folder.mkdir(exist_ok=True)
        archive.replace(folder / archive.name)
        return
    unpacked = archive.parent / "unpacked"
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        for name, expected in source.content.items():
            _read(unpacked / source.folder, name, expected)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name} cannot be unpacked ({error})") from error
    folder.mkdir(exist_ok=True)
    for name in source.content:
        if not (folder / name).exists():  # a file that was already there is the reader's; _read judges it
            (unpacked / source.folder / name).replace(folder / name)
    shutil.rmtree(unpacked)
