// Tabs with the arrow keys, as the ARIA authoring practices have them.

import { freshId, h } from "./dom.js";

/** `names`: [value, label] pairs; `onSelect(value)` fills the one panel. */
export function tabs(names, { label, selected = names[0][0], panel, onSelect }) {
  panel.id ||= freshId("panel");
  panel.setAttribute("role", "tabpanel");
  const buttons = names.map(([value, text]) => h("button", {
    type: "button", role: "tab", id: freshId("tab"), "aria-controls": panel.id, "data-value": value, class: "tab",
    on: { click: () => choose(value), keydown: moved },
  }, text));
  function choose(value) {
    for (const each of buttons) {
      const isChosen = each.dataset.value === value;
      each.setAttribute("aria-selected", String(isChosen));
      each.tabIndex = isChosen ? 0 : -1;
      if (isChosen) panel.setAttribute("aria-labelledby", each.id);
    }
    onSelect(value);
  }
  function moved(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const at = (buttons.indexOf(event.currentTarget) + by + buttons.length) % buttons.length;
    buttons[at].focus();
    choose(buttons[at].dataset.value);
  }
  const element = h("div", { class: "tablist", role: "tablist", "aria-label": label }, buttons);
  choose(selected);
  return element;
}
