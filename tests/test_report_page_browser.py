"""report.html opened in a real browser: it runs clean, asks for nothing, sorts, folds, fits the window, can be read."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, Page, find_chromium
from simulated_study import simulate, small_study, small_task
from test_report_formats import HOSTILE
from test_report_page import VERDICTS, made_content, number_table, png, text_table

from benchmark.report.page import Picture, Section, render_page
from benchmark.report.write import write_report

UNBROKEN = "a_name_without_any_place_to_break_it_" * 6
MEANS = [0.3, None, 0.1, 0.20001, None, 0.20002, -0.4]
"""Two are alike when rounded, two are gaps."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with Browser(executable, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it that can be too wide, too long or missing."""
    content = made_content(2)
    wide = Picture(UNBROKEN, UNBROKEN, png(2400, 600), "plots/wide.png", True, 12.0)
    written: list[list[object]] = [["a", "0.2"], ["b", "–"], ["c", "0.03"], ["d", "< 0.001"], ["e", "1,200"]]
    tables = [
        number_table("accuracy", MEANS),
        text_table("comparisons_accuracy", ["method", "p"], written),  # type: ignore[arg-type]
        number_table("wide", [*MEANS, *[0.5] * 23], num_columns=100),
        text_table("unfinished", ["method", "status", "reason"], [[UNBROKEN, "failed", UNBROKEN * 4]]),
    ]
    section = Section("wide", UNBROKEN, content.sections[0].findings, number_table("summary", MEANS), tables, [wide])
    across = [Section("across", "Over all tasks", tables=tables[:1], pictures=[wide])]
    rows = [[f"{claim}", f"{verdict}"] for claim, verdict in VERDICTS.rows]
    long = text_table("claims", ["claim", "verdict", "runs"], [[*row, f"{UNBROKEN} and more words"] for row in rows])
    path = tmp_path_factory.mktemp("made") / "report.html"
    sections = [section, *content.sections]
    path.write_text(render_page(replace(content, title=UNBROKEN, sections=sections, across=across, verdicts=long)))
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report from rows, with a note that tries to be more than text."""
    entries = [
        "single",
        {"method": "nfe", "num_members": 3, "note": HOSTILE},
        {"method": "deep_ensemble", "num_members": 3},
    ]
    task = small_task(shifted={"kinds": ["contrast"], "severities": [1, 5]}, out_of_distribution=["cifar10"])
    study = small_study(entries, seeds=3, tasks=[task], title=HOSTILE)
    results = simulate(tmp_path_factory.mktemp("written"), study, images=100)
    return write_report(results, study) / "report.html"


@pytest.fixture
def page(browser: Browser, made: Path) -> Iterator[Page]:
    page = browser.open(made)
    yield page
    assert page.complaints() == []
    assert page.requests() == []
    page.close()


@pytest.mark.parametrize("kind", ["made", "written"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_without_a_complaint_a_request_or_an_overflow(
    kind: str, width: int, scheme: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    page = browser.open(request.getfixturevalue(kind), width=width, scheme=scheme)
    assert page.evaluate(OVERFLOW) == []
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(DECODED) == page.evaluate("document.images.length") > 0
    assert page.evaluate(FAINT) == []
    assert page.evaluate(SMALL) == []
    assert page.complaints() == []
    assert page.requests() == []
    page.close()


OVERFLOW = """(() => {
    const root = document.documentElement, room = root.clientWidth;
    const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
    const hidden = (element) => element !== document.body && (scrolls(element) || hidden(element.parentElement));
    const wide = [...document.body.querySelectorAll("*")].filter((element) => !hidden(element.parentElement));
    const over = wide.filter((element) => element.getBoundingClientRect().right > room + 1).map((element) => element.outerHTML);
    return root.scrollWidth > room ? [`${root.scrollWidth} > ${room}`, ...over] : over;
})()"""
"""What is wider than the window and can't be scrolled by itself."""

