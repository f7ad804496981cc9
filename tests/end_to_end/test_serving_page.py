"""The page of a site that serves, in a real browser, against the real command."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.serving import keys
from tests.end_to_end.browser import BROWSERS, Tab, browser
from tests.factories import write_site

PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs chromium"),
]
RUN = "from simulations.cli import main; main()"
PATIENCE_S = 20.0
START_S = 120.0
EVIL = "<img src=x onerror='document.title=1'><script>document.title=1</script>"

TITLES = "[...document.querySelectorAll('#cards h3')].map(title => title.textContent)"
CONDITIONS = (
    "[...document.querySelectorAll('#conditions span')].map(s => s.textContent)"
)
TAGS = """[...document.querySelectorAll('.tags')]
  .map(tags => [...tags.children].map(tag => tag.textContent))"""
AT_REST = "document.querySelector('#results').ariaBusy !== 'true' && !!" + TITLES
NAMELESS = """[...document.querySelectorAll('button, input, summary, [tabindex]')]
  .filter(node => node.checkVisibility() && !(node.ariaLabel || node.textContent.trim()
    || node.labels?.length || node.getAttribute('aria-labelledby')))
  .map(node => node.outerHTML)"""
FAINT = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const paint = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue].map(byte => byte / 255);
  };
  const light = rgb => rgb
    .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [.2126, .7152, .0722][n], 0);
  const own = node => getComputedStyle(node).backgroundColor;
  const grounds = node => node ? [...grounds(node.parentElement), own(node)] : [];
  const words = node => [...node.childNodes].some(
    child => child.nodeType === 3 && child.textContent.trim());
  return [...document.body.querySelectorAll('*')]
    .filter(node => node.checkVisibility() && words(node)
      && !node.matches('.spoken, .skip, noscript, .stars *, [aria-hidden] *'))
    .map(node => {
      const under = grounds(node), seen = light(paint(...under));
      const drawn = light(paint(...under, getComputedStyle(node).color));
      const ratio = (Math.max(seen, drawn) + .05) / (Math.min(seen, drawn) + .05);
      return [node.className || node.tagName, node.textContent.slice(0, 30), ratio];
    }).filter(([,, ratio]) => ratio < 4.5);
})()"""


@dataclass(frozen=True)
class Serving:
    """A site that is served, and the key that its page was given."""

    folder: Path
    address: str
    key: str

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the API answers."""
        headers, url = {"X-API-Key": self.key}, f"{self.address}{path}"
        answer = httpx.request(method, url, headers=headers, json=body)
        return answer.raise_for_status().json()


def a_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Serving]:
    """``tacit site serve``, ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "site", "serve", str(folder), "--port", str(port)],
        stdout=subprocess.PIPE,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    try:
        assert process.stdout
        printed = next(line for line in process.stdout if "/#key=" in line)
        address, _, key = printed.split()[-1].partition("/#key=")
        until = time.monotonic() + START_S
        while not answers(address):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield Serving(folder, address, key)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = write_site(tmp_path_factory.mktemp("served") / "site", people=12)
    (made.folder / "serving.toml").write_text("adapt = false\nexplore = 0.0\n")
    with serving(made.folder, a_port()) as served:
        yield served


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser(PROGRAM, tmp_path / "profile") as opened:
        opened.dress(1240, "light")
        yield opened


def until(tab: Tab, holds: str) -> None:
    """Return once an expression holds in the page."""
    end = time.monotonic() + PATIENCE_S
    while not tab.run(f"Boolean({holds})"):
        assert time.monotonic() < end, holds
        time.sleep(0.05)


def press(tab: Tab, *names: str) -> None:
    """Press keys, one after another, where the focus is."""
    for name in names:
        text = {"Enter": {"text": "\r"}, "Space": {"text": " ", "code": "Space"}}
        told = {"key": " " if name == "Space" else name, **text.get(name, {})}
        tab.ask("Input.dispatchKeyEvent", type="keyDown", **told)
        tab.ask("Input.dispatchKeyEvent", type="keyUp", key=told["key"])


def write(tab: Tab, selector: str, words: str) -> None:
    """Type words where a selector points."""
    at = f"document.querySelector({json.dumps(selector)})"
    tab.run(f"{at}.focus(), {at}.select()")
    tab.ask("Input.insertText", text=words)


