// The page: files come in, items show their answers, and the model's card stands beside them.

import { Api, ApiError, Key, NETWORK } from "./api.js";
import { announce, find } from "./dom.js";
import { Item } from "./item.js";
import { askForKey } from "./key_dialog.js";
import { Limiter } from "./limiter.js";
import { showModel } from "./model.js";
import { Settings } from "./settings.js";
import { listLabels, percent, plural } from "./words.js";

const MOST_REQUESTS = 4; // at once
const NEAR = "400px"; // from the screen: pictures are loaded and answers renewed

const items = new Map(); // by element
const key = new Key(askForKey);
const api = new Api(key, showConnection);
const settings = new Settings(renewAnswers);
let model = null;
let isLoading = false;

const context = {
  api,
  limiter: new Limiter(MOST_REQUESTS),
  settings,
  limits: () => model?.limits,
  onChange: noteChange,
  onRetry: retry,
  onRemove: remove,
  onNoHeatMaps: () => document.body.classList.remove("explains"),
};

const nearness = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const item = items.get(target);
      item?.setNear(isIntersecting);
      if (item?.isNear && item.isStale) item.classify();
    }
  },
  { rootMargin: NEAR },
);

function addFiles(files) {
  key.allowAsking();
  for (const file of files) {
    const item = new Item(file, context);
    items.set(item.element, item);
    find("results").append(item.element);
    nearness.observe(item.element);
    item.classify();
  }
  showCount();
}

function remove(item) {
  const next = item.element.nextElementSibling ?? item.element.previousElementSibling;
  nearness.unobserve(item.element);
  items.delete(item.element);
  item.close();
  (next?.querySelector(".title button:last-child") ?? find("choose")).focus();
  showCount();
}

/** Asks again for new settings: at once for what can be seen, for the rest when it comes near. */
function renewAnswers() {
  for (const item of items.values()) {
    item.isStale = true;
    if (item.isNear) item.classify();
  }
}

function retry(failed) {
  key.allowAsking();
  if (model === null) loadModel();
  for (const item of failed) item.classify();
}

function failedItems(...statuses) {
  return [...items.values()].filter((item) => item.state === "failed" && statuses.includes(item.error.status));
}

function noteChange(item) {
  if (item.state === "answered" && model !== null && item.version !== model.version) loadModel();
  if (item.error?.code === "invalid_parameter") adaptToRefusal(item.error.message);
  showCount();
}

/** The model may be another one than that of the card, and know less. */
function adaptToRefusal(reason) {
  if (reason.startsWith("max_error") && settings.query.max_error) {
    settings.forbidDecisions(reason);
    renewAnswers();
  } else if (reason.startsWith("coverage") && settings.query.coverage) loadModel();
}

/** Shows how far the work is, and tells it once all of it is done. */
function showCount() {
  const all = [...items.values()];
  const failed = all.filter((item) => item.state === "failed");
  const answered = all.filter((item) => item.prediction !== null);
  const failures = failed.length ? `, ${failed.length} failed` : "";
  const text = all.length ? `${answered.length} of ${plural(all.length, "image")} answered${failures}.` : "";
  find("count").textContent = text;
  find("clear").hidden = all.length === 0;
  if (all.length === 0 || all.some((item) => item.state === "waiting")) return;
  announce(all.length === 1 && answered.length === 1 ? describeAnswer(answered[0]) : text);
}

function describeAnswer({ name, prediction }) {
  const { label, probability, prediction_set: set } = prediction;
  const rest = set ? ` Prediction set: ${listLabels(set.labels)}.` : "";
  return `${name}: ${label}, ${percent(probability)}.${rest}`;
}

function showConnection(isReached) {
  const notice = find("connection");
  if (notice.hidden === isReached) return;
  notice.hidden = isReached;
  notice.querySelector("p").textContent = isReached ? "" : "The server cannot be reached. Check the network.";
}

/** Reads what the server offers, and its model. */
async function loadModel() {
  if (isLoading) return;
  isLoading = true;
  const card = find("model-card");
  const before = JSON.stringify(settings.query);
  try {
    const description = await api.readJson("openapi.json").catch(() => ({}));
    model = await api.readJson("model", {
      onWait: (seconds, reason) => {
        card.textContent = `${reason} Trying again in ${seconds} s.`;
      },
    });
    const parameters = description.paths?.["/predict"]?.post?.parameters ?? [];
    settings.offer(model, parameters.some(({ name }) => name === "max_error"));
    document.body.classList.toggle("explains", description.paths?.["/explain"] !== undefined);
    find("model-name").textContent = `${model.name} ${model.version}`;
    card.replaceChildren(...showModel(model));
    if (JSON.stringify(settings.query) !== before) renewAnswers();
  } catch (error) {
    card.textContent = error instanceof ApiError ? error.message : "The model's description cannot be read.";
  } finally {
    isLoading = false;
  }
}

function listen() {
  for (const id of ["choose", "photograph"]) {
    find(id).onchange = ({ target }) => {
      addFiles(target.files);
      target.value = ""; // so that the same file can be chosen again
    };
  }
  document.addEventListener("paste", ({ clipboardData }) => addFiles(clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) find("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    if (event.dataTransfer.files.length > 0) addFiles(event.dataTransfer.files);
    else find("count").textContent = "There was no file in what was dropped.";
  });
  find("clear").onclick = () => {
    for (const item of [...items.values()]) remove(item);
  };
  find("change-key").onclick = async () => {
    key.allowAsking();
    if (await key.renew(key.value, "")) retry(failedItems(401));
  };
  find("connection").querySelector("button").onclick = () => retryUnreached();
  window.addEventListener("online", () => retryUnreached());
  window.addEventListener("offline", () => showConnection(false));
}

function retryUnreached() {
  loadModel();
  retry(failedItems(NETWORK));
}

listen();
loadModel();
