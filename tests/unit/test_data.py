"""Readers on real data sets, and on small files in the official formats."""

import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest
import torch
from helpers import require

import geolib
from geolib import data
from geolib.data import DataError


def test_digits_ship_with_the_library():
    digits = geolib.load_dataset("digits")
    assert digits.x_train.shape == (1297, 1, 8, 8)
    assert digits.x_test.shape == (500, 1, 8, 8)
    assert digits.classes == 10
    assert digits.x_train.dtype == torch.float32
    assert (digits.x_train.min(), digits.x_train.max()) == (0, 1)
    assert digits.y_test.bincount().tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]  # stratified
    assert torch.equal(digits.x_test, geolib.load_dataset("digits").x_test)


def test_digits_are_scikit_learns_own_images():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    ours = geolib.load_dataset("digits")
    x, y = torch.cat([ours.x_train, ours.x_test]), torch.cat([ours.y_train, ours.y_test])
    rows = (x * 16).double().reshape(len(x), -1).numpy()
    assert [known[row.tobytes()] for row in rows] == y.tolist()


def test_standardized_digits_have_mean_zero_and_deviation_one_over_training_images():
    digits = geolib.load_dataset("digits")
    standard = digits.standardized()
    assert float(standard.x_train.mean()) == pytest.approx(0, abs=1e-5)
    assert float(standard.x_train.std()) == pytest.approx(1, abs=1e-5)
    shift, scale = digits.x_train.mean(), digits.x_train.std()
    torch.testing.assert_close(standard.x_test, (digits.x_test - shift) / scale)


def test_validation_split_cuts_the_training_part_and_forgets_the_test_part():
    digits = geolib.load_dataset("digits")
    split = digits.validation_split(0.2, seed=3)
    assert (len(split.x_train), len(split.x_test)) == (1038, 259)
    together = torch.cat([split.x_train, split.x_test]).flatten(1)
    whole = digits.x_train.flatten(1)
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, whole.tolist()))
    assert torch.equal(split.y_test, digits.validation_split(0.2, seed=3).y_test)
    assert not torch.equal(split.y_test, digits.validation_split(0.2, seed=4).y_test)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1e-9])
def test_validation_split_refuses_an_empty_part(fraction):
    with pytest.raises(ValueError, match="both parts need at least one point"):
        geolib.load_dataset("digits").validation_split(fraction, seed=0)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown data set 'minst'; choose one of cifar10, cifar100, digits, fashion-mnist"
    ):
        geolib.load_dataset("minst")


@pytest.mark.parametrize(
    ("name", "folder", "shape", "sizes", "counts"),
    [
        ("mnist", "mnist", (1, 28, 28), (60000, 10000), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("fashion-mnist", "fashion-mnist", (1, 28, 28), (60000, 10000), [1000] * 10),
        ("cifar10", "cifar-10-batches-bin", (3, 32, 32), (50000, 10000), [1000] * 10),
    ],
)
def test_real_data(data_root, name, folder, shape, sizes, counts):
    require((data_root / folder).is_dir(), f"{folder}/ below GEOLIB_DATA")
    loaded = geolib.load_dataset(name, data_root)
    assert loaded.x_train.shape == (sizes[0], *shape)
    assert loaded.x_test.shape == (sizes[1], *shape)
    assert loaded.y_test.bincount().tolist() == counts
    assert (loaded.x_train.min(), loaded.x_train.max()) == (0, 1)
    assert (loaded.x_train.dtype, loaded.y_train.dtype) == (torch.float32, torch.int64)


def test_known_pixels_of_real_data(data_root):
    # The first training image of MNIST is a five; CIFAR-10's first test image is a cat and starts with R 158.
    require((data_root / "mnist").is_dir() and (data_root / "cifar-10-batches-bin").is_dir(), "MNIST and CIFAR-10")
    mnist = geolib.load_dataset("mnist", data_root)
    assert int(mnist.y_train[0]) == 5
    assert int((mnist.x_train[0] > 0).sum()) == 166
    cifar = geolib.load_dataset("cifar10", data_root)
    assert int(cifar.y_test[0]) == 3
    assert (cifar.x_test[0, :, 0, 0] * 255).round().tolist() == [158, 112, 49]


def test_real_files_are_found_through_the_environment_and_plain(data_root, tmp_path, monkeypatch):
    require((data_root / "mnist").is_dir(), "MNIST below GEOLIB_DATA")
    (tmp_path / "mnist").mkdir()
    for path in (data_root / "mnist").glob("*.gz"):
        (tmp_path / "mnist" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    monkeypatch.setenv("GEOLIB_DATA", str(tmp_path))
    assert torch.equal(geolib.load_dataset("mnist").x_test, geolib.load_dataset("mnist", data_root).x_test)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("cifar10", "cifar-10-batches-bin")])
