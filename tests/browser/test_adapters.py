"""The menu of adapters: who answers."""

from selenium.webdriver.support.ui import Select
from server import ROOT

COUNTING = f"counting={ROOT / 'models/demo-counting'}"


def test_a_model_without_adapters_has_no_menu(page):
    assert not page.find("#adapters").is_displayed()


def test_the_adapter_that_is_chosen_answers(other_page):
    _, page = other_page("--adapter", COUNTING)
    page.wait("the menu", page.find("#adapters").is_displayed)
    menu = Select(page.find("#model"))
    assert [option.text for option in menu.options] == ["demo", "counting"]
    page.example("three-hearts.png")
    page.task("caption")
    page.run_to_end()
    assert "heart, a red heart" in page.text("#answers")
    menu.select_by_visible_text("counting")
    page.run_to_end()
    page.wait("its answer", lambda: "3 hearts" in page.text("#answers"))
    assert [line.text for line in page.all("#history .asked")] == ["counting: Caption, normal", "Caption, normal"]
    page.check_looks("adapters")
