// The tabs with the request as code, and their copy buttons.
import { SNIPPETS } from "./snippets.js";

const byId = (id) => document.getElementById(id);
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

export function showCode(request) {
  for (const [language, write] of Object.entries(SNIPPETS)) byId(`code-${language}`).textContent = write(request);
}

/** `say` announces a text to screen readers. */
export function watchCode(say) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => select(tabs, tab));
    tab.addEventListener("keydown", (event) => moveOn(event, tabs, index));
  });
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copyText(button, byId(`code-${button.dataset.copy}`), say));
  }
}

/** Arrow keys, Home and End move among tabs; only the one in use is a stop of the Tab key. */
function moveOn(event, tabs, index) {
  const ends = { Home: 0, End: tabs.length - 1 };
  const target = ends[event.key] ?? (STEPS[event.key] && (index + STEPS[event.key] + tabs.length) % tabs.length);
  if (target === undefined) return;
  event.preventDefault();
  select(tabs, tabs[target]);
  tabs[target].focus();
}

function select(tabs, chosen) {
  for (const tab of tabs) {
    const selected = tab === chosen;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !selected;
  }
}

/** Copies the text of `place`, and says so on the button. */
export async function copyText(button, place, say) {
  const copied = await write(place);
  const label = button.firstChild;
  label.data = copied ? "Copied" : "Selected";
  say(copied ? "Copied" : "The text is selected: copy it with your keyboard");
  setTimeout(() => (label.data = "Copy"), 1500);
}

/** Browsers give the clipboard to https and localhost only; elsewhere the text is at least selected. */
async function write(place) {
  try {
    await navigator.clipboard.writeText(place.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(place);
    return document.execCommand("copy");
  }
}
