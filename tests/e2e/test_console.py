"""The console in a real browser, on a real worker: each screen and action, as viewer and as operator."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from relay.store.fleet import WorkerInfo
from relay.store.keys import FleetKeys, LaneKeys
from relay.store.record import pack
from testing.browser import axe, chromium
from testing.builders import a_message
from testing.console_world import HOSTILE, OPERATOR, VIEWER, World, world
from testing.redis_server import RedisServer
from testing.shell import arguments

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUEUE = f"/queue/{quote(f'q {HOSTILE}', safe='')}"

SCREENS = (
    "/",
    "/lanes/hooks",
    "/lanes/hooks?range=24h",
    "/lanes/hooks?range=30d",
    "/messages",
    "/messages?kind=id&q=bad-1",
    "/messages/bad-1",
    "/dead",
    "/dead?provider=broken&status=4xx",
    "/queues",
    QUEUE,
    "/workers",
    "/configuration",
    "/feedback",
    "/audit",
)
TIMEOUT = 60_000
"""Milliseconds until a text must appear."""

expect.set_options(timeout=TIMEOUT)

WATCH = """
window.faults = [];
window.hacked = () => window.faults.push("a script of a message ran");
addEventListener("securitypolicyviolation", (e) => faults.push(`${e.violatedDirective}: ${e.blockedURI}`));
addEventListener("error", (e) => faults.push(e.message));
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
window.streamed = 0;
window.EventSource = class extends EventSource {
  constructor(url) { super(url); window.streamed ||= performance.now(); }
};
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, newest_redis_server: RedisServer) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("console"), newest_redis_server) as running:
        _seed_the_last_hour(running)
        running.push("bad", *({"id": f"bad-{number}", "payload": {"body": HOSTILE}} for number in range(3)))
        running.push("notifications", {"payload": {"body": 1}, "group": HOSTILE[:60]})
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def _seed_the_last_hour(fleet: World) -> None:
    """Write statistics of the minutes before the worker ran."""
    now = int(fleet.redis.time()[0]) // 60 * 60
    for minute in range(1, 60):
        for provider, least in (("hooks", 900), ("broken", 40), ("quiet", 300)):
            failed = 25 if provider == "broken" and minute % 20 < 6 else 0
            key = LaneKeys.of("relay", provider).statistics("minute", now - 60 * minute)
            counts: dict[Any, Any] = {
                "o:delivered": least + least * (minute * 7 % 11) // 11,
                "o:failed": failed,
            }
            fleet.redis.hset(key, mapping=counts)


Opener = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, fleet: World) -> Iterator[Opener]:
    """Open a page with a session, and check at the end that nothing was blocked, thrown or injected."""
    pages: list[Page] = []

    def opening(path: str = "/", token: str = OPERATOR, **options: Any) -> Page:
        context = browser.new_context(base_url=fleet.url, viewport=options.pop("viewport", None), **options)
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(WATCH)
        page = context.new_page()
        pages.append(page)
        # Log in without the form, which has a test of its own. This saves each test a page.
        answer = context.request.post(
            "/login", form={"token": token}, headers={"Origin": fleet.url}, max_redirects=0
        )
        assert answer.status == 303
        page.goto(path)
        return page

    yield opening
    faults = [page.evaluate("window.faults") for page in pages]
    for page in pages:
        page.context.close()
    assert faults == [[]] * len(pages)


def order(page: Page, action: str, provider: str, **body: str) -> None:
    """Pause or resume a provider by the API, as a page of the console does."""
    origin = page.evaluate("location.origin")
    answer = page.request.post(
        f"/api/v1/lanes/{provider}/{action}", data=json.dumps(body), headers={"Origin": origin}
    )
    assert answer.status == 200


def until_still(page: Page) -> None:
    """Wait until no worker has anything to do, and says so."""
    while any(
        thing["in_flight"] or thing.get("waiting")
        for name in ("workers", "lanes")
        for thing in page.request.get(f"/api/v1/{name}").json()
    ):
        page.wait_for_timeout(50)


def read_again(page: Page) -> None:
    """Load the page without the data that the console caches for seconds: an action clears them."""
    order(page, "resume", "quiet")
    page.reload()


def until_dead(page: Page, text: str, number: int) -> None:
    """Wait until this number of dead letters contains a text, before a page about them is opened."""
    while len(page.request.get(f"/api/v1/dead?text={text}").json()) < number:
        page.wait_for_timeout(20)


def row(page: Page, name: str) -> Any:
    return page.locator("tr").filter(has=page.get_by_role("rowheader", name=name, exact=True))


def test_an_operator_pauses_and_resumes_a_lane_with_a_reason(opened: Opener, fleet: World) -> None:
    page = opened()
    row(page, "quiet").get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("End after").fill("2h")
    dialog.get_by_label("Reason").fill("a new receiver")
    dialog.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("quiet is paused.")).to_be_visible()
    expect(row(page, "quiet")).to_contain_text("a new receiver")
    (lane,) = [lane for lane in fleet.json("status")["lanes"] if lane["provider"] == "quiet"]
    assert (lane["state"], lane["pause"]["reason"]) == ("paused", "a new receiver")
    assert lane["hold_seconds"] > 3600
    expect(page.get_by_role("heading", level=1)).to_contain_text("quiet is paused")
    row(page, "quiet").get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("it is there")
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(row(page, "quiet")).to_contain_text("running")
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("paused")
    page.goto("/audit")
    first = page.locator("tbody tr").first
    expect(first).to_contain_text("resume")
    expect(first).to_contain_text("it is there")
    assert [entry["why"] for entry in fleet.json("audit")[:2]] == ["it is there", "a new receiver"]


