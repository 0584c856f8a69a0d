// Where labels go: beside the box that they name, never over it, and clear of the others where there is room.

const GAP = 7; // clear of the lines around the box
export const LABEL = { height: 24, padding: 8, widest: 260, font: "600 13px system-ui, sans-serif" };

/** Above and below the picture, so that a label has a place even if its box fills the picture. */
export const GUTTER = LABEL.height + GAP + 2;

/** The words of a label, cut to at most `width` as `measure(text)` measures. */
export function fit(words, width, measure) {
  let shown = words;
  for (let end = words.length - 1; end > 0 && measure(shown) > width; end--) shown = `${words.slice(0, end).trimEnd()}…`;
  return shown;
}

/**
 * A place `{x, y, width, height}` for each label. `boxes` are `{x, y, width, height}`, `sizes` those of the labels, in
 * the same order; `view` is the size of the picture.
 */
export function placeLabels(boxes, sizes, view) {
  const placed = [];
  boxes.forEach((box, index) => {
    const candidates = placesFor(box, sizes[index], view);
    const others = boxes.filter((_, other) => other !== index);
    const cost = (place, order) => 4 * covered(place, placed) + covered(place, others) + order;
    let best = { cost: Infinity };
    candidates.forEach((place, order) => {
      const its = cost(place, order);
      if (its < best.cost) best = { cost: its, place };
    });
    placed.push(best.place);
  });
  return placed;
}

/** Above, below, and at both sides of a box; the first two always fit, thanks to the gutter. */
function placesFor(box, size, view) {
  const right = box.x + box.width;
  const bottom = box.y + box.height;
  const within = (x) => Math.max(0, Math.min(x, view.width - size.width));
  const along = [box.x, right - size.width, box.x + (box.width - size.width) / 2].map(within);
  const above = along.map((x) => ({ x, y: box.y - size.height - GAP }));
  const below = along.map((x) => ({ x, y: bottom + GAP }));
  const levels = [box.y, bottom - size.height, box.y + (box.height - size.height) / 2];
  const beside = levels.flatMap((y) => [{ x: right + GAP, y }, { x: box.x - size.width - GAP, y }]);
  const fits = ({ x, y }) => x >= 0 && x + size.width <= view.width && y >= -GUTTER && y + size.height <= view.height + GUTTER;
  const places = [...above, ...below, ...beside].filter(fits);
  return (places.length ? places : above).map((place) => ({ ...place, ...size }));
}

/** How much of `place` lies over the others. */
function covered(place, others) {
  return others.reduce((sum, other) => sum + shared(place, other), 0);
}

function shared(one, other) {
  const width = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const height = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  return width > 0 && height > 0 ? width * height : 0;
}
