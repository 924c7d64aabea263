// Line and bar charts as inline SVG, each with its figures as a table for whoever cannot see it.

import { h, svg, table } from "./dom.js";
import { clock } from "./words.js";

const WIDTH = 640;
const HEIGHT = 200;
const EDGE = { left: 52, right: 12, top: 12, bottom: 26 };

/**
 * `series`: [{label, kind: "line" or "bars", className, values}], one value or null for each of `starts` (Unix seconds).
 * `say` writes a value for people.
 */
export function chart(heading, { starts, series, say }) {
  const largest = Math.max(0, ...series.flatMap((each) => each.values.filter((value) => value !== null)));
  const top = niceTop(largest);
  const x = (at) => EDGE.left + ((at + 0.5) / starts.length) * (WIDTH - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  const drawn = series.map((each) => (each.kind === "bars" ? bars(each, { x, y, starts, say }) : line(each, { x, y, starts, say })));
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, heading), h("span", { class: "legend" }, series.map((each) =>
      h("span", { class: `key ${each.className}` }, each.label)))),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary(heading, series, say) },
      [0, 0.5, 1].map((share) => [
        svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(top * share), y2: y(top * share) }),
        svg("text", { class: "axis", x: EDGE.left - 8, y: y(top * share) + 4, "text-anchor": "end" }, say(top * share)),
      ]),
      [0, 0.5, 1].map((share) => {
        const at = Math.round(share * (starts.length - 1));
        return svg("text", { class: "axis", x: x(at), y: HEIGHT - 6, "text-anchor": ["start", "middle", "end"][share * 2] }, clock(starts[at]));
      }),
      drawn),
    h("details", { class: "more" }, h("summary", {}, "As a table"),
      table(["From", ...series.map((each) => each.label)], starts.flatMap((start, at) =>
        series.some((each) => each.values[at]) ? [[clock(start), ...series.map((each) => (each.values[at] === null ? "–" : say(each.values[at])))]] : []),
      { caption: heading })));
}

/** 1, 2 or 5 times a power of ten, at or above the largest value. */
export function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= value);
}

function summary(heading, series, say) {
  const parts = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null);
    return known.length ? `${label} at most ${say(Math.max(...known))}` : `${label} nothing`;
  });
  return `${heading}: ${parts.join(", ")}`;
}

function bars({ className, values, label }, { x, y, starts, say }) {
  const width = Math.max(1.5, ((WIDTH - EDGE.left - EDGE.right) / starts.length) * 0.7);
  return values.map((value, at) => value > 0 && svg("rect", {
    class: `bar ${className}`, x: x(at) - width / 2, width, y: y(value), height: Math.max(0, y(0) - y(value)), rx: 1,
  }, svg("title", {}, `${clock(starts[at])}: ${label} ${say(value)}`)));
}

/** Points joined where they are neighbours: a gap without traffic stays a gap. */
function line({ className, values, label }, { x, y, starts, say }) {
  let isDown = false;
  const path = values.map((value, at) => {
    const part = value === null ? "" : `${isDown ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    isDown = value !== null;
    return part;
  }).join("");
  const points = values.map((value, at) => value !== null && svg("circle", { class: `point ${className}`, cx: x(at), cy: y(value), r: 3 },
    svg("title", {}, `${clock(starts[at])}: ${label} ${say(value)}`)));
  return [svg("path", { class: `line ${className}`, d: path }), points];
}