def test_an_operator_sets_a_rate_for_a_while_and_ends_it(opened: Opener) -> None:
    page = opened("/lanes/hooks")
    page.get_by_role("button", name="Rate").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Rate", exact=False).first.fill("fast")
    dialog.get_by_role("button", name="Set the rate").click()
    expect(dialog.get_by_role("alert")).to_contain_text("fast")
    dialog.get_by_label("Rate", exact=False).first.fill("20/s")
    dialog.get_by_label("End after").fill("1h")
    dialog.get_by_role("button", name="Set the rate").click()
    expect(page.get_by_text("The rate is 20/s until")).to_be_visible()
    page.get_by_role("button", name="End it").click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(page.get_by_text("The rate is 20/s until")).to_be_hidden()
    order(page, "rate", "hooks", rate="30/s", **{"for": "1s"})
    (worker,) = page.request.get("/api/v1/workers").json()
    os.kill(worker["pid"], signal.SIGHUP)
    timeline = page.locator(".events")
    for event in ("the rate has ended", "rate-reset", "reload"):
        expect(timeline.get_by_text(event, exact=True)).to_be_visible()
    expect(timeline).to_contain_text(f"SIGHUP@{worker['host']}")
    expect(page.locator(".headline")).not_to_contain_text("30/s")


def test_an_operator_pauses_one_group(opened: Opener, fleet: World) -> None:
    page = opened("/lanes/hooks")
    order(page, "pause", "hooks")
    fleet.push("notifications", *({"payload": {"body": 1}, "group": "tenant-7"} for _ in range(2)))
    row(page, "tenant-7").first.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("dialog")).to_contain_text("tenant-7")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(row(page, "tenant-7").first).to_contain_text("paused")
    row(page, "tenant-7").first.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(row(page, "tenant-7").first).not_to_contain_text("paused")
    since = int(fleet.redis.time()[0]) * 1000 - 3_600_000
    disabled = msgspec.msgpack.encode({"disabled": since, "since": since, "failures": 12})
    fleet.redis.hset(LaneKeys.of("relay", "hooks").part("groups"), "tenant-off", disabled)
    expect(row(page, "tenant-off").first).to_contain_text("disabled")
    row(page, "tenant-off").first.get_by_role("button", name="Enable").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_text("hooks is resumed.").last).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("disabled")
    assert fleet.json("audit")[0]["group"] == "tenant-off"
    urgent: Any = {"payload": {"body": 1}, "group": "tenant-7", "priority": "high"}
    fleet.push(
        "notifications", urgent, urgent, {"id": "after-two", "payload": {"body": 1}, "group": "tenant-7"}
    )
    page.goto("/messages/after-two")
    page.get_by_role("button", name="Send next").click()
    said = "after-two is next at hooks, after 2 of its group with the priority high."
    expect(page.get_by_role("dialog")).to_contain_text(f"Then {said}")
    page.get_by_role("dialog").get_by_role("button", name="Send next").click()
    expect(page.locator(".toast")).to_contain_text(said)
    order(page, "resume", "hooks")


def test_an_operator_probes_a_lane_that_holds_and_sees_when_it_held(opened: Opener, fleet: World) -> None:
    page = opened("/lanes/quiet")
    expect(page.get_by_role("button", name="Probe now")).to_be_hidden()
    hold_until = round((float(fleet.redis.time()[0]) + 3600) * 1000)
    refusal: Any = {
        "state": "open",
        "since": hold_until - 3_900_000,
        "hold": hold_until,
        "reason": "5 failures",
    }
    fleet.redis.hset(LaneKeys.of("relay", "quiet").part("control"), mapping=refusal)
    fleet.push(f"q {HOSTILE}", {"payload": {"body": "probe"}})
    expect(page.locator(".numbers")).to_contain_text("Waiting1")
    page.get_by_role("button", name="Probe now").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("they say it is up")
    page.get_by_role("dialog").get_by_role("button", name="Probe").click()
    expect(page.get_by_text("One message of quiet goes now.")).to_be_visible()
    expect(page.locator(".headline")).to_contain_text("running")
    expect(page.locator(".events")).to_contain_text("probe")
    expect(page.locator(".events")).to_contain_text("open for 5m")
    (hold,) = [hold for hold in fleet.json("status", "quiet")["holds"] if hold["state"] == "open"]
    assert hold["reason"] == "5 failures"
    assert fleet.json("audit")[0]["why"] == "they say it is up"


def test_more_than_a_thousand_messages_ask_for_their_number(opened: Opener, fleet: World) -> None:
    page = opened()
    order(page, "pause", "quiet")
    fleet.push(f"q {HOSTILE}", *({"payload": {"body": number}} for number in range(1001)))
    expect(row(page, "quiet")).to_contain_text("1,001")
    row(page, "quiet").get_by_role("button", name="Resume").click()
    dialog = page.get_by_role("dialog")
    submit = dialog.get_by_role("button", name="Resume")
    expect(submit).to_be_disabled()
    dialog.get_by_label("Type 1001 to confirm").fill("1000")
    expect(submit).to_be_disabled()
    dialog.get_by_label("Type 1001 to confirm").fill("1,001")
    submit.click()
    expect(row(page, "quiet")).to_contain_text("running")


