// Elements, messages, dialogs, and how numbers are said. Texts of others come in through textContent alone.

/** An element with attributes, properties (`on...` are listeners, `class`, `data-...`) and children. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const find = (selector, root = document) => root.querySelector(selector);

/** An icon of icons.svg, which says nothing by itself. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A message that goes by itself; an error stays longer, and is read out at once. */
export function toast(text, kind = "info") {
  const close = el("button", { class: "plain", "aria-label": "Dismiss" }, icon("close"));
  const note = el("div", { class: `toast ${kind}` }, el("p", {}, text), close);
  const gone = () => note.remove();
  close.addEventListener("click", gone);
  find(kind === "error" ? "#alerts" : "#notes").append(note);
  setTimeout(gone, kind === "error" ? 12000 : 5000);
}

/** A message that stays while something is waited for. */
export async function meanwhile(text, work) {
  const note = el("div", { class: "toast" }, el("p", {}, text), el("progress", { "aria-label": text }));
  find("#notes").append(note);
  try {
    return await work();
  } finally {
    note.remove();
  }
}

/** Runs what may be refused; the server's sentence is shown, and the answer is then null. */
export async function told(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, "error");
    return null;
  }
}

/** Says something to those who do not see the page. */
export function announce(text) {
  find("#live").textContent = text;
}

/** Opens a <dialog> and waits; gives its return value, "" where it was dismissed. */
export function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

export async function confirmed(question, detail, action) {
  const dialog = find("#confirm");
  find("h2", dialog).textContent = question;
  find("p", dialog).textContent = detail;
  find("[value=yes]", dialog).textContent = action;
  return (await ask(dialog)) === "yes";
}

export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("This browser does not let the page copy; select the text instead.", "error");
  }
}

export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(count) {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

export const several = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
