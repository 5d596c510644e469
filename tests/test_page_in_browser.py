"""The page in a real browser, with the shipped model behind it: drawn on, scrubbed, walked through by keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Response, Route, expect
from spikehead.model.card import load_card

from tests.browser import WAIT, browsing, chromium, draw, serving
from tests.service.conftest import SHIPPED
from tests.service.serving import eventually

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PLOTS = [
    "classes",
    "input",
    "filtered",
    "kernels",
    "layers",
    "raster",
    "potentials",
    "probabilities",
    "feedback",
]
PANELS = [*PLOTS, "pictures", "attention"]

pytestmark = pytest.mark.slow

expect.set_options(timeout=WAIT)


@dataclass
class Watched:
    """The page, and what must not happen on it. A test that provokes something takes it out of the list."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)  # in the console
    refusals: list[int] = field(default_factory=list)  # status codes from 400 on
    strangers: list[str] = field(default_factory=list)  # requests to other hosts

    def __getitem__(self, name: str) -> Locator:
        """The element of that id."""
        return self.page.locator(f"#{name}")

    def stored(self, identifier: str) -> dict[str, Any]:
        """What the service replays of a request."""
        answer: dict[str, Any] = self.page.request.get(
            f"{self.address}/spikes/{identifier}?include=all"
        ).json()
        return answer

    @property
    def shown(self) -> dict[str, Any]:
        """What the service replays of the request that the page shows."""
        return self.stored(self.page.url.rpartition("#")[2])

    def answered(self, digit: int, steps: str = "16 steps") -> None:
        """Waits for this answer, and until all of it is shown."""
        expect(self["status"]).to_have_text(
            re.compile(rf"^This is a {digit}, with a probability of [0-9.]+ % after {steps}\.")
        )
        expect(self["digit"]).to_have_text(str(digit))

    def to_step(self, step: int) -> None:
        self["slider"].fill(str(step))
        expect(self["step"]).to_have_text(re.compile(f"^Step {step} of "))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with browsing(executable) as browser:
        yield browser


@pytest.fixture(scope="module")
def address(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (SHIPPED / "card.json").is_file():
        pytest.skip(f"needs the shipped model in {SHIPPED}")
    with serving(SHIPPED.parent, tmp_path_factory.mktemp("records")) as address:
        yield address


@pytest.fixture(scope="module")
def opened(browser: Browser, address: str) -> Iterator[Watched]:
    """One page for all tests: plotly takes a while to load."""
    context = browser.new_context(locale="en-GB", timezone_id="UTC", has_touch=True)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    watched = Watched(page, address)

    def on_response(response: Response) -> None:
        if response.status >= 400:
            watched.refusals.append(response.status)

    def on_request(url: str) -> None:
        if not url.startswith((f"{address}/", "blob:", "data:")):
            watched.strangers.append(url)

    def on_console(kind: str, text: str) -> None:
        # the browser's own words about refusals, which are counted apart
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            watched.errors.append(text)

    page.on("console", lambda message: on_console(message.type, message.text))
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("request", lambda request: on_request(request.url))
    page.on("response", on_response)
    page.goto(address)
    yield watched
    context.close()


@pytest.fixture
def watched(opened: Watched) -> Iterator[Watched]:
    """The page as it is at first. Afterwards nothing may have gone wrong that the test has not taken out."""
    page = opened.page
    page.unroute_all()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    page.evaluate("document.getElementById('options').reset()")
    opened["all"].dispatch_event("change")
    opened["order"].select_option("newest")
    opened["clear"].click()
    expect(opened["status"]).to_have_text("Nothing classified yet.")
    yield opened
    troubles = [*opened.errors, *opened.refusals, *opened.strangers]
    for found in (opened.errors, opened.refusals, opened.strangers):
        found.clear()
    assert troubles == []


def choose(watched: Watched, name: str) -> None:
    watched["file"].set_input_files(EXAMPLES / name)


def test_a_3_drawn_with_the_mouse_is_read(watched: Watched) -> None:
    draw(watched.page, 3, "round")
    watched.answered(3)  # by itself, as soon as the pen rests
    expect(watched["bars"].locator("li")).to_have_count(10)
    expect(watched["bars"].locator("li.best")).to_contain_text("3")
    expect(watched["facts"]).to_contain_text("equal to what was recorded")
    for name in PANELS:
        expect(watched[f"{name}-panel"]).to_be_visible()
    for name in PLOTS:
        watched[name].scroll_into_view_if_needed()
        expect(watched[name].locator(".main-svg").first).to_be_visible()
        assert len(watched[name].get_attribute("aria-label") or "") > 20
    for name in ("pixels", "contrast", "spikes", "traces"):
        lit = watched[name].evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, 28, 28).data.filter((v, i) => i % 4 == 0 && v).length"
        )
        assert 20 < lit < 400, name
    heads = sum(
        layer.shape[1] // layer.fan_out.targets
        for layer in load_card(SHIPPED).layers
        if layer.name.endswith(".query")
    )
    expect(watched["attention"].locator("canvas")).to_have_count(heads)
    assert watched.shown["answer"]["prediction"] == 3