def test_a_damaged_real_file_is_refused_and_named(data_root, tmp_path, name, folder):
    require((data_root / folder).is_dir(), f"{folder}/ below GEOLIB_DATA")
    shutil.copytree(data_root / folder, tmp_path / folder)
    victim = sorted(path for path in (tmp_path / folder).iterdir() if path.suffix in (".gz", ".bin"))[0]
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(raw)
    with pytest.raises(DataError, match=victim.name):
        geolib.load_dataset(name, tmp_path)


def cifar100_file(path, fine: list[int]) -> np.ndarray:
    """Write records of CIFAR-100's binary version: coarse label, fine label, 3 x 32 x 32 pixels."""
    pixels = np.random.default_rng(len(fine)).integers(0, 256, (len(fine), 3, 32, 32), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(bytes([7, label]) + image.tobytes() for label, image in zip(fine, pixels, strict=True)))
    return pixels


def test_cifar100_reader_takes_the_fine_label(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-binary"
    train, test = cifar100_file(folder / "train.bin", [99, 0, 41]), cifar100_file(folder / "test.bin", [3, 98])
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("train.bin", "test.bin")}
    monkeypatch.setitem(data._SOURCES, "cifar100", data.Source("cifar-100-binary", [], hashes, {}))
    loaded = geolib.load_dataset("cifar100", tmp_path)
    assert loaded.classes == 100
    assert loaded.y_train.tolist() == [99, 0, 41]
    assert loaded.y_test.tolist() == [3, 98]
    assert torch.equal((loaded.x_train * 255).round().byte(), torch.from_numpy(train))
    assert torch.equal((loaded.x_test * 255).round().byte(), torch.from_numpy(test))


def test_cifar100_that_is_not_the_official_one_is_refused(tmp_path):
    cifar100_file(tmp_path / "cifar-100-binary" / "train.bin", [1])
    cifar100_file(tmp_path / "cifar-100-binary" / "test.bin", [1])
    with pytest.raises(DataError, match=r"train\.bin has content of SHA-256"):
        geolib.load_dataset("cifar100", tmp_path)


def idx(*shape: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def test_idx_reader():
    assert data._read_idx(idx(2, 3) + bytes(range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0\0", idx(2, 3), idx(2) + b"abc", idx(1, kind=9) + b"a", b"\0\0\x08\x00", b"\0\0\x08\xff" + bytes(20)],
)
def test_idx_reader_refuses(raw):
    with pytest.raises(DataError, match="not an IDX file of unsigned bytes"):
        data._read_idx(raw)


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_cifar_reader_refuses(size):
    with pytest.raises(DataError, match="not a whole number of CIFAR records of 3073 bytes"):
        data._read_cifar(bytes(size), 1)


def test_every_source_is_complete():
    for source in data._SOURCES.values():
        names = set(source.content)
        zipped = {f"{name}.gz" for name in names}
        assert set(source.archives) == zipped or (
            len(source.archives) == 1 and next(iter(source.archives)).endswith(".tar.gz")
        )
        assert len(source.mirrors) >= 2
        assert all(mirror.endswith("/") for mirror in source.mirrors)
        assert all(len(digest) == 64 for digest in source.content.values())
        assert all(len(digest) == 32 for digest in source.archives.values())


def test_a_reduced_set_is_a_random_part_in_order_with_the_test_points_whole():
    digits = geolib.load_dataset("digits")
    few = digits.reduced(200, seed=3)
    assert (len(few.x_train), len(few.y_train)) == (200, 200)
    assert few.x_test is digits.x_test
    assert few.y_test is digits.y_test
    places = {point.numpy().tobytes(): place for place, point in enumerate(digits.x_train)}
    kept = [places[point.numpy().tobytes()] for point in few.x_train]
    assert kept == sorted(kept) != list(range(200))
    assert torch.equal(few.y_train, digits.y_train[kept])
    assert torch.equal(few.x_train, digits.reduced(200, seed=3).x_train)
    assert not torch.equal(few.x_train, digits.reduced(200, seed=4).x_train)
    assert torch.equal(digits.reduced(1297, seed=3).x_train, digits.x_train)


@pytest.mark.parametrize("points", [0, 9, 1298, 50.0, True])
def test_reduced_refuses(points):
    with pytest.raises(ValueError, match=f"from 10, one a class, to 1297, all there are; got {points}"):
        geolib.load_dataset("digits").reduced(points, seed=0)
