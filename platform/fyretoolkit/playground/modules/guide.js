// The pages before the calls. Figures, codes and examples in them come from the description and the running platform.

import { codeBlock } from "./code.js";
import { button, h, inline, prose, table } from "./dom.js";
import { authorization } from "./http.js";
import { session } from "./session.js";
import { snippet } from "./snippets.js";
import { count, title } from "./words.js";

/** [name in the address, title, view] of each page, in order. */
export const GUIDE = [
  ["quickstart", "Quickstart", quickstart],
  ["authentication", "Authentication", authentication],
  ["rate-limits", "Rate limits", rateLimits],
  ["pagination", "Pagination", pagination],
  ["errors", "Errors", errors],
];

function view(heading, lead, ...content) {
  return h("article", { class: "view guide" }, h("h1", { tabindex: "-1" }, heading), h("p", { class: "lead" }, inline(lead)), content);
}

function quickstart({ info, byId }) {
  const models = byId.get("list_models");
  const predict = byId.get("predict");
  const list = { operation: models, path: models.path, values: { path: {}, query: {}, header: {} } };
  const body = { inputs: ["an utterly compelling film"] };
  const first = { operation: predict, path: "/predict/sentiment-v1", values: { path: { model_id: "sentiment-v1" }, query: {}, header: {}, body } };
  const key = session.start.demo_key;
  return view("Quickstart", `${info.summary} Your first request in 60 seconds, on the platform that serves this page.`,
    h("ol", { class: "steps" },
      step("Get an API key", key
        ? [h("p", {}, "A key of your own, with an organization of its own, is one click away. The demo key works too: ", h("code", {}, key), ".")]
        : [h("p", {}, "Sign in with a key that your operator gave you.")],
        h("a", { class: "button primary", href: "#/key" }, key ? "Get API Key" : "Sign in by key")),
      step("Make your first request", [h("p", {}, "List the models that you may use, which verifies the key as well."),
        codeBlock(`export FYRE_API_KEY=${session.key && session.key === key ? key : "YOUR_KEY"}\n${snippet("curl", list)}`, { label: "the first request" })]),
      step("Try it here", [h("p", {}, "Every call is in the sidebar, its fields filled with what your account has. Choose List models, then Send Request.")],
        h("a", { class: "button plain", href: "#/operation/list_models" }, "Open List models")),
      step("Explore what it does", [h("ul", {},
        ["Run predictions on a sentiment model", "Create and monitor a batch job", "Deploy a model", "View its metrics"].map((each) => h("li", {}, each)))],
        h("a", { class: "button plain", href: "#/test" }, "Start the Quick Test"))),
    h("h2", {}, "The same from Python"),
    codeBlock(snippet("python", first), { label: "the Python program" }));
}

function step(heading, content, action) {
  return h("li", {}, h("h2", {}, heading), content, action);
}

function authentication() {
  const example = session.start.demo_key ?? "YOUR_KEY";
  return view("Authentication", "Requests carry an API key as the username of HTTP Basic; the password is empty.",
    table(["Header", "Type", "Description"], [
      [h("code", {}, "Authorization"), "string", ["HTTP Basic: ", h("code", {}, "Basic base64(api_key:)"), `. For ${example}: `, h("code", {}, authorization(example))]],
    ], { caption: "The header" }),
    prose("`Authorization: Bearer YOUR_KEY` is accepted too. A missing, malformed, unknown or revoked key is answered with one and the same 401."),
    h("h2", {}, "Keep keys secret"),
    h("ul", {}, [
      "Never commit API keys to version control.", "Keep them in environment variables; `FYRE_API_KEY` is the one that the client and the CLI read.",
      "Rotate a key at once if it was exposed: `POST /api_keys/{key_id}/rotate`.", "Use separate keys for development, staging and production.",
    ].map((each) => h("li", {}, inline(each)))),
    prose("This page keeps its key in the memory of this tab (`sessionStorage`), sends it to this platform alone, and forgets it when the tab is closed."));
}

function rateLimits() {
  const { plans, window_s: windowS } = session.start;
  const limit = (value) => (value === null ? "no limit" : count(value));
  return view("Rate limits", `Requests are counted by key, separately for each category, in a sliding window of ${windowS} seconds.`,
    table(["Category", "Applies to"], [
      ["Read", "GET"], ["Write", "POST, PATCH and DELETE"], ["Inference", h("code", {}, "POST /predict/*")],
    ], { caption: "The categories" }),
    h("h2", {}, "By plan"),
    table(["Plan", "Read", "Write", "Inference"],
      Object.entries(plans).map(([name, plan]) => [title(name), limit(plan.read), limit(plan.write), limit(plan.inference)]),
      { caption: `Requests in ${windowS} seconds` }),
    h("h2", {}, "Headers"),
    table(["Header", "Description"], [
      [h("code", {}, "X-RateLimit-Limit"), "Requests in a window that this key may make."],
      [h("code", {}, "X-RateLimit-Remaining"), "Requests left in the current window."],
      [h("code", {}, "X-RateLimit-Reset"), "Unix time at which the limit resets."],
      [h("code", {}, "Retry-After"), "With 429: seconds after which a request is accepted."],
    ], { caption: "Headers of every answer to a valid key" }),
    prose("This page shows them as a ring beside each answer. Above the limit the answer is 429 `rate_limit_exceeded`."));
}

function pagination({ byId }) {
  const operation = byId.get("list_models");
  return view("Pagination", "Lists are newest first. Ask for a page, then for the one behind its last id.",
    h("h2", {}, "Parameters"),
    table(["Parameter", "Type", "Description"], operation.parameters.query.filter((each) => ["limit", "starting_after"].includes(each.name))
      .map((each) => [h("code", {}, each.name), each.schema.type, inline(`${each.description}${each.schema.default ? ` Default ${each.schema.default}, at most ${each.schema.maximum}.` : ""}`)]),
      { caption: "Parameters of every list" }),
    h("h2", {}, "Answer"),
    table(["Field", "Type", "Description"], [
      [h("code", {}, "object"), "string", ["Always ", h("code", {}, "list")]],
      [h("code", {}, "data"), "array", "The objects."],
      [h("code", {}, "has_more"), "boolean", "Whether there are more behind them."],
    ], { caption: "Fields of every list" }),
    codeBlock("curl '" + location.origin + "/models?limit=2&starting_after=LAST_ID' -u \"$FYRE_API_KEY:\"", { label: "the next page" }));
}

function errors({ errors: known }) {
  const schema = { error: { code: "model_not_found", message: "…", request_id: "req_…", details: {} } };
  return view("Errors", "Every answer that is not 2xx has one shape, a stable code, and a message that names the next step.",
    codeBlock(JSON.stringify(schema, null, 2), { label: "the shape of an error", isJson: true }),
    table(["Field", "Description"], [
      [h("code", {}, "error.code"), "For programs: stable."],
      [h("code", {}, "error.message"), "For people."],
      [h("code", {}, "error.request_id"), ["Also ", h("code", {}, "X-Request-Id"), "; for whoever runs the platform."]],
      [h("code", {}, "error.details"), "More of it, such as the fields that do not fit."],
    ], { caption: "Fields of an error" }),
    h("h2", {}, `All ${known.length} codes`),
    table(["Status", "Code", "Message"], known.map((each) => [String(each.status), h("code", {}, each.code), inline(each.message)]), { caption: "Error codes" }));
}

/** Where nothing is. */
export function unknownView() {
  return view("Nothing is here", "The address names nothing of this page.", button("To the quickstart", () => { location.hash = "#/guide/quickstart"; }, "plain"));
}
