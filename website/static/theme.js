// Light or dark, before anything is drawn: what was chosen here last, or what the system prefers.
(() => {
  const page = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem("sce-lab-theme"); } catch { return null; } };
  const button = () => document.getElementById("theme");
  const show = () => {
    const dark = (kept() ?? (system.matches ? "dark" : "light")) === "dark";
    page.dataset.jpThemeLight = String(!dark);  // as JupyterLab says it, for the widgets' styles
    if (document.body) document.body.dataset.jpThemeLight = String(!dark);  // and for those who watch it
    if (button()) button().textContent = dark ? "Light" : "Dark";
    return dark;
  };
  show();
  system.addEventListener("change", show);
  addEventListener("DOMContentLoaded", () => {
    show();
    if (innerWidth < 900) document.querySelector("nav details").open = false;
    button().onclick = () => {
      try { localStorage.setItem("sce-lab-theme", page.dataset.jpThemeLight === "true" ? "dark" : "light"); } catch { return; }
      show();
    };
  });
})();