def test_time_can_be_scrubbed(watched: Watched) -> None:
    draw(watched.page, 3, "round")
    watched.answered(3)
    stored = watched.shown
    value = watched["bars"].locator("li").nth(3).locator(".value")
    for step in (16, 1, 5):
        watched.to_step(step)
        probabilities = stored["probabilities"]["class"][step - 1]
        expect(value).to_have_text(f"{100 * probabilities[3]:.1f} %")
        spikes = sum(t == step - 1 for t, _ in stored["raster"]["input"]["events"])
        label = f"Input spikes at step {step}: {spikes} of 784 pixels"
        expect(watched["spikes"]).to_have_attribute("aria-label", label)
        expect(watched["slider"]).to_have_attribute("aria-valuetext", f"Step {step} of 16")
        expect(watched["potentials"]).to_have_attribute("aria-label", re.compile(f"At step {step} "))
    watched["classes"].scroll_into_view_if_needed()
    expect(watched["classes"].locator(".shapelayer path").first).to_be_attached()
    watched["slider"].press("ArrowLeft")
    expect(watched["step"]).to_have_text("Step 4 of 16")
    cursor = "document.getElementById('classes').layout.shapes[0].x0"
    eventually(lambda: watched.page.evaluate(cursor) == 3.85)


def test_time_plays(watched: Watched) -> None:
    watched["step"].evaluate(
        """label => {
            window.steps = [];
            new MutationObserver(() => window.steps.push(label.textContent)).observe(label, { childList: true });
        }"""
    )
    every = [f"Step {step} of 16" for step in range(1, 17)]
    choose(watched, "3.png")
    watched.answered(3)
    expect(watched["step"]).to_have_text("Step 16 of 16")  # it plays by itself
    expect(watched["play"]).to_have_text("Play")
    assert watched.page.evaluate("window.steps.splice(0)")[-10:] == every[-10:]  # before, not all are there
    watched["play"].click()  # from the end: all over again
    eventually(lambda: watched.page.evaluate("window.steps.at(-1)") == every[-1])
    expect(watched["play"]).to_have_text("Play")
    assert watched.page.evaluate("window.steps") == every