def test_a_viewer_sees_every_screen_and_no_button(opened: Opener) -> None:
    page = opened("/", VIEWER)
    for path in SCREENS:
        page.goto(path)
        expect(page.locator("main")).to_be_visible()
        assert page.locator("main button:not(.search button), dialog").count() == 0, path
    status = page.evaluate(
        "fetch('/api/v1/lanes/quiet/pause', {method: 'POST', body: '{}'}).then((answer) => answer.status)"
    )
    assert status == 403
    # Viewers get letters without credentials, operators get input for `relay push`.
    (line, *_) = page.request.get("/api/v1/dead/export?provider=broken").text().splitlines()
    assert "message" not in json.loads(line)


def test_a_page_stays_live_without_moving(opened: Opener, fleet: World) -> None:
    page = opened("/queues")
    page.goto("/")
    before = fleet.json("status", "quiet")["delivered"]
    expect(page.locator(".pulse")).to_be_visible()
    order(page, "pause", "quiet")
    fleet.push(f"q {HOSTILE}", *({"payload": {"body": number}} for number in range(7)))
    expect(row(page, "quiet").locator("[data-label=Waiting]")).to_contain_text("7")
    order(page, "resume", "quiet")
    expect(row(page, "quiet").locator("[data-label=Waiting]")).to_contain_text("0")
    assert fleet.json("status", "quiet")["delivered"] >= before
    page.goto("/workers")
    first = page.locator(".pulse").inner_text()
    expect(page.locator(".pulse")).not_to_have_text(first)
    assert page.evaluate("window.shift") < 0.01
    # The first event brings as much as the page itself, so it must not compete with the first paint.
    (painted,) = page.evaluate(
        "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)"
    )
    assert page.evaluate("window.streamed") >= painted


def test_every_number_is_that_of_the_command_line(opened: Opener, fleet: World) -> None:
    """On each screen, while the fleet stands still."""
    page = opened("/lanes/broken")
    numbers = page.locator(".numbers")
    expect(numbers).to_contain_text("Dead3")
    until_still(page)
    order(page, "pause", "quiet")
    queue, later = f"q {HOSTILE}", time.time() + 3600
    fleet.push(
        queue,
        {"id": "still-1", "payload": {"body": 1}, "priority": "high"},
        *({"payload": {"body": 1}, "ordering_key": "k"} for _ in range(3)),
        {"id": "still-2", "payload": {"body": 1}, "deliver_at": later},
    )
    page.goto("/lanes/quiet")
    expect(numbers).to_contain_text("Delayed1")
    expect(numbers).to_contain_text("Blocked2")
    of_fleet, of_lane, audit = fleet.json("status"), fleet.json("status", "quiet"), fleet.json("audit")
    levels = [f"{number} {level}" for level, number in of_lane["priorities"].items() if number]
    for text in (
        f"Waiting{of_lane['waiting']}{', '.join(levels)}",
        f"Delayed{of_lane['delayed']}",
        f"Blocked{of_lane['blocked']}",
        f"In flight{of_lane['in_flight']}",
        f"Dead{of_lane['dead']}",
    ):
        expect(numbers).to_contain_text(text)

    page.goto("/")
    sentence = of_fleet["summary"].partition(", oldest")[0]
    expect(page.get_by_role("heading", level=1)).to_contain_text(sentence)
    for lane in of_fleet["lanes"]:
        cells = row(page, lane["provider"])
        expect(cells.locator("[data-label=Waiting]")).to_contain_text(f"{lane['waiting']:,}")
        expect(cells.locator("[data-label=Dead]")).to_have_text(f"{lane['dead']:,}")
        expect(cells.locator("[data-label=Rate]")).to_contain_text(lane["rate"])
        expect(cells).to_contain_text(lane["state"])
    answer = page.request.get("/api/v1/overview").json()
    assert answer.keys() == of_fleet.keys()
    for name in ("queues", "lanes", "workers"):
        assert page.request.get(f"/api/v1/{name}").json() == answer[name] or name == "workers"
        assert len(answer[name]) == len(of_fleet[name])
    assert page.request.get("/api/v1/lanes/quiet").json().keys() == of_lane.keys()

    page.goto("/queues")
    for each in of_fleet["queues"]:
        link = page.locator(f'a[href="/queue/{quote(each["name"], safe="")}"]')
        cells = page.locator("tr").filter(has=link)
        expect(cells.locator("[data-label=Waiting]")).to_have_text(f"{each['waiting']:,}")
        expect(cells.locator("[data-label=Dead]")).to_have_text(f"{each['dead']:,}")
    (of_queue,) = [each for each in of_fleet["queues"] if each["name"] == queue]
    page.goto(QUEUE)
    for text in (f"Waiting{of_queue['waiting']}", f"Taken{of_queue['taken']}", f"Dead{of_queue['dead']}"):
        expect(numbers).to_contain_text(text)

    page.goto("/workers")
    (worker,) = of_fleet["workers"]
    expect(numbers).to_contain_text(f"Alive{len(of_fleet['workers'])}")
    expect(page.locator("tbody tr")).to_contain_text(f"pid {worker['pid']} · {worker['version']}")
    expect(page.locator("tbody [data-label=Settings]")).to_have_text(worker["settings"])
    expect(page.locator("tbody [data-label='In flight']")).to_have_text(str(worker["in_flight"]))

    page.goto("/configuration")
    for lane in of_fleet["lanes"]:
        cells = row(page, lane["provider"])
        expect(cells.locator("[data-label=Rate]")).to_have_text(lane["rate"])
        expect(cells.locator("[data-label=Concurrency]")).to_have_text(str(lane["settings"]["concurrency"]))

    page.goto("/dead")
    reasons = page.request.get("/api/v1/dead?by_reason=true").json()
    assert sum(reason["count"] for reason in reasons) == sum(lane["dead"] for lane in of_fleet["lanes"])
    for reason in reasons:
        cells = page.locator(".reasons tr").filter(has_text=reason["example_id"])
        expect(cells.locator("[data-label=Count]")).to_have_text(f"{reason['count']:,}")

    page.goto("/messages/still-1")
    (found,) = page.request.get("/api/v1/messages/still-1").json()
    expect(page.locator("main")).to_contain_text(f"Place in line{found['position']}")

    page.goto("/audit")
    for place, entry in enumerate(audit[:5]):
        cells = page.locator("tbody tr").nth(place)
        expect(cells.locator("[data-label=Count]")).to_have_text(f"{entry['count']:,}")
        expect(cells).to_contain_text(entry["action"])

    while True:  # both are those of the last 60 minutes
        minute = int(fleet.redis.time()[0]) // 60
        of_broken = fleet.json("status", "broken")
        page.goto("/lanes/broken")
        traffic = page.locator("[data-block=traffic]").inner_text()
        if int(fleet.redis.time()[0]) // 60 == minute:
            break
    outcomes = of_broken["outcomes"]
    failed = sum(outcomes.get(name, 0) for name in ("failed", "retried", "unregistered"))
    assert f"{outcomes.get('delivered', 0):,} sent" in traffic
    assert f"{failed:,} failed" in traffic
    for count in [*of_broken["statuses"].values(), *(reason["count"] for reason in of_broken["reasons"])]:
        assert re.search(rf"\s{count:,}\b", traffic)
    origin = {"Origin": page.evaluate("location.origin")}
    page.request.post("/api/v1/lanes/quiet/cancel", data=json.dumps({"id": "still-2"}), headers=origin)
    order(page, "resume", "quiet")


