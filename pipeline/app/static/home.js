// What comes in: a file, a picture, a text or a sample, with options; and the gallery of what was made.

import { get, remove, upload } from "./api.js";
import { confirmed, el, find, icon, several, toast, told, bytes } from "./dom.js";
import { cutOut } from "./cutout.js";
import { jobs } from "./jobs.js";

const CHOICES = { parts_from: ["model", "nodes", "materials", "pieces"], close: ["none", "cap", "complete"], surface: ["original", "neural", "both"] };

const NUMBERS = ["parts", "max_parts", "samples", "seed"];

export class Home {
  constructor(about) {
    this.about = about;
    const formats = [...about.formats_in, ".zip"], pictures = about.pictures_in ?? [".png", ".jpg", ".jpeg"];
    find("#file").accept = [...formats, ...pictures].join(",");
    find("#limit").textContent = `Up to ${bytes(about.limits.upload_bytes)}.`;
    find("#note").textContent = about.generators.note;
    find("#text-go").disabled = !about.generators.text;
    for (const [name, known] of Object.entries(CHOICES)) {
      const values = about.options?.[name] ?? known, select = find(`[name=${name}]`, find("#options"));
      for (const option of [...select.options]) if (!values.includes(option.value)) option.remove();
      for (const value of values) {
        if (![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, value));
      }
    }
    this.listen();
  }

  listen() {
    const file = find("#file"), drop = find("#drop");
    find("#choose").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      this.takeAll(file.files);
      file.value = "";
    });
    let depth = 0;
    document.addEventListener("dragenter", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      depth += 1;
      document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      if (!depth) document.body.classList.remove("dropping");
    });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      document.body.classList.remove("dropping");
      if (event.dataTransfer.files.length && !document.querySelector("dialog[open]")) this.takeAll(event.dataTransfer.files);
    });
    find("#text").addEventListener("submit", (event) => {
      event.preventDefault();
      const prompt = find("#prompt").value.trim();
      if (prompt) this.submit({ command: "from-text", prompt, options: this.options(["max_parts", "samples", "seed"]) });
    });
    this.drop = drop;
  }

  /** What was set among the options, of those that the command has. */
  options(names) {
    const values = new FormData(find("#options")), options = {};
    for (const name of names) {
      const value = String(values.get(name) ?? "").trim();
      if (value && value !== CHOICES[name]?.[0]) options[name] = NUMBERS.includes(name) ? Number(value) : value;
    }
    return options;
  }

  async takeAll(files) {
    if (this.taking) return toast("One upload is on its way; wait for it.", "error");
    this.taking = true;
    this.drop.setAttribute("aria-busy", "true");
    for (const file of files) await told(() => this.take(file, files.length === 1));
    this.drop.removeAttribute("aria-busy");
    this.taking = false;
  }

  async take(file, alone) {
    const bar = find("#uploading"), limit = this.about.limits.upload_bytes;
    if (file.size > limit) {
      throw new Error(`${file.name} has ${bytes(file.size)}, and ${bytes(limit)} are the limit; give a smaller file.`);
    }
    bar.hidden = false;
    find("#drop-text").textContent = `Uploading ${file.name} …`;
    let sent;
    try {
      sent = await upload(file, (share) => (bar.value = share));
    } finally {
      bar.hidden = true;
      find("#drop-text").textContent = "Drop a 3D file or a picture here";
    }
    if (sent.kind === "picture") return this.takePicture(sent);
    return this.submit({ command: "decompose", upload: sent.id, options: this.ofObject() }, alone);
  }

  ofObject() {
    return this.options(["parts", "max_parts", "parts_from", "close", "surface", "samples", "seed", "up"]);
  }

  async takePicture(sent) {
    if (await cutOut(sent)) await this.submit({ command: "from-image", upload: sent.id, options: this.options(["max_parts", "samples", "seed"]) });
  }

  async submit(body, look = true) {
    const job = await told(() => jobs.submit(body));
    if (job && look) location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
    return job;
  }

  async fillSamples() {
    const samples = await told(() => get("samples"));
    find("#samples").replaceChildren(
      ...(samples ?? []).map(({ name, title, licence, author, picture }) =>
        el(
          "li",
          {},
          el(
            "button",
            {
              class: "card", title: [author, licence].filter(Boolean).join(", "),
              onclick: () => this.submit({ command: "decompose", sample: name, options: this.ofObject() }),
            },
            el("img", { src: picture, alt: "", loading: "lazy", width: 192, height: 192 }),
            el("span", {}, title),
          ),
        ),
      ),
    );
  }

  async fillGallery() {
    const objects = await told(() => get("objects"));
    if (!objects) return;
    find("#no-results").hidden = objects.length > 0;
    find("#gallery").replaceChildren(...objects.map((object) => this.result(object)));
  }

  result({ id, name, caption, parts, created, picture }) {
    const day = new Date(typeof created === "number" ? created * 1000 : created).toLocaleDateString("en", { dateStyle: "medium" });
    const away = el("button", { class: "plain away", "aria-label": `Delete ${name}`, title: "Delete" }, icon("trash"));
    const card = el(
      "li",
      { class: "result" },
      el(
        "a",
        { class: "card", href: `#/objects/${encodeURIComponent(id)}` },
        el("img", { src: picture, alt: "", loading: "lazy", width: 192, height: 192 }),
        el("strong", {}, name),
        el("span", { class: "quiet", title: caption }, `${several(parts, "part")}, ${day}`),
      ),
      away,
    );
    away.addEventListener("click", async () => {
      const detail = "All its versions are deleted from the disk. This cannot be undone.";
      if (!(await confirmed(`Delete ${name}?`, detail, "Delete"))) return;
      const next = (card.nextElementSibling ?? card.previousElementSibling)?.querySelector("a");
      if ((await told(() => remove(`objects/${encodeURIComponent(id)}`).then(() => true))) === null) return;
      toast(`${name} is deleted.`);
      await this.fillGallery();
      (next ? find(`#gallery a[href="${CSS.escape(next.getAttribute("href"))}"]`) : find("#choose"))?.focus();
    });
    return card;
  }
}
