// The shapes of the states. A state is a word, a shape and a colour; without the colour it still reads.
//
// waiting: a ring. paid: a filled disc with a tick. failed: a square with a cross. unknown: a diamond with a bar and a dot.

const namespace = "http://www.w3.org/2000/svg";
const shapes = {
  waiting: [["circle", { cx: 32, cy: 32, r: 26.5, class: "ring" }], ["circle", { cx: 32, cy: 32, r: 9, class: "core" }]],
  paid: [["circle", { cx: 32, cy: 32, r: 29, class: "fill" }], ["path", { d: "M19 33.5 28.5 43 46 24", class: "cut" }]],
  failed: [["rect", { x: 5, y: 5, width: 54, height: 54, rx: 9, class: "fill" }], ["path", { d: "M22 22 42 42M42 22 22 42", class: "cut" }]],
  unknown: [["path", { d: "M32 2.5 61.5 32 32 61.5 2.5 32Z", class: "fill round" }], ["path", { d: "M32 19v15.5M32 44v.2", class: "cut" }]],
  blocked: [["rect", { x: 6, y: 6, width: 52, height: 52, rx: 26, class: "line" }], ["path", { d: "M25 22v20M39 22v20", class: "stroke" }]],
  none: [["circle", { cx: 32, cy: 32, r: 27, class: "dash" }]],
};

/** @type {Record<string, keyof typeof shapes>} */
export const shapeOf = { PENDING: "waiting", SUCCESS: "paid", FAILED: "failed", UNKNOWN: "unknown" };

/** @param {keyof typeof shapes} name */
export function mark(name) {
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("viewBox", "0 0 64 64");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `mark mark-${name}`);
  for (const [tag, attributes] of shapes[name]) {
    const shape = document.createElementNS(namespace, tag);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}