@pytest.mark.parametrize(("scheme", "width"), [("light", 380), ("dark", 1024)])
def test_every_screen_is_accessible_and_fits_its_window(opened: Opener, scheme: str, width: int) -> None:
    source = axe()
    page = opened("/", color_scheme=scheme, viewport={"width": width, "height": 800})
    order(page, "pause", "broken", because="w" * 400)
    row(page, "quiet").get_by_role("button", name="Pause").click()
    found = {"the dialog": _violations(page, source)}
    for path in SCREENS:
        page.goto(path)
        found[path] = [*_violations(page, source), *_unnamed(page)]
        # 941 pixels are the narrowest window with tables.
        for each in (941, width):
            page.set_viewport_size({"width": each, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, each)
    order(page, "resume", "broken")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    found["/login"] = _violations(page, source)
    assert {place: faults for place, faults in found.items() if faults} == {}


def _violations(page: Page, source: str) -> list[str]:
    page.evaluate(source)
    results = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary'][:200]}"
        for violation in results["violations"]
        for node in violation["nodes"]
    ]


def _unnamed(page: Page) -> list[str]:
    """Return the tables without a name, and the names that several buttons have: a screen reader lists both
    without the text around them."""
    tables = page.locator("main table:not([aria-label], :has(caption))").count()
    names: list[str] = page.locator("main button").evaluate_all(
        "(all) => all.map((each) => each.ariaLabel || each.textContent.trim())"
    )
    return [*["a table"] * tables, *sorted({name for name in names if names.count(name) > 1})]


def test_text_of_messages_providers_and_operators_is_only_text(opened: Opener) -> None:
    page = opened()
    order(page, "pause", "broken", because=HOSTILE)
    for screen in SCREENS:
        page.goto(screen)
        assert "\u202e" not in page.locator("body").inner_text()
    page.goto("/")
    expect(row(page, "broken")).to_contain_text("<script>hacked()</script>")
    order(page, "resume", "broken", because=HOSTILE)
    page.goto("/audit")
    expect(page.locator("tbody")).to_contain_text("<script>hacked()</script>")
    page.goto("/nothing")
    page.goto("/lanes/%3Cscript%3Ehacked()%3C%2Fscript%3E")
    expect(page.locator("main")).to_contain_text("There is no provider")