def test_spikes_are_named(watched: Watched) -> None:
    choose(watched, "3.png")
    watched.answered(3)
    watched.to_step(2)
    events = watched.shown["raster"]["input"]["events"]
    names = {
        (t, index): f"pixel at row {index // 28}, column {index % 28}, step {t + 1}" for t, index in events
    }
    watched["input"].scroll_into_view_if_needed()
    area = watched["input"].locator(".nsewdrag").bounding_box()
    assert area is not None
    t, index = events[7]
    low, high = watched["input"].evaluate("box => box.layout.yaxis.range")
    x = area["x"] + area["width"] * (t + 0.5) / 16
    y = area["y"] + area["height"] * (index - low) / (high - low)
    watched.page.mouse.move(x, y)
    expect(watched["input"].locator(".hovertext")).to_contain_text("pixel at row")
    assert watched["input-said"].inner_text() in names.values()
    watched["input"].focus()
    now = [index for t, index in events if t == 1]
    watched.page.keyboard.press("ArrowDown")
    expect(watched["input-said"]).to_have_text(f"{names[1, now[0]]} (1 of {len(now)})")
    watched.page.keyboard.press("ArrowUp")
    expect(watched["input-said"]).to_have_text(f"{names[1, now[-1]]} ({len(now)} of {len(now)})")
    watched["pixels"].hover(position={"x": 2, "y": 2})
    expect(watched["pictures-said"]).to_have_text("Row 0, column 0: 0 of 255")


def test_any_layer_has_its_raster(watched: Watched) -> None:
    choose(watched, "3.png")
    watched.answered(3)
    watched.to_step(1)
    for layer in ("block2.query", "tokens"):
        watched["layer"].select_option(layer)
        events = watched.shown["raster"][layer]["events"]
        spikes = sum(t == 0 for t, _ in events)
        expected = f"Raster of {layer}: {spikes} of 3136 neurons spike at step 1, {len(events):,} spikes in 16 steps."
        expect(watched["raster"]).to_have_attribute("aria-label", expected)


def test_recent_requests(watched: Watched) -> None:
    for digit in range(10):
        watched.page.request.post(
            f"{watched.address}/classify?seed={digit}",
            data=(EXAMPLES / f"{digit}.png").read_bytes(),
            headers={"Content-Type": "image/png"},
        )
    entries = watched["list"].locator("button")
    watched["order"].select_option("confidence")
    expect(entries).to_have_count(8)
    watched["more"].click()
    expect(entries).not_to_have_count(8)
    identifiers = [entry.get_attribute("data-id") or "" for entry in entries.all()]
    confidences = [watched.stored(identifier)["answer"]["confidence"] for identifier in identifiers]
    assert len(set(identifiers)) == len(identifiers) and confidences == sorted(confidences)
    entries.first.click()
    expect(entries.first).to_have_attribute("aria-current", "true")
    answer = watched.stored(identifiers[0])["answer"]
    watched.answered(answer["prediction"], r"\d steps?")
    assert watched.page.url.endswith(f"#{identifiers[0]}")
    watched["read"].select_option("7")
    expect(entries.first.locator(".read")).to_have_text("7")
    assert set(entries.locator(".read").all_inner_texts()) == {"7"}
    watched["read"].select_option("")


def tab_to(watched: Watched, name: str) -> None:
    for _ in range(80):
        if watched.page.evaluate("document.activeElement.id") == name:
            return
        watched.page.keyboard.press("Tab")
    raise AssertionError(f"{name} is not reached by Tab")


def test_by_keyboard_alone(watched: Watched) -> None:
    keyboard = watched.page.keyboard
    watched.page.evaluate("document.activeElement.blur()")
    tab_to(watched, "pad")
    expect(watched["nib"]).to_be_visible()
    keyboard.press("Space")
    expect(watched["pen"]).to_contain_text("Pen down")
    for _ in range(17):
        keyboard.press("ArrowDown")
    keyboard.press("Space")
    expect(watched["pen"]).to_contain_text("Pen up")
    keyboard.press("Enter")
    watched.answered(1)
    tab_to(watched, "slider")
    keyboard.press("Home")
    expect(watched["step"]).to_have_text("Step 1 of 16")
    keyboard.press("ArrowRight")
    expect(watched["step"]).to_have_text("Step 2 of 16")
    tab_to(watched, "input")
    keyboard.press("ArrowDown")
    expect(watched["input-said"]).to_contain_text("step 2")
    tab_to(watched, "layer")