DECODED = """Promise.all([...document.images].filter((image) => image.complete && image.naturalWidth > 0)
    .map((image) => image.decode().then(() => true, () => false))).then((decoded) => decoded.filter(Boolean).length)"""

TEXTS = """
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), elements = new Set();
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (texts.currentNode.data.trim() && element.tagName !== "SCRIPT" && element.checkVisibility()) elements.add(element);
    }
"""

FAINT = f"""(() => {{ {TEXTS}
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {{
        for (let at = element; at; at = at.parentElement) {{
            const colour = getComputedStyle(at).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }}
        return "rgb(255, 255, 255)";
    }};
    const contrast = (element) => {{
        const [low, high] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    }};
    return [...elements].filter((element) => contrast(element) < 4.5).map((element) => element.outerHTML.slice(0, 200));
}})()"""
"""Text with less contrast than WCAG 2.1 asks for (1.4.3, level AA)."""

SMALL = f"""(() => {{ {TEXTS}
    return [...elements].filter((element) => parseFloat(getComputedStyle(element).fontSize) < 11).map((e) => e.outerHTML);
}})()"""


@pytest.mark.parametrize(
    "asking",
    [
        "<img src='http://192.0.2.1/a.png'>",
        "<img src='other.png'>",
        "<style>body { background: url(https://example.com/a.png) }</style>",
        "<link rel='stylesheet' href='https://example.com/a.css'>",
        "<script>fetch('https://example.com/').catch(() => 0)</script>",
        "<script>navigator.sendBeacon('https://example.com/', 'x')</script>",
        "<script>new WebSocket('wss://example.com/')</script>",
        "<iframe src='https://example.com/'></iframe>",
    ],
)
def test_a_page_that_asks_for_something_is_seen(browser: Browser, tmp_path: Path, asking: str) -> None:
    path = tmp_path / "asking.html"
    path.write_text(f"<!doctype html><title>x</title><body>x{asking}")
    page = browser.open(path)
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    assert len(page.requests()) == 1
    page.close()


@pytest.mark.parametrize(
    "saying", ["<script>console.warn('x')</script>", "<script>nothing()</script>", "<script>throw 1</script>"]
)
def test_a_page_that_complains_is_seen(browser: Browser, tmp_path: Path, saying: str) -> None:
    path = tmp_path / "saying.html"
    path.write_text(f"<!doctype html><title>x</title><body>{saying}")
    page = browser.open(path)
    assert len(page.complaints()) == 1
    page.close()


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ("<div style='width: 3000px'>x</div>", OVERFLOW),
        ("<p style='color: #999; background: #fff'>x</p>", FAINT),
        ("<p style='font-size: 9px'>x</p>", SMALL),
        ("<div style='overflow: hidden'><div style='width: 3000px'>x</div></div>", OVERFLOW),
    ],
)
def test_a_page_that_is_hard_to_read_is_seen(browser: Browser, tmp_path: Path, body: str, check: str) -> None:
    path = tmp_path / "hard.html"
    path.write_text(f"<!doctype html><title>x</title><body>{body}")
    page = browser.open(path)
    assert len(page.evaluate(check)) > 0
    page.close()


def test_policy_refuses_any_other_script_and_any_request(browser: Browser, made: Path) -> None:
    page = browser.open(made)
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', `<img src='http://192.0.2.1/a.png' onerror='window.ran = 1'>`);"
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }));"
    )
    page.wait_for("Log.entryAdded", count=3)
    assert page.evaluate("window.ran") is None
    assert all("Content Security Policy" in complaint for complaint in page.complaints())
    page.close()


def column(page: Page, table: str, index: int) -> list[str]:
    script = f"[...document.querySelectorAll('{table} tbody tr')].map((row) => row.cells[{index}].innerText)"
    return page.evaluate(script)


def sorted_by(page: Page, table: str) -> list[str | None]:
    return page.evaluate(
        f"[...document.querySelectorAll('{table} thead th')].map((head) => head.getAttribute('aria-sort'))"
    )


