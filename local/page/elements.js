// Templates of index.html as elements.

import { translate } from "./i18n.js";

/** Returns a copy of a template's element, in the reader's language, and its parts by their names. */
export function clone(template) {
  const element = document.getElementById(template).content.firstElementChild.cloneNode(true);
  translate(element);
  const parts = {};
  for (const part of element.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return [element, parts];
}
