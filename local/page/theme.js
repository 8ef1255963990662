// The reader's choice of light or dark, before the first paint; the only script of the page that is no module.
try {
  document.documentElement.dataset.theme = localStorage.getItem("chat.theme") ?? "";
} catch {
  // without storage the system decides
}
