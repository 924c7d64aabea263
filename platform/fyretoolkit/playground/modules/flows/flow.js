// What the four flows of the Quick Test share: their frame, their steps, and what becomes of failures.

import { failure } from "../answer.js";
import { button, fill, h, svg } from "../dom.js";
import { CallError } from "../http.js";

/** The page of a flow: a title, its form, and a place for what happens. */
export function flowFrame(heading, lead, ...content) {
  return h("article", { class: "view flow" },
    h("p", { class: "eyebrow" }, h("a", { href: "#/test" }, "Quick Test")),
    h("h1", { tabindex: "-1" }, heading), h("p", { class: "lead" }, lead), content);
}

/**
 * A list of steps that are waiting, under way, done or failed. `names`: [id, label] pairs; `set(id, state, note)`.
 */
export function stepList(names) {
  const items = new Map(names.map(([id, label]) => [id, h("li", { class: "waiting" },
    h("span", { class: "mark", "aria-hidden": "true" }), h("span", { class: "step-name" }, label), h("span", { class: "step-note" }))]));
  const element = h("ol", { class: "progress-steps", "aria-live": "polite" }, [...items.values()]);
  element.set = (id, state, note) => {
    const item = items.get(id);
    item.className = state;
    item.setAttribute("data-step", id);
    if (state === "current") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    if (note !== undefined) fill(item.querySelector(".step-note"), note);
  };
  element.fail = () => items.forEach((item) => { if (item.className === "current") item.className = "failed"; });
  return element;
}

/** A button that runs `work(signal)` and shows in `place` what it throws; disabled meanwhile. */
export function runButton(label, work, place, { signal, kind = "primary" } = {}) {
  const element = button(label, run, kind);
  async function run() {
    element.disabled = true;
    try {
      await work(signal);
    } catch (error) {
      if (error instanceof CallError) place.append(failure(error.answer, { retry: () => { fill(place); run(); } }));
      else if (error.name !== "AbortError") throw error;
    }
    element.disabled = false;
  }
  return element;
}

/** A result of a prediction: its label and how sure it is, or the JSON that it is. */
export function predicted(input, result) {
  if (result?.error) return h("li", { class: "prediction" }, h("p", {}, shortened(input)), h("p", { class: "trouble" }, result.error.message));
  const known = result?.label !== undefined;
  return h("li", { class: "prediction" },
    h("div", { class: "prediction-input" }, picture(input) ?? shortened(input)),
    known
      ? h("p", { class: "prediction-label" }, h("strong", {}, String(result.label)), result.score !== undefined && sureness(result.score))
      : h("code", {}, JSON.stringify(result)));
}

function sureness(score) {
  return [h("meter", { min: 0, max: 1, value: score, "aria-label": "Score" }), h("span", {}, `${(score * 100).toFixed(1)}%`)];
}

/** A square of numbers as the picture that it may be; null for anything else. */
function picture(input) {
  const isNumbers = Array.isArray(input) && input.length >= 16 && input.every((each) => typeof each === "number" && each >= 0);
  const side = isNumbers ? Math.sqrt(input.length) : NaN;
  if (!Number.isInteger(side) || side > 32) return null;
  const most = Math.max(...input, 1);
  return svg("svg", { class: "picture", viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `${side} by ${side} pixels` },
    input.map((each, at) => each > 0 && svg("rect", {
      x: at % side, y: Math.floor(at / side), width: 1, height: 1, "fill-opacity": (each / most).toFixed(2),
    })));
}

function shortened(input) {
  const text = typeof input === "string" ? input : JSON.stringify(input);
  return text.length > 120 ? `${text.slice(0, 117)} …` : text;
}
