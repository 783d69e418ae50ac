import pytest
import torch
from support import tiny_base as tiny

from recapture.models.wan.load import load_base


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Tiny pipeline directories by name; do not write into them."""
    root = tmp_path_factory.mktemp("bases")
    return {
        "t2v": tiny.write_tiny_base(root / "t2v", "t2v"),
        "inpaint": tiny.write_tiny_base(root / "inpaint", "inpaint"),
        "i2v": tiny.write_tiny_base(root / "i2v", "inpaint", image=True),
        "vace": tiny.write_tiny_base(root / "vace", "vace"),
        "wan22": tiny.write_tiny_base(root / "wan22", "inpaint", two=True),
    }


@pytest.fixture(scope="session")
def bases(folders):
    return {name: load_base(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def bases_bf16(folders):
    return {name: load_base(folder, dtype=torch.bfloat16) for name, folder in folders.items()}


@pytest.fixture()
def clip():
    """A random video [9, 3, 32, 48] in [-1, 1] and a mask with a growing hole and a known first frame."""
    generator = torch.Generator().manual_seed(3)
    video = torch.rand(9, 3, 32, 48, generator=generator) * 2 - 1
    visible = torch.ones(9, 32, 48, dtype=torch.bool)
    for t in range(1, 9):
        visible[t, 4 : 6 + 2 * t, 20 : 24 + 2 * t] = False
    return video, visible