@pytest.mark.parametrize("hold", ["Home", "press"])
def test_who_takes_hold_of_the_slider_stops_the_play(watched: Watched, hold: str) -> None:
    """Also at the first step, where neither a key nor a press changes its value."""
    choose(watched, "7.png")
    watched.answered(7)
    watched.to_step(16)
    watched["play"].click()
    expect(watched["play"]).to_have_text("Pause")
    watched["slider"].focus()
    if hold == "Home":
        watched.page.keyboard.press("Home")
    else:
        watched["slider"].click(position={"x": 8, "y": 8})
    expect(watched["play"]).to_have_text("Play")
    expect(watched["step"]).to_have_text("Step 1 of 16")


def test_two_arrow_keys_draw_aslant(watched: Watched) -> None:
    keyboard = watched.page.keyboard
    watched["pad"].focus()
    place = "[...['left', 'top'].map(side => parseFloat(document.getElementById('nib').style[side]))]"
    before = watched.page.evaluate(place)
    keyboard.down("ArrowRight")
    keyboard.down("ArrowDown")
    keyboard.up("ArrowDown")
    keyboard.up("ArrowRight")
    assert watched.page.evaluate(place) == pytest.approx([before[0] + 6, before[1] + 3])


def test_files_are_chosen_and_dropped(watched: Watched) -> None:
    choose(watched, "7.png")
    watched.answered(7)
    data = list((EXAMPLES / "2.png").read_bytes())
    transfer = watched.page.evaluate_handle(
        """data => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(data)], "2.png", { type: "image/png" }));
            return transfer;
        }""",
        data,
    )
    watched.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    watched.answered(2)


def test_what_is_no_picture_is_refused_in_words(watched: Watched) -> None:
    watched["file"].set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture at all"}
    )
    expect(watched["status"]).to_have_text(re.compile("^The picture cannot be read: expected a PNG, JPEG, "))
    expect(watched["answer"]).to_be_hidden()
    assert watched.refusals == [422]
    watched.refusals.clear()


def test_options(watched: Watched) -> None:
    watched.page.locator("summary").click()
    watched["all"].uncheck()
    field = watched["options"].locator
    field("[name=seed]").fill("18446744073709551615")
    field("[name=confidence]").fill("0.9999999")
    field("[name=max_steps]").fill("3")
    field("[name=encoder]").select_option("regular")
    choose(watched, "4.png")
    watched.answered(4, r"\d steps?")
    answer = watched.page.request.get(
        f"{watched.address}/spikes/{watched.page.url.rpartition('#')[2]}"
    ).json()["answer"]
    assert answer["seed"] == 18446744073709551615
    assert (answer["max_steps"], answer["confidence_threshold"], answer["encoder"]) == (
        3,
        0.9999999,
        "regular",
    )
    expect(watched["facts"]).to_contain_text("18446744073709551615, regular")
    field("[name=max_steps]").fill("0")
    watched["classify"].click()
    expect(watched["status"]).to_have_text(
        "Time steps at the most: expected a whole number from 1 to 16, got '0'"
    )
    assert watched.refusals == [422]
    watched.refusals.clear()


def test_it_stops_when_sure(watched: Watched) -> None:
    watched["all"].uncheck()
    watched.page.locator("[name=seed]").evaluate("field => { field.value = '7'; }")
    choose(watched, "3.png")
    watched.answered(3, "1 step")
    expect(watched["step"]).to_have_text("Step 1 of 1")
    expect(watched["play"]).to_be_disabled()
    expect(watched["facts"]).to_contain_text("1 of 16 (sure enough)")


def changed(route: Route, model: str, without: tuple[str, ...] = (), **more: Any) -> None:
    """Answers with the service's document without some of its members and with others."""
    document = route.fetch().json()
    document = {name: value for name, value in document.items() if name not in without} | more
    document["answer"]["model"] = model
    route.fulfill(json=document)


