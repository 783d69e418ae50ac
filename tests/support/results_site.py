"""A results page whose pictures say which frame they are: every pixel of frame t has the level 20 t."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from recapture.datasets.media.video import video_writer
from recapture.tasks.jobs.page_files import ENCODING, PageFiles, in_script
from recapture.tasks.report.record import DELIVERED, MISSING, Report, Videos

FRAMES, FPS, STEP = 12, 10, 20
HEIGHT, WIDTH = 64, 96
KINDS = ("result", "source", "render", "visible", "truth")
HOSTILE = "</script><script>window.taken=1</script><b>'\"&"


def page_video(path, steps=STEP):
    """Write page.mp4; of the mask, the left half is invented. Return the PageFiles that wrote it."""
    with video_writer(str(path), Fraction(FPS), encoding=ENCODING) as video:
        files = PageFiles(video, KINDS, (HEIGHT, WIDTH), 640)
        visible = np.arange(WIDTH) >= WIDTH // 2
        for t in range(FRAMES):
            picture = np.full((HEIGHT, WIDTH, 3), steps * t, np.uint8)
            pictures = dict.fromkeys(KINDS, picture)
            files.add({**pictures, "visible": np.tile(visible, (HEIGHT, 1))}, poster=t == FRAMES // 2)
    return files


def page_data(files, clip, label):
    """Return the text of page.js of a clip that page_video has shown."""
    line = [[0.1 * t, 0.0, 0.02 * t] for t in range(FRAMES)]
    way = {"at": line, "looks": [[0, 0, 1]] * FRAMES}
    still = {"at": [[0, 0, 0]] * FRAMES, "looks": [[0, 0, 1]] * FRAMES}
    data = {
        "clip": clip,
        "label": label,
        "fps": FPS,
        "frames": FRAMES,
        "kinds": KINDS,
        "columns": files.columns,
        "size": [files.width, files.height],
        "cell": files.cell[::-1],
        "of": [WIDTH, HEIGHT],
        "holes": [t / 100 for t in range(FRAMES)],
        "seams": [None, *range(1, FRAMES)],
        "cameras": {"frames": list(range(FRAMES))},
    }
    data["cameras"] |= {"source": still, "result": way}
    return f"recapturePage({in_script(data)});\n"


def site_report(clips, run="0123456789ab", ended="2026-11-28T10:00:00.000000+00:00", better=0.0):
    """Return the report of clips along two trajectories, `left` and `in & out`; the last one is missing.

    Measurements grow from clip to clip, and by `better`.
    """
    videos = Videos()
    for number, clip in enumerate(clips):
        for place, label in enumerate(("left", "in & out")):
            at = 2 * number + place
            if at == 2 * len(clips) - 1:
                videos.add(clip, label, "", MISSING, f"fill: {HOSTILE}", {})
                continue
            measured = {"base/psnr": 20.0 + 3 * at + better, "base/hole_share": 0.5 - at / 100}
            videos.add(clip, label, f"key{at}", DELIVERED, "", {**measured, "copy_source/psnr": 12.0})
    return Report(
        *(run, "recapture", "site", ended, 75.0, len(clips), len(videos), len(videos) - 1),
        files=["recapture.mp4"],
        settings="seed: 0\n",
        stages=[{"stage": "fill", "made": 1, "reused": 2, "failed": 1, "blocked": 0, "seconds": 12.5}],
        warnings=[f"a warning {HOSTILE}"],
        failures=[{"item": f"{clips[-1]}@in & out", "stage": "fill", "error": HOSTILE}],
        videos=videos,
    )


def write_videos(root, report, page_mp4, files):
    """Write what `deliver` would below root for the delivered videos of a report."""
    videos = report.videos
    for at, status in enumerate(videos.status):
        if status == DELIVERED:
            folder = root / videos.clip[at] / videos.label[at]
            folder.mkdir(parents=True)
            (folder / "page.mp4").write_bytes(page_mp4)
            (folder / "recapture.mp4").write_bytes(page_mp4)
            (folder / "page.jpg").write_bytes(files.poster)
            (folder / "page.js").write_text(page_data(files, videos.clip[at], videos.label[at]))
