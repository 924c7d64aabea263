// One operation: what it is, its fields, the same call in three languages, Send, and what came back.

import { forget } from "./account.js";
import { answerPanel } from "./answer.js";
import { codeBlock } from "./code.js";
import { button, fill, h, inline, prose } from "./dom.js";
import { FieldError, typeOf } from "./fields.js";
import { keep } from "./history.js";
import { send } from "./http.js";
import { requestForm } from "./request_form.js";
import { session } from "./session.js";
import { LANGUAGES, snippet } from "./snippets.js";
import { tabs } from "./tabs.js";

let language = "curl";

/** The view. `earlier`: an entry of the history to show again. */
export function referenceView(operation, description, earlier) {
  const code = codeBlock("", { label: "the call" });
  const result = h("div", { class: "result", "aria-live": "polite" }, idle());
  const form = requestForm(operation, description, { onInput: show });
  const sendButton = button("Send Request", () => run(), operation.method === "DELETE" ? "danger wide" : "primary wide");
  let latest = null;

  function show() {
    try {
      latest = form.read();
      code.update(snippet(language, latest));
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
    }
  }

  async function run() {
    let request;
    try {
      request = form.read();
    } catch (error) {
      if (error instanceof FieldError) return;
      throw error;
    }
    const lacking = operation.parameters.path.filter((each) => request.values.path[each.name] === undefined);
    if (lacking.length) {
      form.complain(lacking.map((each) => ({ path: each.name, message: "This is a part of the path: choose or enter one." })));
      return;
    }
    form.complain([]);
    sendButton.disabled = true;
    fill(result, h("p", { class: "loading" }, "Waiting for the answer …"));
    const answer = await sendIt(request);
    sendButton.disabled = false;
    fill(result, answerPanel(answer, { name: savedAs(request) }));
    result.scrollIntoView({ block: "nearest" });
    if (answer.error?.details?.fields) form.complain(answer.error.details.fields);
    else if (answer.error?.details?.path) form.complain([answer.error.details]);
  }

  form.element.setAttribute("aria-busy", "true");
  form.ready.then(() => {
    if (earlier) form.fillIn(earlier.request.values);
    form.element.removeAttribute("aria-busy");
    show();
  });
  if (earlier) fill(result, answerPanel(earlier.answer));
  show();
  return h("article", { class: "operation" },
    h("div", { class: "described" },
      h("p", { class: "eyebrow" }, operation.tag),
      h("h1", { tabindex: "-1" }, operation.summary),
      h("p", { class: "route" }, h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method), h("code", {}, operation.path)),
      prose(operation.description),
      !operation.needsKey && h("p", { class: "hint" }, "Needs no key."),
      form.element,
      answersOf(operation)),
    h("div", { class: "console" },
      h("section", { class: "call", "aria-label": "The call" },
        tabs(LANGUAGES, { label: "Language", selected: language, panel: code, onSelect: (each) => { language = each; show(); } }), code),
      sendButton,
      operation.needsKey && !session.key && h("p", { class: "hint" }, "No key yet: ", h("a", { href: "#/key" }, "get one"), "."),
      result));
}

function idle() {
  return h("p", { class: "empty" }, "The answer appears here.");
}

async function sendIt(request) {
  const { operation, values, path, content } = request;
  const isFile = content.bytes !== undefined;
  const type = isFile ? "application/octet-stream" : "application/json";
  const hasBody = isFile || values.body !== undefined;
  const answer = await send({
    method: operation.method, path,
    headers: { ...values.header, ...(hasBody && { "content-type": type }) },
    body: isFile ? content.bytes : values.body && JSON.stringify(values.body),
  });
  keep({ request: { operation, values, path }, answer, at: new Date() });
  if (operation.method !== "GET") forget();
  return answer;
}

function savedAs({ operation, values }) {
  const id = Object.values(values.path).at(-1) ?? "answer";
  return `${id}${{ get_output: ".results.jsonl", get_errors: ".errors.jsonl" }[operation.id] ?? ""}`;
}

function answersOf({ responses }) {
  const [good, bad] = [responses.filter((each) => each.status < "400"), responses.filter((each) => each.status >= "400")];
  return h("section", { class: "answers" }, h("h2", {}, "Answers"),
    good.map((each) => h("details", { class: "more" },
      h("summary", {}, h("span", { class: "pill good" }, each.status), " ", each.description),
      each.fields.length > 0 && h("dl", { class: "fields" }, each.fields.map((one) => [
        h("dt", {}, h("code", {}, one.name), " ", h("span", { class: "field-type" }, typeOf(one.schema))),
        h("dd", {}, inline(one.description)),
      ])),
      each.example !== undefined && codeBlock(JSON.stringify(each.example, null, 2), { label: `an example of ${each.status}`, isJson: true }))),
    h("details", { class: "more" }, h("summary", {}, "When it fails"),
      h("ul", { class: "codes" }, bad.map((each) => h("li", {}, h("span", { class: "pill warned" }, each.status), " ",
        each.codes.map((code, at) => [at ? ", " : "", h("code", {}, code)]))))));
}
