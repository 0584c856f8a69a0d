// The languages that PaliGemma was trained to caption pictures in.

const CODES = `en ar bn cs da de el es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt ro ru sv sw te th tr uk vi zh`;

/** Fills a `<select>` with them: English first, then by their English names, each with its own name as well. */
export function fillLanguages(select) {
  const english = new Intl.DisplayNames(["en"], { type: "language" });
  const options = CODES.split(" ").map((code) => ({ code, name: english.of(code), own: ownName(code) }));
  const [first, ...others] = options;
  others.sort((one, other) => one.name.localeCompare(other.name, "en"));
  select.append(...[first, ...others].map(({ code, name, own }) => new Option(label(name, own), code)));
}

function label(name, own) {
  return own && own.toLowerCase() !== name.toLowerCase() ? `${name} – ${own}` : name;
}

/** A browser may lack a language's own name, and then gives its code. */
function ownName(code) {
  const own = new Intl.DisplayNames([code], { type: "language" }).of(code);
  return own === code ? "" : own;
}
