// An answer as people read it: status, time, request id, limits, body; and failures with the next step.

import { button, fill, h, inline, svg } from "./dom.js";
import { codeBlock, copy, save } from "./code.js";
import { bytes, count, ms } from "./words.js";
import { tabs } from "./tabs.js";

const RING = 2 * Math.PI * 9;

/** The whole panel. `name`: what a download is saved as. */
export function answerPanel(answer, { name } = {}) {
  const panel = h("div", { class: "answer-body" });
  const views = { body: () => bodyOf(answer, name), headers: () => headersOf(answer) };
  return h("section", { class: "answer", "aria-label": "Answer", "data-status": answer.status },
    h("div", { class: "answer-head" },
      statusPill(answer),
      h("span", { class: "time", title: "From the click to the last byte" }, ms(answer.ms)),
      gauge(standingOf(answer))),
    answer.requestId && h("p", { class: "request-id" }, "Request ", h("code", {}, answer.requestId),
      button("Copy", () => copy(answer.requestId), "quiet small", { "aria-label": "Copy the request id" })),
    answer.error && failure(answer),
    tabs([["body", "Body"], ["headers", `Headers (${answer.headers.length})`]], {
      label: "Parts of the answer", panel, onSelect: (part) => fill(panel, views[part]()),
    }),
    panel);
}

export function statusPill({ status, statusText }) {
  const kind = status === 0 ? "down" : status < 300 ? "good" : status < 500 ? "warned" : "bad";
  return h("span", { class: `pill ${kind}` }, status === 0 ? "no answer" : `${status} ${statusText}`.trim());
}

/** What went wrong, in the platform's own words, and what a person can do here. */
export function failure({ error, status, retryAfter, requestId }, { retry } = {}) {
  return h("div", { class: "failure", role: "alert" },
    h("p", { class: "failure-head" }, h("strong", {}, headline(status)), " ", h("code", {}, error.code)),
    h("p", {}, inline(error.message)),
    error.details?.fields && h("ul", {}, error.details.fields.map((each) =>
      h("li", {}, h("code", {}, each.path || "body"), ` ${each.message}`))),
    requestId && status >= 500 && h("p", { class: "hint" }, "Give this request id to the operator if it stays: ", h("code", {}, requestId)),
    status === 429 && retryAfter && countdown(retryAfter, retry),
    status === 401 && h("p", {}, h("a", { class: "button plain", href: "#/key" }, "Get or enter a key")),
    retry && status !== 429 && button("Try again", retry));
}

function headline(status) {
  const known = {
    0: "The platform does not answer.", 400: "The request is malformed.", 401: "The key is not valid.",
    403: "This key may not do that.", 404: "There is no such thing.", 409: "Not as things are now.",
    422: "Well-formed, but not possible.", 429: "Too many requests.", 503: "Not available at the moment.",
  };
  return known[status] ?? (status >= 500 ? "The platform failed." : "The request was refused.");
}

function countdown(seconds, retry) {
  const left = h("strong", {}, `${seconds} s`);
  const element = h("p", { class: "countdown" }, "A request is accepted again in ", left, ".");
  let remaining = seconds;
  const timer = setInterval(() => {
    remaining -= 1;
    left.textContent = `${remaining} s`;
    if (remaining > 0 && element.isConnected) return;
    clearInterval(timer);
    fill(element, "Requests are accepted again. ", retry && button("Try again", retry));
  }, 1000);
  return element;
}

function standingOf({ headers }) {
  const of = Object.fromEntries(headers);
  if (!of["x-ratelimit-limit"]) return null;
  return { limit: Number(of["x-ratelimit-limit"]), remaining: Number(of["x-ratelimit-remaining"]), reset: Number(of["x-ratelimit-reset"]) };
}

/** How much of a limit is left, as a ring. */
export function gauge(standing) {
  if (!standing) return null;
  const { limit, remaining, reset } = standing;
  const share = limit ? Math.max(0, Math.min(1, remaining / limit)) : 0;
  const isEndless = limit >= 1_000_000_000;
  const text = isEndless ? "no limit" : `${count(remaining)} of ${count(limit)} left`;
  const until = `resets ${new Date(reset * 1000).toLocaleTimeString("en-GB")}`;
  return h("span", { class: `gauge${share < 0.1 ? " low" : ""}`, role: "img", "aria-label": `Rate limit: ${text}, ${until}`, title: until },
    svg("svg", { viewBox: "0 0 24 24", width: 20, height: 20, "aria-hidden": "true" },
      svg("circle", { class: "ring", cx: 12, cy: 12, r: 9 }),
      share > 0 && svg("circle", { class: "ring left", cx: 12, cy: 12, r: 9, "stroke-dasharray": `${RING * share} ${RING}`, transform: "rotate(-90 12 12)" })),
    h("span", { class: "gauge-text" }, text));
}

function bodyOf(answer, name) {
  if (!answer.isReachable) return h("p", { class: "empty" }, "No answer came.");
  if (!answer.blob.size) return h("p", { class: "empty" }, "The answer has no body.");
  const isFile = answer.headers.some(([header]) => header === "content-disposition");
  const saving = isFile && button(`Save (${bytes(answer.blob.size)})`, () => save(answer.blob, name ?? "answer"));
  if (answer.json !== null) return [codeBlock(JSON.stringify(answer.json, null, 2), { label: "Body", isJson: true }), saving];
  if (answer.text === null) return [h("p", { class: "empty" }, `${bytes(answer.blob.size)} of ${answer.type || "data"}.`), saving];
  return [codeBlock(answer.text, { label: "Body", isJson: answer.type.includes("json") }),
    answer.isCut && h("p", { class: "hint" }, `The first part of ${bytes(answer.blob.size)}.`), saving];
}

function headersOf({ headers }) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Headers" },
    h("table", { class: "headers" }, h("tbody", {}, headers.map(([name, value]) =>
      h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))))));
}
