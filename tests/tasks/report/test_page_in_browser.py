"""The results page in a real browser, opened from disk: Debian's Chromium, driven through Playwright."""

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from support.results_site import FRAMES, STEP, page_data, page_video, site_report, write_videos

from recapture.tasks.report.record import write_record
from recapture.tasks.report.write import write_comparison, write_pages

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
CLIPS = ("plain", "über/a #1 100%25 'q' & +;=", "zebra")
SEEN = ".stage canvas, .beside canvas"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three clips of two trajectories, one video missing, and the comparison with an earlier run."""
    root = tmp_path_factory.mktemp("out puts") / "site"
    root.mkdir()
    files = page_video(root / "page.mp4")
    page_mp4 = (root / "page.mp4").read_bytes()
    report, before = site_report(CLIPS), site_report(CLIPS, "earlier00000", better=2.0)
    write_videos(root, report, page_mp4, files)
    first = report.videos
    data = {key: page_data(files, first.clip[at], first.label[at]) for at, key in enumerate(first.key)}
    write_comparison(
        str(root), before, report, lambda key: {"page.mp4": page_mp4, "page.js": data[key].encode()}
    )
    write_pages(str(root), report)
    write_record(str(root), report)
    return root


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Return a function that opens a page; at the end, nothing may have been wrong with any."""
    contexts, wrong = [], []

    def outside(url):
        if not url.startswith(("file:", "data:")):
            wrong.append(url)

    def opened(path, width=1600, scheme="light", fragment=""):
        context = chromium.new_context(viewport={"width": width, "height": 1400}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda asked: wrong.append(asked.url))
        page.on("request", lambda asked: outside(asked.url))
        page.goto(path.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        assert context.pages[0].evaluate("window.taken") is None, "text of a clip was run as a script"
        context.close()
    assert wrong == []


def levels(page, selector=SEEN):
    """Return the frame that every picture but the mask shows, from the levels of one screenshot."""
    boxes = page.evaluate(
        "selector => (document.querySelector('.stage')?.scrollIntoView(),"
        " [...document.querySelectorAll(selector)].map(one => ({name: one.getAttribute('aria-label'),"
        " ...one.getBoundingClientRect().toJSON()})))",
        selector,
    )
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L")).astype(float)
    found = {}
    for box in boxes:
        if box["name"] != "Invented":
            x, y = int(box["x"] + 0.7 * box["width"]), int(box["y"] + 0.6 * box["height"])
            found[box["name"]] = shot[y - 3 : y + 3, x - 3 : x + 3].mean() / STEP
    return found


def settled(page, frame):
    """Wait until every picture shows this frame."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = levels(page)
        if all(round(level) == frame for level in found.values()):
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"frame {frame} was asked for, {found} are shown")


def test_pictures_play_scrub_and_step_as_one(site, opened):
    page = opened(site / "plain" / "index.html")
    assert set(settled(page, FRAMES // 2)) == {"Result", "Source", "Known part", "Truth"}
    slider, play = page.get_by_label("Frame", exact=True), page.get_by_role("button", name="Play")
    slider.fill("3")
    settled(page, 3)
    assert slider.get_attribute("aria-valuetext") == "frame 3 of 11 · 0.30 s"
    slider.focus()
    page.keyboard.press("ArrowRight")
    settled(page, 4)
    page.get_by_role("button", name="Previous frame").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    settled(page, 2)
    box = page.locator(".strip").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 10 / 11, box["y"] + 10)
    settled(page, 10)

    page.get_by_label("Speed").select_option("0.5")
    slider.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    seen = set()
    for _ in range(6):
        together = levels(page)
        assert np.ptp(list(together.values())) < 0.3, f"out of step: {together}"
        seen.add(round(together["Result"]))
        page.wait_for_timeout(120)
    assert len(seen) > 2, "it does not play"
    page.keyboard.press("Space")
    play.wait_for()
    settled(page, int(slider.input_value()))


def test_what_was_invented_is_tinted_and_a_wipe_shows_another_picture(site, opened):
    page = opened(site / "plain" / "index.html")
    page.get_by_label("Frame", exact=True).fill("2")
    settled(page, 2)

    def sides():
        shot = Image.open(io.BytesIO(page.locator(".cell.large canvas").screenshot())).convert("RGB")
        return [
            np.array(shot.getpixel((int(share * shot.width), shot.height // 2)), int) for share in (0.2, 0.8)
        ]

    plain = sides()
    page.keyboard.press("Tab")
    page.get_by_label("Frame", exact=True).focus()
    page.keyboard.press("o")
    tinted = sides()
    assert tinted[0][0] - plain[0][0] > 60 and tinted[0][0] > tinted[0][1] + 40
    assert np.abs(tinted[1] - plain[1]).max() < 4
    page.keyboard.press("o")
    page.get_by_label("wipe to").select_option("truth")
    page.get_by_label("Wipe position").fill("30")
    assert np.abs(np.array(sides()) - plain).max() < 4, "both show the same frame"


def test_worst_come_first_and_the_table_sorts_and_filters(site, opened):
    page = opened(site / "index.html")
    settled(page, FRAMES // 2)
    first = page.locator("#reel button").first
    assert first.get_attribute("aria-pressed") == "true" and "20.0 dB" in first.inner_text()
    page.locator("#ranked").select_option(label="hole_share")
    assert "0.5" in page.locator("#reel button").first.inner_text()

    rows, header = page.locator("#videos tbody tr"), page.locator("#videos thead th")
    assert rows.count() == 6
    assert header.nth(3).get_attribute("aria-sort") == "ascending"
    page.locator("#videos thead button").nth(3).focus()
    page.keyboard.press("Enter")
    assert header.nth(3).get_attribute("aria-sort") == "descending"
    assert "32.0" in rows.first.inner_text() and "–" in rows.last.inner_text(), "what has no value comes last"
    assert page.evaluate("document.activeElement.textContent").startswith("psnr")
    page.get_by_label("find").fill("ÜBER")
    assert rows.count() == 2
    page.get_by_label("find").fill("")
    page.get_by_label("state").select_option("missing")
    assert rows.count() == 1 and "</script>" in rows.locator("span.bad").get_attribute("title")
    page.get_by_label("state").select_option("")
    page.get_by_label("trajectory").select_option("in & out")
    assert rows.count() == 3
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="hole_share").uncheck()
    assert "hole_share" not in page.locator("#videos thead").inner_text()


def test_a_clip_of_any_name_is_a_link_away(site, opened):
    page = opened(site / "index.html")
    page.locator("#videos").get_by_role("link", name=CLIPS[1]).first.click()
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == CLIPS[1]
    settled(page, FRAMES // 2)
    page.get_by_role("button", name="in & out").click()
    assert page.url.endswith("#in%20%26%20out")
    assert (
        page.get_by_role("link", name="recapture.mp4").get_attribute("href") == "in%20%26%20out/recapture.mp4"
    )
    page.get_by_role("navigation").get_by_role("link", name="site").click()
    assert page.locator("h1").inner_text() == "site"
    missing = opened(site / "zebra" / "index.html", fragment="#in%20%26%20out")
    assert "<b>'\"&" in missing.locator("p.bad").inner_text() and not missing.locator("canvas").count()


def test_two_jobs_are_shown_in_step_and_compared(site, opened):
    page = opened(site / "against-earlier00000.html")
    found = settled(page, FRAMES // 2)
    assert {"Before: earlier00000", "After: 0123456789ab"} <= set(found)
    page.get_by_label("Frame", exact=True).fill("9")
    settled(page, 9)
    row = page.locator("table").first.locator("tbody tr").first.inner_text()
    assert "−2" in row and "worse" in row and "0 / 5" in row
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(400)
    apart = [np.ptp(list(levels(page).values())) for _ in range(4)]
    assert min(apart) < 1.3, f"the videos of two jobs are {apart} frames apart"


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_their_width_stay_in_place_and_are_readable(site, opened, width, scheme):
    for path in (site / "index.html", site / "plain" / "index.html", site / "against-earlier00000.html"):
        page = opened(path, width, scheme)
        settled(page, FRAMES // 2) if width == 1600 else page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shift = page.evaluate(
            "new Promise(done => { let sum = 0; new PerformanceObserver(list => list.getEntries().forEach("
            "one => { sum += one.value; })).observe({type: 'layout-shift', buffered: true});"
            " setTimeout(() => done(sum), 100); })"
        )
        assert shift < 0.01
        paper, ink, soft = page.evaluate(
            "['--paper', '--ink', '--soft']"
            ".map(name => getComputedStyle(document.body).getPropertyValue(name))"
        )
        assert contrast(paper, ink) > 7 and contrast(paper, soft) > 4.5
        assert (luminance(paper) > 0.5) == (scheme == "light")


def test_everything_is_reached_by_the_keyboard(site, opened):
    page = opened(site / "index.html")
    page.locator("#reel button[aria-pressed=true]").wait_for()
    page.get_by_label("Frame", exact=True).wait_for()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(one => one.id || one.getAttribute('aria-label') || one.textContent.trim())"
                "(document.activeElement)"
            )
        )
    wanted = ["Skip to the content", "ranked", "Play", "Previous frame", "Speed", "Frame", "find", "psnr dB"]
    places = [reached.index(name) for name in wanted]
    assert places == sorted(places)
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input, a[href]')]"
        ".filter(one => !(one.textContent.trim() ||"
        " one.getAttribute('aria-label') || (one.labels && one.labels.length))).map(one => one.outerHTML)"
    )
    assert nameless == []


def luminance(colour):
    parts = [int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast ratio of two colours as WCAG 2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