def test_a_conventional_network_has_no_kernels_feedback_or_attention(watched: Watched) -> None:
    page = watched.page
    card = json.loads((SHIPPED / "card.json").read_text()) | {"kind": "ann", "kernels": {}}
    page.route(
        "**/models/ann-twin", lambda route: route.fulfill(json={"engine": "onnxruntime", "card": card})
    )
    page.route(
        "**/spikes/*include=all",
        lambda route: changed(route, "ann-twin", ("filtered", "feedback", "attention")),
    )
    watched["list"].locator("button").first.click()
    expect(watched["facts"]).to_contain_text("a conventional network")
    expect(watched["facts"]).to_contain_text("equal to what was recorded")
    for name in ("filtered", "kernels", "feedback", "attention"):
        expect(watched[f"{name}-panel"]).to_be_hidden()
    for name in ("classes", "input", "layers", "raster", "potentials", "probabilities", "pictures"):
        expect(watched[f"{name}-panel"]).to_be_visible()
    expect(watched["traces"]).to_be_hidden()


def test_a_network_without_hidden_layers(watched: Watched) -> None:
    raster = {"input": {"shape": [1, 28, 28], "events": [[0, 300]]}, "output": {"shape": [10], "events": []}}
    watched.page.route(
        "**/spikes/*include=all",
        lambda route: changed(route, "spiking-mha", ("attention",), raster=raster),
    )
    choose(watched, "3.png")
    watched.answered(3)
    for name in ("layers", "raster", "attention"):
        expect(watched[f"{name}-panel"]).to_be_hidden()
    watched.to_step(2)
    watched["feedback"].focus()
    watched.page.keyboard.press("ArrowDown")
    expect(watched["feedback-said"]).to_have_text("No spike at step 2.")


def refuse(route: Route, status: int, title: str, detail: str) -> None:
    body = json.dumps({"type": "/problems/any", "title": title, "status": status, "detail": detail})
    route.fulfill(status=status, body=body, content_type="application/problem+json")


def test_a_service_that_sends_no_steps_and_no_replay(watched: Watched) -> None:
    """As older ones do."""
    page = watched.page
    page.route(
        "**/classify?*",
        lambda route: route.continue_(headers={**route.request.headers, "accept": "application/json"}),
    )
    page.route(
        "**/spikes/*include=all",
        lambda route: refuse(route, 422, "The option does not exist", "expected none, got 'include'"),
    )
    choose(watched, "5.png")
    watched.answered(5)
    expect(watched["status"]).to_contain_text("The option does not exist: expected none, got 'include'.")
    expect(watched["bars"].locator("li.best")).to_contain_text("5")
    expect(watched["time"]).to_be_hidden()
    expect(watched["pixels"]).to_be_visible()
    assert watched.refusals == [422]
    watched.refusals.clear()


def test_a_model_that_has_changed(watched: Watched) -> None:
    watched.page.route(
        "**/spikes/*include=all",
        lambda route: refuse(
            route,
            409,
            "The model has changed since the request",
            "expected spiking-mha 1.0.0, got version 1.1.0",
        ),
    )
    watched["list"].locator("button").first.click()
    expect(watched["status"]).to_contain_text(
        "The model has changed since the request: expected spiking-mha 1.0.0, got version 1.1.0."
    )
    expect(watched["pixels"]).to_be_visible()
    expect(watched["potentials-panel"]).to_be_hidden()
    assert watched.refusals == [409]
    watched.refusals.clear()


