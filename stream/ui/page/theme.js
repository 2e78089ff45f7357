// Light, dark, or the system's choice; remembered in this browser.

const ORDER = ["system", "light", "dark"];
const KEY = "headrace-theme";

/** The chosen theme. */
export const theme = () => document.documentElement.dataset.theme ?? "system";

/** Take the next one; returns it. */
export function nextTheme() {
  const chosen = ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length];
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // Storage is switched off: the choice holds for as long as the page is open.
  }
  return chosen;
}
