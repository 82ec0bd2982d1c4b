// The page: what is shown for which address, the tools of the view, and the keyboard.

import { get } from "./api.js";
import { AddPanel } from "./add.js";
import { Bench } from "./bench.js";
import { announce, ask, find, toast, told } from "./dom.js";
import { Home } from "./home.js";
import { JobCard, jobList, jobs } from "./jobs.js";
import { HistoryPanel, downloads } from "./out.js";
import { PartsPanel } from "./parts.js";
import { Stage } from "./stage.js";
import { Tools, tabs } from "./tools.js";
import { ViewsPanel } from "./views.js";

const SOME = ["#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6"]; // an older server's

async function start() {
  const about = await told(() => get("about"));
  if (!about) return;
  const home = new Home(about);
  jobList();
  await jobs.start();
  const bench = webgl() ? openBench(about) : null;
  window.partgen = { bench, jobs }; // for the curious, and for tests
  const route = () => told(() => goTo(home, bench));
  window.addEventListener("hashchange", route);
  window.addEventListener("focus", () => bench?.doc && told(() => bench.reload()));
  jobs.addEventListener("over", ({ detail }) => ended(detail.job, home, bench));
  find("#skip").addEventListener("click", () => find("#main").focus());
  find("#help-open").addEventListener("click", () => ask(find("#help")));
  home.fillSamples();
  await route();
  document.body.dataset.ready = "yes";
}

function entitle(text) {
  find("#title").textContent = text;
  find("#title").hidden = !text;
  document.title = text ? `${text} – PartGen` : "PartGen";
}

function webgl() {
  const probe = document.createElement("canvas").getContext("webgl2");
  if (!probe) toast("This browser has no WebGL, so that it cannot show objects in 3D.", "error");
  probe?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(probe);
}

function openBench(about) {
  const bench = new Bench(new Stage(find("#canvas")), about.palette ?? SOME);
  bench.submit = async (body) => {
    const job = await jobs.submit(body);
    await bench.reload(); // it is busy now
    return job;
  };
  const parts = new PartsPanel(find("#panel-parts"), bench);
  new ViewsPanel(find("#panel-views"), bench);
  new HistoryPanel(find("#panel-history"), bench);
  const add = new AddPanel(find("#panel-add"), bench);
  tabs(find("#panel"), (name) => {
    add.open(name === "add");
    if (name === "views") bench.emit("hover", { label: null });
  });
  const download = downloads(bench, about.formats_out);
  find("#download-open").addEventListener("click", download);
  new Tools(bench, parts);
  bench.addEventListener("doc", () => {
    const { doc } = bench;
    entitle(doc.name);
    find("#caption").textContent = doc.caption;
    find("#undo").disabled = !doc.can_undo || Boolean(doc.busy);
    find("#redo").disabled = !doc.can_redo || Boolean(doc.busy);
    find("#bench").dataset.version = doc.version;
  });
  return bench;
}

/** Shows what the address names: the start, a job or an object. */
async function goTo(home, bench) {
  const [, kind, encoded] = location.hash.match(/^#\/(objects|jobs)\/([^/]+)$/) ?? [];
  const id = encoded && decodeURIComponent(encoded);
  for (const name of ["home", "waiting", "bench"]) find(`#${name}`).hidden = true;
  find("#object-tools").hidden = true;
  entitle("");
  waiting.id = null;
  if (kind === "objects" && bench) {
    find("#bench").hidden = false;
    find("#bench").dataset.state = "loading";
    find("#object-tools").hidden = false;
    try {
      await bench.open(id);
      find("#bench").dataset.state = "ready";
    } catch (error) {
      if (error.status === 404) location.replace("#/");
      throw error;
    }
  } else if (kind === "jobs") {
    find("#waiting").hidden = false;
    waiting.show(id);
  } else {
    bench?.close();
    find("#home").hidden = false;
    await home.fillGallery();
  }
}

/** The page of one job; when it is done, its object is in its place. */
const waiting = {
  id: null,
  card: null,
  show(id) {
    this.id = id;
    this.card = new JobCard(true);
    find("#waiting").replaceChildren(this.card.element);
    if (!jobs.all.has(id)) {
      toast("There is no such job any more.", "error");
      location.replace("#/");
      return;
    }
    jobs.follow(id);
    this.change();
  },
  change() {
    const job = this.id && jobs.all.get(this.id);
    if (!job) return;
    this.card.show(job);
    entitle(job.title);
    if (job.state === "done" && job.object) location.replace(`#/objects/${encodeURIComponent(job.object)}`);
  },
};
jobs.addEventListener("change", () => waiting.change());

async function ended(job, home, bench) {
  if (job.id === waiting.id) return;
  if (job.state === "failed") toast(`${job.title}: ${job.error}`, "error");
  if (bench?.doc && (job.object === bench.doc.id || job.id === bench.doc.busy) && !find("#bench").hidden) {
    await told(() => bench.reload());
    if (job.state === "done") announce(`${job.title} is done.`);
  } else if (job.state === "done") {
    toast(`${job.title} is done.`);
    if (!find("#home").hidden) home.fillGallery();
  }
}

start();
