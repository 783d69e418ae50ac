"""Read and write COLMAP's sparse models: cameras and images in .txt or .bin, world to camera, OpenCV axes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

import fsspec
import numpy as np
from scipy.spatial.transform import Rotation

from recapture.datasets.cameras.cameras import (
    CameraFileError,
    Cameras,
    checked,
    need_lens,
    need_size,
    pinhole,
    read_bytes,
    rigid,
    write_bytes,
)
from recapture.datasets.media.natural_order import natural

FOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0")  # where a project keeps its model


@dataclass(frozen=True)
class _Model:
    """A camera model: its name, its number of parameters, and their meaning as fx fy cx cy and distortion."""

    name: str
    count: int
    focals: int  # 1: f is fx and fy
    fisheye: bool = False

    def lens(self, numbers: list[float]) -> tuple[np.ndarray, list[float]]:
        focal, centre = numbers[: self.focals], numbers[self.focals : self.focals + 2]
        terms = numbers[self.focals + 2 :]
        return pinhole(focal[0], focal[-1], *centre), terms + [0.0] * (4 - len(terms))


# By COLMAP's model number.
_MODELS = {
    0: _Model("SIMPLE_PINHOLE", 3, 1),
    1: _Model("PINHOLE", 4, 2),
    2: _Model("SIMPLE_RADIAL", 4, 1),
    3: _Model("RADIAL", 5, 1),
    4: _Model("OPENCV", 8, 2),
    5: _Model("OPENCV_FISHEYE", 8, 2, fisheye=True),
    6: _Model("FULL_OPENCV", 12, 2),
    8: _Model("SIMPLE_RADIAL_FISHEYE", 4, 1, fisheye=True),
    9: _Model("RADIAL_FISHEYE", 5, 1, fisheye=True),
}
_NUMBERS = {model.name: number for number, model in _MODELS.items()}


@dataclass(frozen=True)
class _Lens:
    model: _Model
    size: tuple[int, int]
    numbers: list[float]


@dataclass(frozen=True)
class _Image:
    quaternion: tuple[float, ...]  # w x y z
    translation: tuple[float, ...]
    camera: int
    name: str


def model_files(uri: str) -> tuple[str, str] | None:
    """Return the cameras and the images file of a model at or below a folder, or None if there is none."""
    fs, root = fsspec.core.url_to_fs(uri)
    for folder in FOLDERS:
        for suffix in ("bin", "txt"):
            inside = "/".join(part for part in (root.rstrip("/"), folder) if part)
            names = (f"{inside}/cameras.{suffix}", f"{inside}/images.{suffix}")
            if all(fs.isfile(name) for name in names):
                return (str(fs.unstrip_protocol(names[0])), str(fs.unstrip_protocol(names[1])))
    return None


def read_colmap(uri: str) -> Cameras:
    """Read a model's cameras in the natural order of their pictures' names; raises CameraFileError.

    uri: the model's folder, or the folder of its project.
    """
    files = model_files(uri)
    if files is None:
        raise CameraFileError(
            f"cameras {uri!r}: there is no COLMAP model; name a folder with cameras and images (.bin, .txt)"
        )
    binary = files[0].endswith(".bin")
    content = [read_bytes(file) for file in files]
    try:
        lenses = dict(_binary_lenses(content[0]) if binary else _text_lenses(content[0].decode()))
        images = list(_binary_images(content[1]) if binary else _text_images(content[1].decode()))
        return checked(_cameras(lenses, images), uri)
    except CameraFileError:
        raise
    except Exception as error:  # a broken file can break a parser anywhere
        raise CameraFileError(
            f"cameras {uri!r}: it cannot be read as a COLMAP model ({type(error).__name__}: {error}); "
            "export it again"
        ) from error


def _cameras(lenses: dict[int, _Lens], images: list[_Image]) -> Cameras:
    if not images:
        raise ValueError("it has no images")
    images = sorted(images, key=lambda image: natural(image.name))
    used = [lenses[image.camera] for image in images]
    sizes = {lens.size for lens in used}
    kinds = {lens.model.fisheye for lens in used}
    if len(sizes) > 1 or len(kinds) > 1:
        raise ValueError(
            f"its pictures have different sizes {sorted(sizes)} or lens kinds; undistort them first"
        )
    parts = [lens.model.lens(lens.numbers) for lens in used]
    length = max(len(terms) for _, terms in parts)
    distortion = np.array([terms + [0.0] * (length - len(terms)) for _, terms in parts])
    rotation = Rotation.from_quat([image.quaternion for image in images], scalar_first=True).as_matrix()
    return Cameras(
        rigid(rotation, np.array([image.translation for image in images])),
        np.stack([matrix for matrix, _ in parts]),
        sizes.pop(),
        tuple(image.name for image in images),
        distortion if distortion.any() else None,
        kinds.pop(),
    )


def _lens(model: _Model, size: tuple[int, int], numbers: list[float]) -> _Lens:
    if len(numbers) != model.count:
        raise ValueError(f"{model.name} has {len(numbers)} numbers, it must have {model.count}")
    return _Lens(model, size, numbers)


def _text_lenses(text: str) -> Iterator[tuple[int, _Lens]]:
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        number, name, width, height, *numbers = line.split()
        if name not in _NUMBERS:
            raise ValueError(f"camera model {name} is not supported; undistort the pictures first")
        size = (int(width), int(height))
        yield int(number), _lens(_MODELS[_NUMBERS[name]], size, [float(value) for value in numbers])


def _text_images(text: str) -> Iterator[_Image]:
    lines = iter([line for line in text.splitlines() if not line.startswith("#")])
    for line in lines:
        if not line.strip():
            continue
        _, *pose, camera, name = line.split(maxsplit=9)
        values = [float(value) for value in pose]
        yield _Image(tuple(values[:4]), tuple(values[4:]), int(camera), name.strip())
        next(lines, None)  # the picture's points; this line may be empty


def _binary_lenses(content: bytes) -> Iterator[tuple[int, _Lens]]:
    take = _reader(content)
    for _ in range(take("Q")[0]):
        number, model, width, height = take("iiQQ")
        if model not in _MODELS:
            raise ValueError(f"camera model number {model} is not supported; undistort the pictures first")
        numbers = take(f"{_MODELS[model].count}d")
        yield number, _lens(_MODELS[model], (width, height), list(numbers))


def _binary_images(content: bytes) -> Iterator[_Image]:
    stream = BytesIO(content)
    take = _reader(stream)
    for _ in range(take("Q")[0]):
        _, *pose, camera = take("i7di")
        name = bytearray()
        while (character := take("c")[0]) != b"\0":
            name += character
        stream.seek(24 * take("Q")[0], 1)  # x, y and the point id
        yield _Image(tuple(pose[:4]), tuple(pose[4:]), camera, name.decode())


def _reader(content: bytes | BytesIO) -> Callable[[str], tuple]:
    stream = BytesIO(content) if isinstance(content, bytes) else content

    def take(layout: str) -> tuple:
        size = struct.calcsize(f"<{layout}")
        piece = stream.read(size)
        if len(piece) != size:
            raise ValueError("it ends early")
        return struct.unpack(f"<{layout}", piece)

    return take


def write_colmap(uri: str, cameras: Cameras, *, binary: bool = False) -> None:
    """Write a model without points into the folder uri, as text or binary."""
    intrinsics = need_lens(cameras, uri, "a COLMAP model")
    width, height = need_size(cameras, uri, "a COLMAP model")
    model = _model_of(cameras)
    lenses: dict[tuple[float, ...], int] = {}
    images = []
    names = cameras.names or tuple(f"{index:05d}.png" for index in range(len(cameras)))
    quaternions = Rotation.from_matrix(cameras.world_to_camera[:, :3, :3]).as_quat(scalar_first=True)
    for index, name in enumerate(names):
        matrix = intrinsics[index]
        numbers = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
        if cameras.distortion is not None:
            numbers += cameras.distortion[index].tolist()
        number = lenses.setdefault(tuple(float(value) for value in numbers), len(lenses) + 1)
        pose = (*quaternions[index].tolist(), *cameras.world_to_camera[index, :3, 3].tolist())
        images.append((index + 1, pose, number, name))
    folder = uri.rstrip("/")
    if binary:
        head = [struct.pack("<Q", len(lenses))]
        for numbers_of, number in lenses.items():
            head.append(struct.pack("<iiQQ", number, _NUMBERS[model.name], width, height))
            head.append(struct.pack(f"<{model.count}d", *numbers_of))
        body = [struct.pack("<Q", len(images))]
        for number, pose, camera, name in images:
            body += [struct.pack("<i7di", number, *pose, camera), name.encode() + b"\0", struct.pack("<Q", 0)]
        files = {"cameras.bin": b"".join(head), "images.bin": b"".join(body), "points3D.bin": bytes(8)}
    else:
        cameras_text = [f"{number} {model.name} {width} {height} {_text(n)}" for n, number in lenses.items()]
        images_text = [f"{number} {_text(pose)} {camera} {name}\n" for number, pose, camera, name in images]
        files = {
            "cameras.txt": ("\n".join(cameras_text) + "\n").encode(),
            "images.txt": ("\n".join(images_text) + "\n").encode(),
            "points3D.txt": b"",
        }
    for name, content in files.items():
        write_bytes(f"{folder}/{name}", content)


def _model_of(cameras: Cameras) -> _Model:
    if cameras.distortion is None:
        return _MODELS[1]
    if cameras.fisheye:
        return _MODELS[5]
    return _MODELS[4] if cameras.distortion.shape[1] == 4 else _MODELS[6]


def _text(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.17g}" for number in numbers)
