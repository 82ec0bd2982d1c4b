// The queue: what is waiting, running and over; a closed page finds its jobs here again.

import { follow, get, isOver, post, remove } from "./api.js";
import { announce, duration, el, find, icon, told } from "./dom.js";

const SLOW = 3000; // milliseconds between two looks at jobs that are not followed by events
const WORDS = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };

/** Events: "change" (any job), "over" {job} once for each job that ends while the page looks. */
class Jobs extends EventTarget {
  all = new Map();
  stop = null;
  followed = null;

  async start() {
    await this.look();
  }

  /** All jobs, now and again while any of them is not over. */
  async look() {
    clearTimeout(this.timer);
    try {
      const found = await get("jobs");
      const ids = new Set(found.map((job) => job.id));
      for (const id of this.all.keys()) if (!ids.has(id)) this.all.delete(id);
      for (const job of found) this.took(job);
      this.dispatchEvent(new Event("change"));
    } catch {
      // said where something was asked for; here it is tried again
    }
    if (this.unfinished().length || document.visibilityState === "visible") {
      this.timer = setTimeout(() => this.look(), this.unfinished().length ? SLOW : 4 * SLOW);
    }
  }

  took(job) {
    const before = this.all.get(job.id);
    this.all.set(job.id, job);
    if (before && before.state !== job.state) announce(`${job.title}: ${WORDS[job.state]}${job.error ? `. ${job.error}` : ""}`);
    if (isOver(job) && before && !isOver(before)) this.dispatchEvent(new CustomEvent("over", { detail: { job } }));
    if (this.followed === job.id && isOver(job)) this.followed = null;
    if (!this.followed) this.followNext();
  }

  /** One job at a time by events: browsers allow few connections to one server. */
  followNext() {
    const next = this.unfinished().find((job) => job.state === "running") ?? this.unfinished()[0];
    if (next) this.follow(next.id);
  }

  follow(id) {
    if (this.followed === id) return;
    this.stop?.();
    this.followed = id;
    this.stop = follow(id, (job) => {
      this.took(job);
      this.dispatchEvent(new Event("change"));
    });
  }

  list() {
    return [...this.all.values()].sort((one, other) => other.created - one.created);
  }

  unfinished() {
    return this.list().filter((job) => !isOver(job));
  }

  async submit(body) {
    const job = await post("jobs", { ...body, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` });
    this.took(job);
    this.follow(job.id);
    this.dispatchEvent(new Event("change"));
    this.look();
    return job;
  }

  async cancel(id) {
    const job = await told(() => remove(`jobs/${encodeURIComponent(id)}`));
    if (job) this.took(job);
    this.look();
  }
}

export const jobs = new Jobs();

/** How a job stands, in a few words. */
export function standing(job) {
  if (job.state === "queued") return job.position ? `waiting, ${job.position} before it` : "next in the queue";
  if (job.state === "running") return [job.step || "starting", job.left_s >= 1 ? `about ${duration(job.left_s)} left` : ""].filter(Boolean).join(", ");
  if (job.state === "failed") return job.error ?? "failed";
  if (job.state === "cancelled") return "cancelled";
  return `done in ${duration(job.seconds)}`;
}

/** A job as a card; `wide` also lists its steps. Cards are updated in place, so that the keyboard stays where it is. */
export class JobCard {
  constructor(wide = false) {
    this.bar = el("progress", { max: 1 });
    this.title = el("h3");
    this.said = el("p", { class: "quiet" });
    this.steps = wide ? el("ol", { class: "steps" }) : null;
    this.cancel = el("button", { onclick: () => jobs.cancel(this.job.id) }, icon("close"), "Cancel");
    this.open = el("a", { class: "button" }, "Open");
    this.element = el("article", { class: "job" }, this.title, this.bar, this.said, this.steps, el("div", { class: "row" }, this.open, this.cancel));
  }

  show(job) {
    this.job = job;
    this.element.dataset.state = job.state;
    this.title.textContent = job.title;
    this.bar.setAttribute("aria-label", `Progress of ${job.title}`);
    this.said.textContent = standing(job);
    this.bar.hidden = isOver(job);
    if (job.state === "running" && job.progress !== null) this.bar.value = job.progress;
    else this.bar.removeAttribute("value");
    this.cancel.hidden = isOver(job);
    this.cancel.setAttribute("aria-label", `Cancel ${job.title}`);
    this.open.hidden = !(job.state === "done" && job.object);
    if (job.object) this.open.href = `#/objects/${encodeURIComponent(job.object)}`;
    this.open.setAttribute("aria-label", `Open ${job.title}`);
    this.steps?.replaceChildren(
      ...job.steps.map(({ name, seconds }) => el("li", {}, name, el("span", { class: "quiet" }, seconds === null ? "" : duration(seconds)))),
    );
  }
}

/** The list of all jobs, which a button opens and closes. */
export function jobList() {
  const button = find("#jobs-button"), box = find("#jobs"), cards = new Map();
  const toggle = (open) => {
    box.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => toggle(box.hidden));
  box.addEventListener("click", (event) => event.target.closest("a") && toggle(false));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || box.hidden) return;
    toggle(false);
    button.focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!box.hidden && !box.contains(event.target) && !button.contains(event.target)) toggle(false);
  });
  jobs.addEventListener("change", () => {
    const list = jobs.list(), count = jobs.unfinished().length;
    find("#jobs-count").textContent = count || "";
    button.setAttribute("aria-label", count ? `Jobs, ${count} unfinished` : "Jobs");
    find("#no-jobs").hidden = list.length > 0;
    for (const job of list) {
      if (!cards.has(job.id)) cards.set(job.id, new JobCard());
      cards.get(job.id).show(job);
    }
    for (const [id, card] of cards) {
      if (jobs.all.has(id)) continue;
      card.element.remove();
      cards.delete(id);
    }
    const wanted = list.map((job) => cards.get(job.id).element), holder = find("#job-cards");
    wanted.forEach((card, index) => holder.children[index] !== card && holder.insertBefore(card, holder.children[index] ?? null));
  });
}
