// Light or dark: as the system has it, until a person chooses here.

import { button } from "./dom.js";

const KEY = "fyre.theme";

export function themeButton() {
  const element = button("", flip, "quiet icon");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  function flip() {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem(KEY, document.documentElement.dataset.theme); } catch { /* then it holds for this page */ }
    show();
  }
  function show() {
    element.textContent = isDark() ? "☀" : "☾";
    element.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
  }
  try {
    const chosen = localStorage.getItem(KEY);
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* the system's */ }
  system.addEventListener("change", show);
  show();
  return element;
}
