"""The playground in a browser, with words for what people do there."""

import base64
import os
import re
from itertools import product
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

# Where screenshots of every state go; none are taken without it.
SCREENSHOTS = os.environ.get("PALIGEMMA_SCREENSHOTS")
DESKTOP, PHONE = (1280, 900), (390, 844)
THEMES = ("light", "dark") if SCREENSHOTS else ("light",)


class Page:
    def __init__(self, driver):
        self.driver = driver
        self.expected = []  # console errors that a test brings about on purpose, as patterns

    def open(self, address):
        self.driver.get("about:blank")
        self.driver.get_log("browser")  # forgets what an earlier test left there
        self.look(DESKTOP, "light")
        self.driver.get(address)
        self.wait("the first example", lambda: self.text("#file-name") != "")
        self.wait("its picture", lambda: self.js("return document.querySelector('#image').naturalWidth") > 0)

    # --- What people do

    def choose(self, file):
        self.find("#file").send_keys(str(file))
        self.wait(f"{file} in use", lambda: self.text("#file-name") == Path(file).name)

    def choose_several(self, *files):
        self.find("#file").send_keys("\n".join(map(str, files)))
        self.wait("all of them", lambda: len(self.all("#tray li")) == len(files))

    def example(self, name):
        self.find(f"[data-name='{name}']").click()
        self.wait(f"{name} in use", lambda: self.text("#file-name") == name)
        self.wait("its picture", lambda: self.js("return document.querySelector('#image').complete"))

    def task(self, name):
        self.js("document.querySelector(arguments[0]).click()", f"[name=task][value={name}]")

    def fill(self, field, text):
        place = self.find(f"#{field}")
        place.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE, text)

    def run(self):
        self.find("#run").click()

    def run_to_end(self):
        self.run()
        self.wait("the answer's end", lambda: self.ended() or self.problem())
        assert self.problem() == ""

    def ended(self):
        """Whether all answers on view are complete."""
        totals = [each.get_property("textContent") for each in self.all("#answers .total")]
        return totals and "–" not in totals

    # --- What they see

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.find(selector).text

    def wait(self, what, condition, seconds=15):
        WebDriverWait(self.driver, seconds, 0.05).until(lambda _: condition(), f"waited for {what}")

    def problem(self):
        """What went wrong, with the page or with an answer."""
        return "\n".join(each.text for each in self.all(".problem") if each.text)

    def wait_for_problem(self):
        self.wait("a problem", self.problem)
        return self.problem()

    def rectangle(self, selector):
        """Left, top, right and bottom of an element, in pixels of the picture that is shown."""
        return self.js(
            """
            const image = document.querySelector('#image'), frame = image.getBoundingClientRect();
            const { left, top, right, bottom } = document.querySelector(arguments[0]).getBoundingClientRect();
            const x = image.naturalWidth / frame.width, y = image.naturalHeight / frame.height;
            return [(left - frame.left) * x, (top - frame.top) * y, (right - frame.left) * x, (bottom - frame.top) * y];
            """,
            selector,
        )

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def cdp(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    # --- Looks

    def look(self, size, theme):
        width, height = size
        mobile = size == PHONE
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=mobile)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def check_looks(self, name):
        """Nothing is wider than the screen, at desktop and phone width."""
        for size, theme in product((DESKTOP, PHONE), THEMES):
            self.look(size, theme)
            self.js("scrollTo(0, 0)")
            needed = self.js("return document.documentElement.scrollWidth")
            if SCREENSHOTS:
                self.shoot(f"{name}-{'phone' if size == PHONE else 'desktop'}-{theme}")
            assert needed <= size[0], f"{name}: {needed} pixels wide on a screen of {size[0]}"
        self.look(DESKTOP, "light")

    def shoot(self, name):
        self.js("return new Promise(requestAnimationFrame)")
        taken = self.cdp("Page.captureScreenshot", captureBeyondViewport=True)
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    # --- The console

    def expect_in_console(self, pattern):
        """Chromium reports every refused request as an error; that of a test on purpose is none."""
        self.expected.append(pattern)

    def assert_no_console_errors(self):
        logged = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        wrong = [message for message in logged if not any(re.search(each, message) for each in self.expected)]
        assert wrong == []
