"""The studio's viewer: its panels without a browser, and the page in Debian's Chromium through Playwright."""

import shutil
import socket

import numpy as np
import pytest
from support.bare_job import configure

from recapture.tasks.studio.session import StudioSession
from recapture.tasks.studio.viewer import KEYS, Viewer

viser = pytest.importorskip("viser", reason="viser is not installed: pip install 'recapture[studio]'")
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return StudioSession.open(configure(tmp_path_factory.mktemp("viewer"), count=1))


@pytest.fixture(scope="module")
def studio(session):
    """A viewer on a free port, and the words of the jobs that it was asked to start."""
    started = []

    def start(words):
        started.append(words)
        return "job started"

    with socket.socket() as free:  # viser would take port 0 at its word
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
    with Viewer(session, server, start, side=16) as viewer:
        yield viewer, started


def test_panels_do_what_the_session_does(studio, session, tmp_path):
    viewer, started = studio
    viewer.preset.value = "orbit_left"
    assert viewer.painter.settle() and viewer.amount.value == 20
    viewer.amount.value = 15
    viewer.time.value = 4
    assert viewer.painter.settle()
    assert session.trajectory.label == "orbit_left_15" and viewer.message.content == ""
    seen = session.frame(4, side=16)
    np.testing.assert_array_equal(viewer.picture.image, seen.rgb)
    assert (
        viewer.holes.content
        == f"Holes **{seen.hole_share:.1%}** at 1/2 of the working size; frame 4 of the clip"
    )
    viewer.exact.value = True
    assert (
        viewer.painter.settle()
        and f"**{session.frame(4).hole_share:.1%}** at the working" in viewer.holes.content
    )
    viewer._do("holes", viewer._all_holes)
    assert viewer.painter.settle()
    shares = list(session.hole_shares())
    assert f"{np.mean(shares):.1%} on average, {max(shares):.1%} at most (frame 4)" in viewer.message.content
    viewer._do("safe", viewer._safe)
    assert (
        viewer.painter.settle()
        and session.trajectory.angle_degrees == viewer.amount.value == session.safe_amount()
    )
    viewer.target.value = str(tmp_path / "moves.yaml")
    viewer._do("export", viewer._export)
    assert viewer.painter.settle() and (tmp_path / "moves.yaml").read_text() == session.settings()
    viewer._job(True)
    assert started == [session.command(whole=True)]


def test_a_mistake_is_a_message_and_the_move_stays(studio, session):
    viewer, _ = studio
    viewer.preset.value = "dolly_in"
    assert viewer.painter.settle()
    viewer.amount.value = 1.5
    assert viewer.painter.settle()
    assert "would pass the pivot; stay below 1" in viewer.message.content
    assert session.trajectory.distance == 0.2
    viewer.amount.value = 0.1
    assert viewer.painter.settle() and viewer.message.content == ""
    viewer.preset.value = KEYS
    viewer.amount.value = 0.2
    assert viewer.painter.settle() and "there is no key frame yet" in viewer.message.content


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_the_page_loads_and_takes_a_key_frame_from_the_viewport(studio, session, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    viewer, _ = studio
    wrong = []
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"http://127.0.0.1:{viewer.server.get_port()}")
        page.get_by_text("Largest safe amount").wait_for()
        page.get_by_text("Look through the new camera").click()
        page.wait_for_timeout(2000)
        viewer.time.value = 2
        assert viewer.painter.settle()
        page.get_by_text("Key from this viewport").click()
        page.wait_for_timeout(1000)
        assert viewer.painter.settle()
        picture = page.screenshot(path=str(tmp_path / "studio.png"))
        browser.close()
    assert wrong == []
    assert len(session.trajectory.keyframes) == 1 and session.trajectory.keyframes[0]["at"] == 0.5
    assert viewer.preset.value == KEYS and "key: at 0.5" in viewer.message.content
    assert len(picture) > 20_000
