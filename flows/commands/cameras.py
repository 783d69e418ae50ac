"""`recapture cameras`: convert camera files between dialects."""

from __future__ import annotations

from typing import Annotated

import typer

cameras_app = typer.Typer(help="Convert camera and trajectory files between dialects.", no_args_is_help=True)
FROM_HELP = (
    "auto, opencv, realestate10k, multicamvideo, colmap, nerfstudio, kubric, dycheck, tum, record3d, vipe, "
    "vista4d, neoverse, theta_phi_r, phi_theta_r, viewcrafter, postcam, inspatio. auto recognises .npz, "
    ".json and folders; text files need a name."
)
TO_HELP = (
    "opencv, realestate10k, multicamvideo, colmap, colmap_binary, nerfstudio, vista4d, neoverse, vipe, "
    "theta_phi_r, phi_theta_r, viewcrafter, postcam, inspatio."
)


@cameras_app.callback()
def cameras() -> None:
    """Keep `convert` a subcommand although it is the only one."""


@cameras_app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="File, or folder for colmap and dycheck; a path or fsspec URL.")
    ],
    target: Annotated[str, typer.Argument(help="File to write, or folder for colmap.")],
    source_format: Annotated[str, typer.Option("--from", help=FROM_HELP)] = "auto",
    target_format: Annotated[str, typer.Option("--to", help=TO_HELP)] = "opencv",
    camera: Annotated[
        str | None, typer.Option(help="Camera of a multicamvideo or dycheck source, such as cam05.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the video, if the source does not name it.")
    ] = None,
) -> None:
    """Convert a camera file to the axes, direction, units and intrinsics of another dialect."""
    from recapture.conf.errors import UserError
    from recapture.datasets.cameras.cameras import CameraFileError
    from recapture.datasets.cameras.files import convert_cameras

    try:
        convert_cameras(
            source,
            target,
            source_format=source_format,
            target_format=target_format,
            camera=camera,
            size=_size(size),
        )
    except (CameraFileError, OSError) as error:
        raise UserError(str(error)) from None
    typer.echo(f"{target}: {target_format}")


def _size(text: str | None) -> tuple[int, int] | None:
    from recapture.conf.errors import UserError

    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--size {text}: write WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(width), int(height)