def test_a_request_that_nobody_remembers(watched: Watched) -> None:
    watched.page.evaluate("location.hash = '#000000000000000000000000'")
    expect(watched["status"]).to_have_text("This request is not remembered, or not any more.")
    assert watched.refusals == [404]
    watched.refusals.clear()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_steps", "99", "Time steps at the most: expected a whole number from 1 to 16, got '99'"),
        ("confidence", "7", "Stop at confidence: expected a number above 0, at most 1, got '7'"),
        ("seed", "seven", "Seed: expected a whole number from 0 to 2**64 - 1, got 'seven'"),
        ("encoder", "poisson", "Encoder: expected one of bernoulli, regular, got 'poisson'"),
        ("model", "gone", "Model: expected one of "),
    ],
)
def test_a_wrong_value_is_told_of_by_the_fields_label(
    watched: Watched, field: str, value: str, words: str
) -> None:
    watched["all"].uncheck()
    watched.page.locator("details").evaluate("one => { one.open = true; }")
    setting = """(field, value) => {
        if (field.tagName === "SELECT") field.add(new Option(value, value));
        field.value = value;
    }"""
    watched.page.locator(f"[name={field}]").evaluate(setting, value)
    choose(watched, "3.png")
    expect(watched["status"]).to_contain_text(words)
    assert not re.search(r"max_steps|unknown|invalid|/", watched["status"].inner_text())
    watched.page.locator(f"[name={field}] option[value='{value}']").evaluate_all(
        "all => all.forEach(one => one.remove())"
    )
    assert 404 in watched.refusals if field == "model" else watched.refusals == [422]
    watched.refusals.clear()


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", b"three"), ("three.heic", b"\0\0\0\x18ftypheic"), ("three.json", b"[3]"), ("three", b"3")],
)
def test_a_file_that_is_no_picture(watched: Watched, name: str, content: bytes) -> None:
    watched["file"].set_input_files({"name": name, "mimeType": "", "buffer": content})
    expect(watched["status"]).to_have_text(re.compile("PNG, JPEG, WebP, BMP or GIF"))
    text = watched["status"].inner_text()
    assert not re.search(r"/classify|Content-Type|application/|bytes|JSON", text), text
    watched.refusals.clear()


def test_a_mistake_of_the_service_names_the_line_of_its_log(watched: Watched) -> None:
    document = {"type": "/problems/internal-error", "title": "The service made a mistake", "status": 500}
    watched.page.route(
        "**/classify?*", lambda route: route.fulfill(status=500, json=document | {"request_id": "18eb1bf1"})
    )
    choose(watched, "3.png")
    expect(watched["status"]).to_have_text("The service made a mistake. Its log says more, under 18eb1bf1.")
    watched.refusals.clear()


def test_what_is_not_recorded_is_shown_as_it_came(watched: Watched) -> None:
    watched.page.route(
        "**/spikes/*include=all",
        lambda route: refuse(
            route, 503, "Past requests cannot be read", "expected the database, got it away"
        ),
    )
    choose(watched, "6.png")
    watched.answered(6)
    expect(watched["status"]).to_contain_text("Past requests cannot be read")
    watched.to_step(16)
    for name in (
        "classes",
        "input",
        "layers",
        "raster",
        "potentials",
        "probabilities",
        "feedback",
        "kernels",
    ):
        expect(watched[f"{name}-panel"]).to_be_visible()
    for name in ("filtered", "attention"):
        expect(watched[f"{name}-panel"]).to_be_hidden()
    assert watched.refusals == [503]
    watched.refusals.clear()


def test_what_leaves_no_record(watched: Watched) -> None:
    watched.page.route("**/classify?*", lambda route: route.continue_(url=f"{route.request.url}&record=no"))
    choose(watched, "8.png")
    watched.answered(8)
    expect(watched["facts"]).to_contain_text("not recorded, so it cannot be replayed")
    watched.to_step(16)
    expect(watched["raster-panel"]).to_be_visible()


def test_a_service_that_is_away(watched: Watched) -> None:
    watched.page.route("**/classify?*", lambda route: route.abort())
    choose(watched, "3.png")
    expect(watched["status"]).to_have_text("The service cannot be reached.")
    expect(watched["classify"]).to_be_enabled()


