// The server's API: every answer is JSON, every refusal one sentence.

const ROOT = "/api/v1";

/** A request that the server refused, with its sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function request(method, path, body, type) {
  const options = { method, headers: {}, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = body instanceof Blob ? body : JSON.stringify(body);
    options.headers["Content-Type"] = type ?? "application/json";
  }
  let answer;
  try {
    answer = await fetch(path.startsWith("/") ? path : `${ROOT}/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer; see whether `partgen app` still runs.");
  }
  if (answer.ok) return answer;
  let sentence = `The server answered with ${answer.status}.`;
  try {
    sentence = (await answer.json()).error ?? sentence;
  } catch {
    // an answer that is no JSON has no sentence of ours
  }
  throw new Refused(answer.status, sentence);
}

async function json(answer) {
  return answer.status === 204 ? null : answer.json();
}

export const get = async (path) => json(await request("GET", path));
export const post = async (path, body = {}) => json(await request("POST", path, body));
export const put = async (path, body, type) => json(await request("PUT", path, body, type));
export const remove = async (path) => json(await request("DELETE", path));
export const blob = async (path) => (await request("GET", path)).blob();

/** Uploads a file; `progressed` gets shares from 0 to 1, which fetch cannot tell. */
export function upload(file, progressed = () => {}) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", `${ROOT}/uploads?name=${encodeURIComponent(file.name)}`);
    sender.responseType = "json";
    sender.upload.onprogress = (event) => event.lengthComputable && progressed(event.loaded / event.total);
    sender.onload = () => {
      if (sender.status < 300) resolve(sender.response);
      else reject(new Refused(sender.status, sender.response?.error ?? `The upload was refused (${sender.status}).`));
    };
    sender.onerror = () => reject(new Refused(0, "The upload was broken off; try it again."));
    sender.send(file);
  });
}

/** Follows a job by events, or by asking where events do not come through; returns how to stop. */
export function follow(id, changed) {
  const path = `jobs/${encodeURIComponent(id)}`;
  let timer, over = false;
  const events = new EventSource(`${ROOT}/${path}/events`);
  const stop = () => {
    over = true;
    events.close();
    clearTimeout(timer);
  };
  const took = (job) => {
    if (isOver(job)) stop();
    changed(job);
  };
  const poll = async () => {
    if (over) return;
    try {
      took(await get(path));
    } catch (error) {
      if (error.status === 404) return stop();
    }
    if (!over) timer = setTimeout(poll, 1000);
  };
  events.onmessage = (event) => took(JSON.parse(event.data));
  events.onerror = () => {
    events.close();
    if (!over) timer = setTimeout(poll, 500);
  };
  return stop;
}

export const isOver = (job) => ["done", "failed", "cancelled"].includes(job.state);
