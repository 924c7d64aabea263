// Get API Key: a new key with its own organization in development mode; everywhere, signing in with a key one has.

import { failure } from "./answer.js";
import { codeBlock } from "./code.js";
import { button, fill, h, labelled } from "./dom.js";
import { CallError, call, send } from "./http.js";
import { notify } from "./notices.js";
import { masked, session, useKey } from "./session.js";

const PLAN = "development";

export function keyView() {
  const isDevelopment = session.start.mode === "development";
  return h("article", { class: "view narrow" },
    h("h1", { tabindex: "-1" }, isDevelopment ? "Get an API key" : "Sign in"),
    h("p", { class: "lead" }, isDevelopment
      ? "A real key of this platform, with an organization of its own: what you make with it, nobody else sees."
      : "This platform runs in production mode. Its operator makes organizations; their admins make keys."),
    session.key && current(),
    isDevelopment && issuing(),
    signingIn(isDevelopment));
}

function current() {
  return h("section", { class: "card", "aria-label": "The key in use" },
    h("p", {}, "In use in this tab: ", h("code", {}, masked(session.key)), session.isRefused ? " – it is not valid any more." : ""),
    button("Sign out", () => { useKey(null); notify("Signed out"); location.hash = "#/guide/quickstart"; }, "plain small"));
}

function issuing() {
  const name = h("input", { type: "text", value: "My workspace", maxlength: 100, autocomplete: "off" });
  const result = h("div", { "aria-live": "polite" });
  const make = button("Create the key", create, "primary");
  async function create() {
    make.disabled = true;
    fill(result, h("p", { class: "loading" }, "Making the organization and its key …"));
    try {
      const body = { name: name.value.trim(), plan: PLAN };
      const organization = await call("POST", "/organizations", body, { key: session.start.demo_key });
      useKey(organization.api_key.key);
      fill(result, issued(organization));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      fill(result, failure(error.answer));
    }
    make.disabled = false;
  }
  return h("section", { class: "card" }, h("h2", {}, "A key of your own"), labelled("Name of your organization", name), make, result);
}

function issued({ id, name, plan, api_key: key }) {
  return h("div", { class: "issued" },
    h("p", {}, h("strong", {}, "Your key is shown this once. "), "It is in use in this tab already; keep it where secrets belong."),
    codeBlock(key.key, { label: "the key" }),
    codeBlock(`export FYRE_API_KEY=${key.key}`, { label: "the line for a shell" }),
    h("p", { class: "hint" }, `${name} · ${id} · plan ${plan} · scopes ${key.scopes.join(", ")}`),
    h("p", {}, h("a", { class: "button primary", href: "#/test" }, "Start the Quick Test")));
}

function signingIn(isDevelopment) {
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "sk_live_…" });
  const result = h("div", { "aria-live": "polite" });
  async function signIn(key) {
    fill(result, h("p", { class: "loading" }, "Asking the platform …"));
    const answer = await send({ method: "GET", path: "/models?limit=1", key });
    // A key may lack the scope to read, and a limit may be used up: it is a key all the same.
    if (answer.isReachable && answer.status !== 401) {
      useKey(key);
      notify("Signed in");
      location.hash = "#/test";
    } else {
      fill(result, answer.status === 401
        ? h("div", { class: "failure", role: "alert" }, h("p", {}, h("strong", {}, "The platform does not know this key. "), "Check that it is complete, and not revoked."))
        : failure(answer));
    }
  }
  const form = h("form", { on: { submit: (event) => { event.preventDefault(); if (input.value.trim()) signIn(input.value.trim()); } } },
    labelled("API key", input, "Kept in this tab alone, and sent to this platform alone."),
    h("button", { type: "submit", class: isDevelopment ? "button plain" : "button primary" }, "Use this key"),
    isDevelopment && button("Use the demo key", () => signIn(session.start.demo_key), "quiet"));
  return h("section", { class: "card" }, h("h2", {}, isDevelopment ? "Or a key that you have" : "Your key"), form,
    result);
}

/** Whether the key in use may manage keys: what shows the Operations tab. */
export async function probeAdmin() {
  if (!session.key) return false;
  const answer = await send({ method: "GET", path: "/api_keys?limit=1" });
  return answer.ok;
}
