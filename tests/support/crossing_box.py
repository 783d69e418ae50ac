"""A procedural scene with a still background and one moving body."""

from recapture.datasets.scenes.assemble import make_scene
from recapture.datasets.scenes.layout import Room, SceneObject, Texture


def crossing_box(camera):
    """Return the scene of a box that crosses a bricked room before a source camera."""
    walls = tuple(
        Texture("bricked", ((0.7, 0.6 - 0.05 * n, 0.3), (0.3, 0.2, 0.1 + 0.1 * n)), phase=(n, 2 * n, 0.3))
        for n in range(6)
    )
    box = SceneObject(
        "box",
        (0.5, 0.5, 0.5),
        (-0.8, 0.8, 3.5),
        velocity=(0.15, 0.0, 0.0),
        texture=Texture("checkered", ((0.9, 0.2, 0.5), (0.9, 0.6, 0.7))),
    )
    return make_scene([box], Room(textures=walls), camera)