def test_the_keyboard_alone_is_enough(opened: Opener) -> None:
    page = opened()
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/audit")
    page.goto("/")
    button = row(page, "quiet").get_by_role("button", name="Pause")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("End after")).to_be_focused()
    page.keyboard.type("2h")
    page.keyboard.press("Tab")
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="quiet is paused.")).to_be_visible()
    # The button has become another one, and still has the focus.
    again = row(page, "quiet").get_by_role("button", name="Resume")
    expect(again).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Resume quiet")).to_be_visible()
    page.keyboard.press("Enter")
    expect(row(page, "quiet")).to_contain_text("running")
    page.goto("/dead?text=bad-0")
    page.get_by_label("Choose bad-0").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Edit bad-0")).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Edit and retry bad-0")
    expect(dialog.get_by_label("Message")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Chosen letters")).to_contain_text("1 chosen")


def test_a_session_that_ends_leads_back_to_the_log_in(opened: Opener, fleet: World) -> None:
    page = opened("/queues")
    page.context.clear_cookies()
    page.goto("/queues")
    expect(page).to_have_url(re.compile("/login\\?next=/queues"))
    page.get_by_label("Token").fill("a wrong token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("This token is not known")
    page.get_by_label("Token").fill(VIEWER)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{fleet.url}/queues")
    expect(page.get_by_role("button", name="Log out")).to_contain_text("viewer")


def test_the_console_has_a_picture_for_the_readme(opened: Opener, fleet: World) -> None:
    """With RELAY_PICTURES set, the picture is written into the documentation."""
    page = opened("/", viewport={"width": 1024, "height": 640})
    order(page, "pause", "quiet", because="they deploy a new receiver")
    fleet.push(f"q {HOSTILE}", *({"payload": {"body": number}} for number in range(240)))
    expect(row(page, "quiet")).to_contain_text("240")
    expect(row(page, "hooks").locator(".spark-sent")).to_be_visible()
    expect(row(page, "hooks")).to_be_visible()
    picture = page.screenshot()
    order(page, "resume", "quiet")
    assert 5_000 < len(picture) < 150_000
    if folder := os.environ.get("RELAY_PICTURES"):
        (Path(folder) / "console.png").write_bytes(picture)


def test_dead_letters_are_retried_and_purged_by_reason_with_their_number_first(
    opened: Opener, fleet: World
) -> None:
    page = opened("/dead?provider=broken")
    expect(page.get_by_role("heading", level=2).first).to_contain_text("3 by reason")
    reasons = page.request.get("/api/v1/dead?by_reason=true").json()
    assert reasons == fleet.json("dead", "list", "--by-reason")
    assert page.request.get("/api/v1/dead?provider=broken").json() == fleet.json("dead", "list", "broken")
    page.locator("tbody tr").first.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_be_hidden()
    expect(dialog.get_by_role("heading")).to_have_text("Retry dead letters: 3")
    dialog.get_by_label("Reason").fill("fixed")
    dialog.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("3 of 3 retried.")).to_be_visible()
    page.goto("/audit")
    expect(page.locator("tbody tr").first).to_contain_text("fixed")
    # The provider refuses them again.
    page.goto("/dead?provider=broken&text=bad-1")
    expect(page.get_by_role("heading", level=2).first).to_contain_text("1 by reason")
    page.get_by_role("button", name="Purge these").click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("Purge dead letters: 1")
    page.get_by_role("dialog").get_by_role("button", name="Purge").click()
    expect(page.get_by_text("1 of 1 purged.")).to_be_visible()
    lines = page.request.get("/api/v1/dead/export?provider=broken").text().splitlines()
    assert sorted(json.loads(line)["message"]["id"] for line in lines) == ["bad-0", "bad-2"]
    fleet.push("bad", {"id": "bad-1", "payload": {"body": HOSTILE}})


def test_dead_letters_are_paged_while_others_arrive(opened: Opener, fleet: World) -> None:
    stream = LaneKeys.of("relay", "quiet").part("dead")

    def file(*names: str) -> None:
        for name in names:
            letter: Any = {"ticket": 1, "record": pack(a_message(name)), "reason": "413", "status": 413}
            fleet.redis.xadd(stream, letter)

    file(*(f"paged-{number}" for number in range(110)))
    page = opened("/dead?provider=quiet&status=4xx")
    letters, title = page.locator(".letters tbody tr"), page.get_by_role("heading", name="letters")
    expect(title.last).to_have_text("Newest letters 1 to 50 of 110")
    expect(letters.first).to_contain_text("paged-109")
    older = page.get_by_role("link", name="Older")
    older.focus()
    page.keyboard.press("Enter")
    expect(title.last).to_have_text("Older letters 51 to 100 of 110")
    expect(letters.first).to_contain_text("paged-59")
    file("late")
    read_again(page)
    expect(title.last).to_have_text("Older letters 52 to 101 of 111")
    expect(letters.first).to_contain_text("paged-59")
    # The API and the command line have the same page; neither needs a script.
    (cursor,) = re.findall(r"after=([^&#]+)", page.url)
    document = page.request.get(f"/api/v1/dead?provider=quiet&status=4xx&newest=true&limit=2&after={cursor}")
    words = (
        "dead",
        "list",
        "quiet",
        "--status",
        "4xx",
        "--newest",
        "--limit",
        "2",
        "--after",
        unquote(cursor),
    )
    assert document.json() == fleet.json(*words)
    assert [letter["id"] for letter in document.json()] == ["paged-59", "paged-58"]
    (link,) = re.findall(r'rel="next" href="([^"]+)', page.request.get(page.url).text())
    last = page.request.get("/dead" + unescape(link)).text()
    assert ("102 to 111 of 111" in last, 'rel="next"' in last) == (True, False)
    page.get_by_role("link", name="Newer").click()
    expect(letters.first).to_contain_text("paged-109")
    page.goto("/dead?after=nonsense")
    expect(page.get_by_role("alert")).to_contain_text("is not the `cursor` of a letter")
    fleet.redis.delete(stream)


def test_single_dead_letters_are_chosen_and_purged(opened: Opener, fleet: World) -> None:
    fleet.push("bad", *({"id": f"odd-{number}", "payload": {"body": number}} for number in range(3)))
    page = opened("/queues")
    until_dead(page, "odd-", 3)
    page.goto("/dead?provider=broken&text=odd-")
    expect(page.get_by_role("heading", level=2).first).to_contain_text("3 by reason")
    bar = page.get_by_role("region", name="Chosen letters")
    expect(bar).to_be_hidden()
    page.get_by_label("Choose all letters on this page").check()
    expect(bar).to_contain_text("3 chosen")
    page.get_by_label("Choose odd-1").uncheck()
    expect(bar).to_contain_text("2 chosen")
    bar.get_by_role("button", name="Purge").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Purge dead letters: 2")
    dialog.get_by_role("button", name="Purge").click()
    expect(page.get_by_text("2 of 2 purged.")).to_be_visible()
    expect(bar).to_be_hidden()
    expect(page.locator(".letters tbody tr")).to_have_count(1)
    expect(page.locator(".letters tbody tr")).to_contain_text("odd-1")


def test_a_malformed_letter_is_edited_until_it_is_valid_and_sent(opened: Opener, fleet: World) -> None:
    fleet.redis.rpush("notifications", '{"id": "cut-off", "payload": {"body": 1}')
    page = opened("/queues")
    until_dead(page, "cut-off", 1)
    page.goto("/dead?text=cut-off")
    letter = page.locator(".letters tbody tr")
    expect(letter).to_contain_text("malformed")
    page.get_by_role("button", name="Retry these").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_text("0 of 1 retried; left: 1 still malformed.")).to_be_visible()
    letter.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    text = dialog.get_by_label("Message")
    expect(text).to_have_value('{"id": "cut-off", "payload": {"body": 1}')
    dialog.get_by_role("button", name="Retry").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not valid")
    text.fill('{"id": "cut-off", "payload": {"body": 1}}')
    dialog.get_by_label("Reason").fill("a brace was missing")
    dialog.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("is retried.")).to_be_visible()
    expect(page.locator("main")).to_contain_text("No dead letter matches")
    (entry, *_) = fleet.json("audit")
    assert (entry["action"], entry["provider"]) == ("edit", "hooks")
    assert entry["why"].endswith("a brace was missing")


