// Starts the page: reads the description, then shows what the address names.

import { failure, gauge } from "./answer.js";
import { readDescription } from "./description.js";
import { fill, h } from "./dom.js";
import { GUIDE, unknownView } from "./guide.js";
import { entry, historyView } from "./history.js";
import { send } from "./http.js";
import { keyView, probeAdmin } from "./keys.js";
import { operationsView } from "./operations.js";
import { needsKey, quickTestView } from "./quick_test.js";
import { referenceView } from "./reference.js";
import { change, listen, masked, session } from "./session.js";
import { fillSidebar, markCurrent } from "./sidebar.js";
import { themeButton } from "./theme.js";

const [content, sidebar, tabs, account, menu] = ["content", "sidebar", "tabs", "account", "menu"].map((id) => document.getElementById(id));
const theme = themeButton();
let description = null;
let leaving = new AbortController();
const shown = new Map();

async function start() {
  const [described, known] = await Promise.all(
    ["/openapi.json", "/playground/start.json"].map((path) => send({ method: "GET", path, key: null })));
  const failed = [described, known].find((each) => !each.ok);
  if (failed) {
    fill(content, h("div", { class: "view narrow" }, h("h1", {}, "FyreToolkit"), failure(failed, { retry: start })));
    return;
  }
  change({ start: known.json });
  description = readDescription(described.json);
  fillSidebar(sidebar, description);
  listen(showHead);
  listen(learnScopes);
  addEventListener("hashchange", show);
  showHead();
  learnScopes();
  await show();
}

/** The view of an address: `#/guide/…`, `#/operation/…`, `#/test/…`, `#/history`, `#/operations`, `#/key`. */
async function viewOf([kind, name, argument], signal) {
  if (kind === "guide") return GUIDE.find(([id]) => id === name)?.[2](description) ?? unknownView();
  if (kind === "operation" && description.byId.has(name)) return referenceView(description.byId.get(name), description, entry(argument));
  if (kind === "test") return quickTestView(name, { signal, argument });
  if (kind === "history") return historyView(show);
  if (kind === "operations") return session.key ? operationsView({ signal }) : needsKey();
  if (kind === "key") return keyView();
  return unknownView();
}

async function show() {
  leaving.abort(new DOMException("the page was left", "AbortError"));
  leaving = new AbortController();
  const { signal } = leaving;
  const hash = location.hash.length > 2 ? location.hash : "#/guide/quickstart";
  fold();
  content.setAttribute("aria-busy", "true");
  const view = await viewOf(hash.slice(2).split("/"), signal);
  if (signal.aborted) return;
  fill(content, view);
  content.removeAttribute("aria-busy");
  const isFirst = content.dataset.view === undefined;
  content.dataset.view = hash;
  markCurrent(sidebar, hash);
  markTab(hash);
  scrollTo(0, 0);
  const heading = content.querySelector("h1");
  document.title = `${heading?.textContent ?? "Playground"} · FyreToolkit`;
  if (!isFirst) heading?.focus({ preventScroll: true });
}

const VIEWS = [["#/guide/quickstart", "Reference", ["guide", "operation"]], ["#/test", "Quick Test", ["test"]],
  ["#/history", "History", ["history"]], ["#/operations", "Operations", ["operations"]]];
const standing = h("span", {});
const who = h("span", {});

/** Only what has changed is made anew: a request that ends must not take the focus from whoever is here. */
function showHead() {
  fill(standing, session.key && gauge(session.standing));
  if (shownOf(account, `${session.key} ${session.isRefused}`)) {
    fill(who, session.key ? keyChip() : h("a", { class: "button primary small", href: "#/key" }, session.start.mode === "development" ? "Get API Key" : "Sign in"));
    if (!theme.isConnected) fill(account, standing, who, theme);
  }
  if (shownOf(tabs, String(session.isAdmin))) {
    const names = VIEWS.filter(([href]) => href !== "#/operations" || session.isAdmin);
    fill(tabs, names.map(([href, name]) => h("a", { href, class: "tab-link" }, name)));
    markTab(content.dataset.view ?? "");
  }
}

/** Whether an element shows something else than this, which it does from now on. */
function shownOf(element, state) {
  const isOther = shown.get(element) !== state;
  shown.set(element, state);
  return isOther;
}

function keyChip() {
  const name = masked(session.key);
  return h("a", { class: `key-chip${session.isRefused ? " bad" : ""}`, href: "#/key", "aria-label": session.isRefused ? "Key not valid" : `Your key, ${name}` },
    session.isRefused ? "Key not valid" : name);
}

function markTab(hash) {
  const kind = hash.split("/")[1];
  for (const link of tabs.children) {
    const [, , kinds] = VIEWS.find(([href]) => href === link.getAttribute("href"));
    if (kinds.includes(kind)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Once for each key: whether it may see the operations. */
let asked = null;
async function learnScopes() {
  if (session.key === asked) return;
  asked = session.key;
  const isAdmin = await probeAdmin();
  if (session.key === asked) change({ isAdmin });
}

function fold() {
  sidebar.classList.remove("open");
  menu.setAttribute("aria-expanded", "false");
}

menu.addEventListener("click", () => {
  const isOpen = sidebar.classList.toggle("open");
  menu.setAttribute("aria-expanded", String(isOpen));
  if (isOpen) sidebar.querySelector("input")?.focus();
});
addEventListener("keydown", (event) => { if (event.key === "Escape") fold(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); content.focus(); });

start();
