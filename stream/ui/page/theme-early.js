// Before the first paint: the remembered theme, so that the page does not flash in the other one.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("headrace-theme");
  } catch {
    // Storage is switched off: the system's theme.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