def test_a_retry_at_a_rate_shows_its_progress_and_stops(opened: Opener, fleet: World) -> None:
    fleet.push("bad", *({"id": f"slow-{number}", "payload": {"body": number}} for number in range(30)))
    page = opened("/queues")
    until_dead(page, "slow-", 30)
    page.goto("/dead?provider=broken&text=slow-")
    expect(page.get_by_role("heading", level=2).first).to_contain_text("30 by reason")
    page.get_by_role("button", name="Retry these").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Letters per second").fill("1")
    dialog.get_by_label("Behind fresh traffic").check()
    dialog.get_by_role("button", name="Retry").click()
    job = page.locator("#job")
    expect(job).to_contain_text("of 30 retried")
    page.reload()
    expect(job).to_contain_text("of 30 retried")
    job.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("; stopped.")).to_be_visible()
    expect(job).to_be_hidden()
    page.request.post(
        "/api/v1/dead/purge",
        data=json.dumps({"provider": "broken", "text": "slow-"}),
        headers={"Origin": page.evaluate("location.origin")},
    )


def test_a_message_is_found_by_each_of_its_properties(opened: Opener) -> None:
    page = opened("/messages")
    page.get_by_label("Search in").select_option("id")
    page.get_by_label("For").fill("bad-2")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr").first).to_contain_text("bad-2")
    expect(page.locator("tbody")).to_contain_text("rejected")
    expect(page.locator("tbody")).to_contain_text("400")


def test_a_message_that_waits_shows_why_and_can_be_cancelled(opened: Opener, fleet: World) -> None:
    page = opened("/messages/wait-1")
    expect(page.locator("main")).to_contain_text("No message has this id")
    order(page, "pause", "quiet", because="a new receiver")
    fleet.push(f"q {HOSTILE}", {"id": "wait-1", "payload": {"body": 1}})
    expect(page.get_by_text("Why not now")).to_be_visible()
    expect(page.locator("main")).to_contain_text("a new receiver")
    document = page.request.get("/api/v1/messages/wait-1").json()
    assert document[0]["position"] == fleet.json("find", "wait-1")[0]["position"] >= 1
    page.get_by_role("button", name="Cancel it").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the message").click()
    expect(page.get_by_text("wait-1 is cancelled.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel it")).to_be_hidden()
    order(page, "resume", "quiet")
    missing = page.request.get("/api/v1/messages/nothing")
    assert (missing.status, missing.json()) == (404, [])


def test_a_pasted_file_is_checked_without_the_secrets_of_this_host(opened: Opener) -> None:
    page = opened("/configuration")
    expect(page.locator("main")).to_contain_text("hooks")
    expect(page.locator("main")).not_to_contain_text(OPERATOR)
    page.get_by_label("Paste a configuration").fill("queues: [{name: q}]\nproviders: {a: {type: pusherr}}\n")
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".result")).to_contain_text("pasted.yaml:2:")
    secret = (
        "queues: [{name: q, provider: ${PATH}}]\nproviders: {a: {type: webhook, secret_file: /etc/passwd}}\n"
    )
    page.get_by_label("Paste a configuration").fill(secret)
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".result")).to_contain_text("stand-in")
    expect(page.locator(".result")).not_to_contain_text("/bin")


def test_feedback_shows_targets_that_are_gone(opened: Opener, fleet: World) -> None:
    page = opened("/feedback")
    expect(page.locator("main")).to_contain_text("No target is gone")
    fleet.redis.xadd(
        "relay:feedback", {"provider": "quiet", "target": HOSTILE, "reason": "410", "id": "gone-1"}
    )
    read_again(page)
    expect(page.locator("tbody")).to_contain_text("<script>")
    assert page.request.get("/api/v1/feedback").json()[0]["id"] == "gone-1"


