// What goes out, and what was done: downloads, the same as commands, and the versions.

import { blob } from "./api.js";
import { ask, copied, el, find, told } from "./dom.js";

const HELD = { glb: "everything, in one file", obj: "with MTL and textures", stl: "shape alone", ply: "colours at vertices", "3mf": "for printing" };

/** The dialog of downloads. */
export function downloads(bench, formats) {
  const dialog = find("#download"), form = find("form", dialog);
  find("#formats").append(
    ...formats.map((format) =>
      el("label", {}, el("input", { type: "checkbox", name: "format", value: format }), el("span", {}, format.toUpperCase()), el("span", { class: "quiet" }, HELD[format] ?? "")),
    ),
  );
  find("[value=glb]", form)?.setAttribute("checked", "");
  return async () => {
    const some = bench.selected.size;
    find("#only-selected").disabled = !some;
    find("#only-selected-text").textContent = some ? `Selected parts alone (${some})` : "Selected parts alone";
    if (!some) find("[name=which][value=all]", form).checked = true;
    if ((await ask(dialog)) !== "go") return;
    const values = new FormData(form), wanted = values.getAll("format");
    const query = new URLSearchParams({ formats: wanted.join(",") || formats[0] });
    if (values.get("which") === "selected") query.set("parts", [...bench.selected].join(","));
    if (values.get("separate")) query.set("separate", "1");
    const { id, name } = bench.doc;
    const zip = await told(() => blob(`objects/${encodeURIComponent(id)}/download?${query}`));
    if (!zip) return;
    const address = URL.createObjectURL(zip), link = el("a", { href: address, download: `${name}.zip` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  };
}

/** The panel of versions and commands. */
export class HistoryPanel {
  constructor(root, bench) {
    this.bench = bench;
    bench.addEventListener("doc", () => this.fill());
    find("#copy-shell", root).addEventListener("click", () => copied(find("#shell").textContent));
    find("#copy-python", root).addEventListener("click", () => copied(find("#python").textContent));
  }

  fill() {
    const { doc } = this.bench, now = doc.versions.findIndex(({ version }) => version === doc.version);
    find("#versions").replaceChildren(
      ...doc.versions.map(({ version, command }, index) => {
        const here = index === now, words = SAID[command] ?? command;
        const go = el("button", { class: "plain", onclick: () => this.go(index - now), disabled: here || Boolean(doc.busy) }, words);
        return el("li", { "aria-current": here ? "step" : null, class: index > now ? "later" : "" }, go, el("span", { class: "quiet" }, here ? "now" : `version ${version}`));
      }),
    );
    find("#shell").textContent = doc.commands.shell.join("\n");
    find("#python").textContent = doc.commands.python.join("\n");
    find("#licence").textContent = doc.notice || doc.licence || "No licence is known.";
    find("#warnings-box").hidden = !doc.warnings.length;
    find("#warnings").replaceChildren(...doc.warnings.map((warning) => el("li", {}, warning)));
  }

  /** So many steps back or forward. */
  async go(steps) {
    for (let step = 0; step < Math.abs(steps); step += 1) {
      if (!(await this.bench.change(steps < 0 ? "undo" : "redo"))) return;
    }
  }
}

const SAID = {
  decompose: "Taken apart", "from-image": "Made from a picture", "from-text": "Made from a text", regroup: "Another number of parts",
  merge: "Parts merged", split: "Part split", rename: "Part renamed", recolour: "Part recoloured", colour: "Part recoloured",
  "take-out": "Part taken out", edit: "Part replaced by text", add: "Part added", place: "Part moved",
};