def click(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector({json.dumps(selector)}).click()")


def titles(tab: Tab) -> list[str]:
    until(tab, AT_REST)
    return list(tab.run(TITLES))


def tags(tab: Tab) -> list[set[str]]:
    """The attributes of each card."""
    until(tab, AT_REST)
    return [set(each) for each in tab.run(TAGS)]


def network(tab: Tab, *, offline: bool) -> None:
    """Take the browser off the network, or let it come back."""
    free = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    tab.ask("Network.enable")
    tab.ask("Network.emulateNetworkConditions", offline=offline, **free)


def open_page(tab: Tab, site: Serving) -> None:
    """The page with its key, and a first list."""
    tab.open(f"{site.address}/#key={site.key}")
    until(tab, f"{TITLES}.length === 10")


def pick(tab: Tab, user: str) -> None:
    """Choose a user from the list, by the keyboard."""
    click(tab, "[value=user]")
    write(tab, "#name", user)
    until(tab, "document.querySelector('#name-list li')")
    press(tab, "ArrowDown", "Enter")
    until(tab, f"document.querySelector('#said').textContent.includes('user {user}.')")


def change(tab: Tab, what: str) -> list[str]:
    """Do something, and return the titles of the list that comes after it."""
    tab.run("document.querySelector('#said').textContent = ''")
    click(tab, what)
    until(tab, "document.querySelector('#said').textContent")
    return titles(tab)


def slide(tab: Tab, selector: str, value: float) -> list[str]:
    at = f"document.querySelector('{selector}')"
    tab.run("document.querySelector('#said').textContent = ''")
    tab.run(f"{at}.value = {value}")
    for event in ("input", "change"):
        tab.run(f"{at}.dispatchEvent(new Event('{event}'))")
    until(tab, "document.querySelector('#said').textContent")
    return titles(tab)


def test_a_like_changes_the_list_of_a_user_who_was_picked(
    tab: Tab, site: Serving
) -> None:
    open_page(tab, site)
    pick(tab, "user-00001")
    before = titles(tab)

    tab.run("document.querySelector('.card [data-kind=like]').focus()")
    press(tab, "Enter")
    until(tab, "document.querySelector('#said').textContent.startsWith('Liked.')")
    after = titles(tab)

    assert len(before) == len(after) == 10
    assert before[0] not in after
    assert before[1:] != after[:-1]
    assert tab.run("document.querySelectorAll('.mark').length") > 0
    assert tab.run("Boolean(document.activeElement.closest('#cards'))")
    assert tab.complaints == []


def test_the_key_is_kept_out_of_the_address(tab: Tab, site: Serving) -> None:
    open_page(tab, site)

    assert tab.run("location.href") == f"{site.address}/"
    assert tab.run("history.length") <= 2
    tab.ask("Page.reload")
    until(tab, f"{TITLES}.length === 10")


def test_a_muted_interest_leaves_the_list_and_comes_back(
    tab: Tab, site: Serving
) -> None:
    open_page(tab, site)
    pick(tab, "user-00004")
    before = titles(tab)
    [top, *_] = site.ask("GET", "/v1/users/user-00004/interests")["interests"]

    button = f"[aria-label^='Mute {top['name']}, ']"
    muted = change(tab, button)
    said = tab.text("#said")
    pressed = tab.run(f"document.querySelector({json.dumps(button)}).ariaPressed")
    back = change(tab, button)

    assert said.startswith(f"Muted: {top['name']}.")
    assert "just in" in said
    assert pressed == "true"
    assert set(muted) != set(before)
    assert set(back) == set(before)
    assert tab.complaints == []


def test_a_request_is_understood_refined_and_narrowed(tab: Tab, site: Serving) -> None:
    open_page(tab, site)

    write(tab, "#query", "a bleak film")
    press(tab, "Enter")
    until(tab, f"{CONDITIONS}.length === 2")
    bleak = tags(tab)
    write(tab, "#turn", "without Ruth Adler")
    press(tab, "Enter")
    until(tab, f"{CONDITIONS}.length === 3")
    refined = tab.run(CONDITIONS)
    change(tab, "[aria-label='Remove mood: bleak']")
    left, films = tab.run(CONDITIONS), tags(tab)
    change(tab, "#clear")

    assert bleak
    assert all({"film", "bleak"} <= each for each in bleak)
    assert refined == ["mood: bleak", "domain: film", "not creator: Ruth Adler"]
    assert left == ["domain: film", "not creator: Ruth Adler"]
    assert len(films) == 10
    assert all("film" in each and "Ruth Adler" not in each for each in films)
    assert tab.run(CONDITIONS) == []
    assert tab.complaints == []


def test_the_sliders_and_the_site_s_own_choice(tab: Tab, site: Serving) -> None:
    open_page(tab, site)
    pick(tab, "user-00003")
    before, own = titles(tab), tab.text("#alpha-said")

    varied = slide(tab, "#diversity", 1)
    by_hand = slide(tab, "#alpha", 0.05)
    said = tab.text("#alpha-said")
    slide(tab, "#diversity", 0)
    back = change(tab, "#own")

    assert varied != before
    assert by_hand
    assert said == "5 %"
    assert tab.text("#alpha-said") == own
    assert back == before
    assert tab.complaints == []


def test_a_visitor_s_history_stays_in_the_tab(tab: Tab, site: Serving) -> None:
    open_page(tab, site)
    before = titles(tab)

    after = change(tab, ".card [data-kind=like]")

    liked = "document.querySelector('#history span').textContent"
    assert tab.run(liked) == before[0]
    assert before[0] not in after
    change(tab, "#history button")
    assert titles(tab)[0] == before[0]


def test_a_wrong_key_is_said_and_another_one_asked_for(tab: Tab, site: Serving) -> None:
    tab.open(f"{site.address}/#key=wrong")
    until(tab, "document.querySelector('#fault strong')")

    assert tab.text("#fault strong") == "This key opens nothing here. "
    assert tab.run("document.activeElement.id") == "key"
    assert tab.run("sessionStorage.length") == 0
    write(tab, "#key", site.key)
    press(tab, "Enter")
    until(tab, f"{TITLES}.length === 10")
    assert tab.text("#fault") == ""


def test_a_key_that_may_only_read_still_serves(tab: Tab, site: Serving) -> None:
    reader = keys.make(site.folder, "reader", ["read"])
    open_page(tab, replace(site, key=reader))
    click(tab, "[value=user]")
    write(tab, "#name", "user-00004")
    until(
        tab, "document.querySelector('#name-hint').textContent.includes('may not list')"
    )
    press(tab, "Enter")
    until(tab, "document.querySelector('#said').textContent.includes('user-00004')")
    before = titles(tab)
    click(tab, ".card [data-kind=like]")
    until(tab, "document.querySelector('#fault strong')")

    assert tab.text("#fault strong") == "Forbidden. "
    assert titles(tab) == before
    assert tab.run("document.querySelectorAll('#cards [aria-pressed]').length") == 0


def test_what_comes_from_outside_is_shown_as_text(tab: Tab, site: Serving) -> None:
    site.ask("PUT", "/v1/items", {"id": EVIL, "text": f"{EVIL}. zebra"})
    open_page(tab, site)
    write(tab, "#liked", "zebra")
    until(tab, "document.querySelector('#liked-list li')")
    press(tab, "ArrowDown", "Enter")
    until(tab, "document.querySelector('#history span')")
    titles(tab)

    assert tab.text("#history span") == EVIL
    assert tab.text("title") == "Tacit"
    assert tab.run("document.querySelectorAll('img, main script').length") == 1
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1240, 390])
def test_it_can_be_read_in_any_light_and_width(
    tab: Tab, site: Serving, tmp_path: Path, scheme: str, width: int
) -> None:
    tab.dress(width, scheme)
    open_page(tab, site)
    pick(tab, "user-00005")
    write(tab, "#query", "a film")
    press(tab, "Enter")
    until(tab, "document.querySelector('#understood').checkVisibility()")
    titles(tab)
    click(tab, ".card summary")
    tab.run("document.getAnimations().forEach(one => one.finish())")
    tab.shoot(tmp_path / f"{scheme}-{width}.png")

    assert tab.run(FAINT) == []
    assert tab.run(NAMELESS) == []
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert (tmp_path / f"{scheme}-{width}.png").stat().st_size > 10_000


def test_a_lost_site_is_said_and_found_again(tab: Tab, site: Serving) -> None:
    open_page(tab, site)
    network(tab, offline=True)
    click(tab, "#own")
    until(tab, "document.querySelector('#fault strong')")
    lost, left = tab.text("#fault strong"), titles(tab)
    network(tab, offline=False)
    until(tab, "!document.querySelector('#fault strong')")

    assert lost == "This site does not answer. "
    assert len(left) == 10
    assert len(titles(tab)) == 10