def test_a_phone_has_nothing_to_scroll_sideways(watched: Watched) -> None:
    watched.page.set_viewport_size({"width": 360, "height": 780})
    width = "document.documentElement.scrollWidth"
    assert watched.page.evaluate(width) == 360
    draw(watched.page, 3, "round")
    watched.answered(3)
    for name in PLOTS:
        watched[name].scroll_into_view_if_needed()
        expect(watched[name].locator(".main-svg").first).to_be_visible()
    assert watched.page.evaluate(width) == 360


def touch(watched: Watched, places: list[tuple[float, float]]) -> None:
    """A finger goes over the screen."""
    session = watched.page.context.new_cdp_session(watched.page)
    for kind, (x, y) in zip(["touchStart"] + ["touchMove"] * len(places), places, strict=False):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        watched.page.wait_for_timeout(20)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()


def test_a_finger_draws_on_the_pad_and_scrolls_on_a_plot(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 360, "height": 780})
    page.evaluate("scrollTo(0, 0)")
    box = watched["pad"].bounding_box()
    assert box is not None
    x, top, height = box["x"] + box["width"] / 2, box["y"], box["height"]
    touch(watched, [(x + step / 3, top + height * (0.2 + 0.05 * step)) for step in range(13)])
    watched.answered(1)
    assert page.evaluate("scrollY") == 0
    watched["potentials"].scroll_into_view_if_needed()
    expect(watched["potentials"].locator(".main-svg").first).to_be_visible()
    watched["potentials"].evaluate("box => box.scrollIntoView({ block: 'center' })")
    before = page.evaluate("scrollY")
    touch(watched, [(180, 400 - 20 * step) for step in range(10)])
    eventually(lambda: page.evaluate("scrollY") > before + 50)


def test_dark(watched: Watched) -> None:
    choose(watched, "3.png")
    watched.answered(3)
    watched.to_step(1)
    watched["classes"].scroll_into_view_if_needed()
    label = watched["classes"].locator(".xtick text").first
    expect(watched.page.locator("body")).to_have_css("background-color", "rgb(248, 247, 243)")
    expect(label).to_have_css("fill", "rgb(90, 93, 102)")
    watched.page.emulate_media(color_scheme="dark")
    expect(watched.page.locator("body")).to_have_css("background-color", "rgb(20, 22, 26)")
    expect(watched.page.locator("body")).to_have_css("color", "rgb(236, 234, 228)")
    expect(label).to_have_css("fill", "rgb(168, 171, 180)")


def test_nothing_moves_by_itself_where_motion_is_unwelcome(watched: Watched) -> None:
    watched.page.emulate_media(reduced_motion="reduce")
    choose(watched, "3.png")
    watched.answered(3)
    expect(watched["play"]).to_have_text("Play")
    expect(watched["step"]).to_have_text("Step 16 of 16")
    expect(watched.page.locator(".bar").first).to_have_css("transition-duration", "0s")


def test_where_the_state_begins_anew_is_shown(watched: Watched) -> None:
    """Dotted lines in the plots over time between the steps, and a fact."""
    choose(watched, "3.png")
    watched.answered(3)
    watched["classes"].scroll_into_view_if_needed()
    expect(watched["classes"].locator(".shapelayer path").nth(4)).to_be_attached()
    lines = """document.getElementById('classes').layout.shapes
        .filter(({ type, x0, x1 }) => type === 'line' && x0 === x1).map(({ x0 }) => x0)"""
    assert watched.page.evaluate(lines) == [4.5, 8.5, 12.5]
    expect(watched["facts"]).to_contain_text("begins anew every 4 steps")
    watched.page.locator("details").evaluate("one => { one.open = true; }")
    watched["options"].locator("[name=max_steps]").fill("4")
    choose(watched, "3.png")
    watched.answered(3, "4 steps")
    expect(watched["facts"]).not_to_contain_text("begins anew")