def test_an_operator_reloads_the_files_of_the_fleet(opened: Opener, fleet: World) -> None:
    page, before = opened("/workers"), fleet.workers()
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("a new rate")
    page.get_by_role("dialog").get_by_role("button", name="Reload").click()
    expect(page.get_by_text("The fleet reads its files again.")).to_be_visible()
    assert fleet.json("audit")[0]["why"] == "a new rate"
    fleet.wait_for_successor(before)


SECRETS = {
    "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    "body": {"note": f"{OPERATOR} {HOSTILE}"},
}
"""Fields of a payload: a secret of the message, one of the configuration, and hostile text."""


def hides_its_secrets(page: Page) -> None:
    text = page.locator("main").inner_text()
    assert "<script>hacked()</script>" in text
    assert OPERATOR not in page.content()
    assert "whsec_" not in page.content()
    assert "\u202e" not in text


def test_a_message_shows_its_content_goes_next_and_is_copied_as_a_command(
    opened: Opener, fleet: World
) -> None:
    page = opened("/messages/next-3")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    order(page, "pause", "quiet", because="not yet")
    queue = f"q {HOSTILE}"
    keys = {"reply_to": "receipts:console", "collapse_key": HOSTILE}
    fleet.push(queue, *({"id": f"next-{number}", "payload": {"body": number}} for number in (1, 2)))
    fleet.push(queue, {"id": "next-3", "payload": SECRETS, **keys})
    expect(page.locator("main")).to_contain_text("Place in line3")
    expect(page.locator("main")).to_contain_text("goes to the list receipts:console")
    expect(page.locator("main")).to_contain_text("Secrets are hidden, also in the command")
    hides_its_secrets(page)
    assert _violations(page, axe()) == []
    document = page.request.get("/api/v1/messages/next-3").json()
    assert document == fleet.json("find", "next-3")
    assert document[0]["message"]["payload"]["secrets"] == ["[redacted]"]

    page.get_by_role("button", name="Copy as a relay push command").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    push, name, text = arguments(page.evaluate("navigator.clipboard.readText()"))
    assert (push, name) == ("push", queue)
    assert json.loads(text)["payload"]["body"] == {"note": f"*** {HOSTILE}"}

    page.get_by_role("button", name="Send next").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("a call")
    dialog.get_by_role("button", name="Send next").click()
    expect(page.locator(".toast", has_text="next-3 is next at quiet.")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Place in line1")
    moved = fleet.run("send-next", "quiet", "next-2")
    assert (moved.returncode, moved.stderr) == (0, "next-2 is next at quiet\n")
    expect(page.locator("main")).to_contain_text("Place in line2")
    entries = page.request.get("/api/v1/audit").json()[:2]
    assert [(entry["action"], entry["why"]) for entry in entries] == [
        ("send-next", "next-2"),
        ("send-next", "next-3: a call"),
    ]
    order(page, "resume", "quiet")
    expect(page.locator("main")).to_contain_text("delivered")
    expect(page.locator("main")).to_contain_text("Redis does not have its payload any more")
    refused = page.request.post(
        "/api/v1/lanes/quiet/send-next",
        data=json.dumps({"id": "next-3"}),
        headers={"Origin": page.evaluate("location.origin")},
    )
    assert (refused.status, refused.json()["error"]) == (
        409,
        '"next-3" is not sent next: it does not wait in this lane',
    )


def test_a_drained_worker_takes_nothing_until_it_is_resumed(opened: Opener, fleet: World) -> None:
    page = opened("/workers")
    (worker,) = page.request.get("/api/v1/workers").json()
    assert worker["duty"] == "serving"
    assert worker["memory_bytes"] > 10_000_000
    of_worker = page.locator("tbody tr").first
    expect(of_worker.locator("[data-label=Memory]")).to_contain_text("MiB")
    of_worker.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("a new kernel")
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(page.get_by_text("takes no more messages.")).to_be_visible()
    expect(of_worker).to_contain_text("drained")
    expect(page.locator("main")).to_contain_text("an operator keeps 1 of 1 workers from taking messages")

    queue = f"q {HOSTILE}"
    elements: list[dict[str, Any]] = [
        {"payload": SECRETS},
        *({"payload": {"body": each}} for each in range(11)),
    ]
    fleet.push(queue, *elements)
    fleet.redis.rpush(queue, HOSTILE)
    page.goto("/queues")
    expect(page.locator("tbody tr").first).to_contain_text("nobody reads it")
    page.locator("tbody a", has_text="q <img").click()
    expect(page.locator(".elements li")).to_have_count(10)
    expect(page.locator(".more")).to_contain_text("The first 10 of 13")
    hides_its_secrets(page)
    assert _violations(page, axe()) == []
    document = page.request.get(f"/api/v1/queues/{quote(queue, safe='')}").json()
    (of_command,) = [each for each in fleet.json("status")["queues"] if each["name"] == queue]
    assert {name: document[name] for name in ("waiting", "dead", "served")} == {
        name: of_command[name] for name in ("waiting", "dead", "served")
    }
    assert (document["waiting"], document["served"], len(document["first"])) == (13, False, 10)

    wrong = '{"payload": {"body": 1}, "colour": "red"}'
    page.get_by_role("button", name="Push a message").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Message").fill(wrong)
    dialog.get_by_role("button", name="Push").click()
    expect(dialog.get_by_role("alert")).to_contain_text("colour")
    said = dialog.get_by_role("alert").inner_text()
    assert f"message 1: {said} (--force" in fleet.run("push", queue, wrong).stderr
    dialog.get_by_label("Message").fill('{"id": "by-hand", "payload": {"body": 1}}')
    dialog.get_by_role("button", name="Push").click()
    expect(page.get_by_text("The message is in the queue.")).to_be_visible()

    # A reload replaces the worker, which stays drained.
    origin, before = {"Origin": page.evaluate("location.origin")}, fleet.workers()
    page.request.post("/api/v1/workers/reload", data="{}", headers=origin)
    fleet.wait_for_successor(before)
    page.goto("/workers")
    expect(of_worker.get_by_role("button", name="Resume")).not_to_have_attribute(
        "data-worker", worker["worker"]
    )
    expect(of_worker).to_contain_text("drained")
    name = of_worker.get_by_role("button", name="Resume").get_attribute("data-worker")
    refused = page.request.post(f"/api/v1/workers/{name}/dismiss", data="{}", headers=origin)
    assert (refused.status, "is alive" in refused.json()["error"]) == (400, True)
    assert fleet.redis.llen(queue) == 14
    before = fleet.workers()
    resumed = fleet.run("worker", "resume", str(name), "--because", "it runs")
    assert (resumed.returncode, resumed.stderr) == (0, f"{name} works again\n")
    expect(of_worker).to_contain_text("alive")
    fleet.wait_for_successor(before)
    page.goto(QUEUE)
    expect(page.locator(".numbers")).to_contain_text("Waiting0")
    expect(page.locator(".numbers")).to_contain_text("Malformed7.1%")
    expect(page.locator(".empty")).to_contain_text("Nothing waits")
    actions = [entry["action"] for entry in page.request.get("/api/v1/audit").json()][:4]
    assert actions == ["drain-end", "reload", "push", "drain"]


def test_a_worker_that_died_is_dismissed(opened: Opener, fleet: World) -> None:
    info = WorkerInfo(
        f"{HOSTILE}-9".replace("\u202e", ""), HOSTILE, "", 9, HOSTILE, 1.0, lanes=("quiet",), settings="other"
    )
    keys = FleetKeys("relay")
    fleet.redis.hset(keys.profiles, info.worker, msgspec.json.encode(info))
    fleet.redis.zadd(keys.gone, {info.worker: float(fleet.redis.time()[0]) * 1000})
    page = opened("/workers")
    dead = page.locator("tr", has_text="died")
    expect(dead).to_contain_text("<script>")
    assert _violations(page, axe()) == []
    dead.get_by_role("button", name="Dismiss").click()
    page.get_by_role("dialog").get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("is dismissed.")).to_be_visible()
    expect(dead).to_have_count(0)
    assert len(page.request.get("/api/v1/workers").json()) == 1