def test_a_click_sorts_by_unrounded_numbers_with_gaps_last(page: Page) -> None:
    table = "#task-wide--accuracy table"
    page.click(f"{table} th:nth-child(2) button")
    assert column(page, table, 0) == ["nfe-6", "nfe-2", "nfe-3", "nfe-5", "nfe-0", "nfe-1", "nfe-4"]
    assert sorted_by(page, table) == [None, "ascending"]
    page.click(f"{table} th:nth-child(2) button")
    assert column(page, table, 0) == ["nfe-0", "nfe-5", "nfe-3", "nfe-2", "nfe-6", "nfe-1", "nfe-4"]
    assert sorted_by(page, table) == [None, "descending"]
    page.click(f"{table} th:nth-child(1) button")
    assert column(page, table, 0) == [f"nfe-{index}" for index in range(7)]
    assert sorted_by(page, table) == ["ascending", None]
    assert sorted_by(page, "#task-task0--accuracy table") == [None, None]


def test_the_keyboard_sorts(page: Page) -> None:
    table = "#task-wide--comparisons_accuracy table"
    page.evaluate(f"document.querySelector('{table}').closest('.scroll').focus()")
    page.press("Tab")
    page.press("Tab")
    page.press("Enter")
    assert column(page, table, 1) == ["< 0.001", "0.03", "0.2", "1,200", "–"]
    page.press("Space")
    assert column(page, table, 1) == ["1,200", "0.2", "0.03", "< 0.001", "–"]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_numbers_in_names_are_sorted_as_numbers(page: Page) -> None:
    table = "#task-wide--wide table"
    page.click("#task-wide--wide summary")
    page.click(f"{table} th:nth-child(1) button")
    assert column(page, table, 0) == [f"nfe-{index}" for index in range(30)]


def test_a_wide_table_keeps_its_names_and_headers_in_sight(page: Page) -> None:
    page.click("#task-wide--wide summary")
    seen = page.evaluate(
        "(() => { const region = document.querySelector('#task-wide--wide .scroll'), box = region.getBoundingClientRect();"
        "region.scrollTo({ left: 2000, top: 400, behavior: 'instant' });"
        "const name = region.querySelector('tbody tr:last-child th').getBoundingClientRect();"
        "const head = region.querySelector('thead th:last-child').getBoundingClientRect();"
        "return [region.scrollLeft, region.scrollTop > 0, name.left - box.left, head.top - box.top]; })()"
    )
    assert seen[:2] == [2000, True]
    assert seen[2:] == pytest.approx([1, 1], abs=1)  # the border


def test_tables_open_by_click_key_button_and_link(page: Page) -> None:
    closed = "[...document.querySelectorAll('#task-wide details:not([open])')].map((fold) => fold.id)"
    assert page.evaluate(closed) == ["task-wide--wide"]
    page.click("#task-wide--wide summary")
    assert page.evaluate(closed) == []
    page.press("Enter")
    assert page.evaluate(closed) == ["task-wide--wide"]
    page.click("#task-wide button.all")
    assert page.evaluate(closed) == []
    assert page.evaluate("document.querySelector('#task-wide button.all').innerText") == "Close all tables"
    page.click("#task-wide button.all")
    assert len(page.evaluate(closed)) == 4
    assert page.evaluate("document.querySelectorAll('#task-task0 details[open]').length") == 1
    page.evaluate(
        "location.hash = 'task-wide--wide';"
        "new Promise((resolve) => addEventListener('hashchange', () => resolve(), { once: true }))"
    )
    assert "task-wide--wide" not in page.evaluate(closed)


def test_print_shows_every_table_and_puts_them_back(page: Page) -> None:
    count = "document.querySelectorAll('details:not([open])').length"
    before = page.evaluate(count)
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.closedInPrint = {count}; }})")
    page.call("Page.printToPDF")
    assert page.evaluate("window.closedInPrint") == 0
    assert page.evaluate(count) == before > 0