def test_feedback_counts_targets_by_provider_and_hour(opened: Opener, fleet: World) -> None:
    fleet.redis.hincrby(LaneKeys.of("relay", "quiet").part("control"), "unregistered", 7)
    # The counters of a lane that is busy are recorded within a second.
    fleet.push(f"q {HOSTILE}", {"payload": {"body": 1}})
    page = opened("/queues")
    while fleet.redis.hget(LaneKeys.of("relay", "quiet").part("statistics"), "total:unregistered") != b"7":
        page.wait_for_timeout(20)
    order(page, "resume", "quiet")
    page.goto("/feedback")
    rates = row(page, "quiet").first
    expect(rates.locator("[data-label='In all']")).to_have_text("7")
    expect(rates.locator("[data-label='Last hour']")).to_have_text("7")
    (document,) = page.request.get("/api/v1/feedback/rates").json()
    assert document == {"provider": "quiet", "last_hour": 7, "last_day": 7, "total": 7}
    of_command = fleet.json("status", "quiet")
    assert (of_command["unregistered"], of_command["outcomes"]["unregistered"]) == (7, 7)
    lines = page.request.get("/api/v1/feedback/export").text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["gone-1"]


def test_a_log_out_ends_the_session_in_all_processes(opened: Opener, fleet: World) -> None:
    page = opened("/workers")
    (cookie,) = page.context.cookies()
    headers = {"Cookie": f"relay_session={cookie['value']}"}
    with fleet.console() as other:
        browser = page.context.browser
        assert browser is not None
        program = browser.new_context()
        overview, stays = f"{other}api/v1/overview", f"{other}workers"
        assert program.request.get(overview, headers=headers).status == 200
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        assert program.request.get(overview, headers=headers).status == 401
        assert program.request.get(stays, headers=headers, max_redirects=0).status == 303
        origin = {"Origin": other.rstrip("/")}
        paused = program.request.post(f"{other}api/v1/lanes/quiet/pause", data="{}", headers=headers | origin)
        assert paused.status == 401
        # The session that a browser had before a log-in, which somebody may have planted, ends with it.
        form: dict[str, str | float | bool] = {"token": VIEWER}
        first = program.request.post(f"{other}login", form=form, headers=origin, max_redirects=0)
        planted = first.headers["set-cookie"].partition(";")[0]
        form = {"token": OPERATOR}
        second = program.request.post(
            f"{other}login", form=form, headers={**origin, "Cookie": planted}, max_redirects=0
        )
        own = second.headers["set-cookie"].partition(";")[0]
        assert own != planted
        for name, status in ((planted, 401), (own, 200)):
            assert page.request.get("/api/v1/overview", headers={"Cookie": name}).status == status
        program.close()
