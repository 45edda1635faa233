// The page without this script is a list of presets whose links lead to their figures and cards.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const cards = all(".card");
// A page that was opened as a file may not read other files: pictures turn there.
const viewer = location.protocol.startsWith("http") && hasWebGL() && document.body.dataset.viewer;

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
}

// ---- Lines to copy

for (const code of all("[data-address]")) {
  if (!location.protocol.startsWith("http")) continue;
  code.lastChild.textContent = `DESCNET3D_ZOO=${new URL(".", location.href).href.replace(/\/$/, "")}`;
}

for (const button of all(".copy")) {
  button.hidden = false;
  const label = button.firstChild;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      label.data = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // for Ctrl-C
      label.data = "Selected";
    }
    setTimeout(() => (label.data = "Copy"), 2000);
  });
}

// ---- Filters, which the address keeps

const filters = one(".filters");

function filter() {
  const { task, category } = Object.fromEntries(new FormData(filters));
  let shown = 0;
  for (const card of cards) {
    const fits =
      (!task || card.dataset.task === task) &&
      (!category || card.dataset.categories.split(" ").includes(category));
    card.hidden = !fits;
    shown += fits;
  }
  one(".count").textContent = shown === cards.length ? `${shown} shown` : `${shown} of ${cards.length} shown`;
  one(".nothing").hidden = shown > 0;
  const wanted = new URLSearchParams(Object.entries({ task, category }).filter(([, value]) => value));
  history.replaceState(null, "", `${location.pathname}${wanted.size ? `?${wanted}` : ""}${location.hash}`);
}

filters.addEventListener("change", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
for (const [name, value] of new URLSearchParams(location.search)) {
  const field = filters.elements[name];
  if (field) field.value = value;
}
filter();

// ---- Pictures that turn

// Lays pictures from all around over a still one, and gives what turns them.
function turning(place, strip, frames) {
  const layer = document.createElement("div");
  layer.className = "turning";
  let frame = 0;
  let ready = false;
  const picture = new Image();
  picture.onload = () => {
    ready = true;
    layer.style.backgroundImage = `url("${strip}")`;
    layer.style.backgroundSize = `${frames * 100}% 100%`;
    turn(0);
    place.append(layer);
    for (const still of all("img", place)) still.style.visibility = "hidden";
  };
  picture.src = strip;
  function turn(by) {
    frame = (((frame + by) % frames) + frames) % frames;
    if (ready) layer.style.backgroundPositionX = `${(Math.round(frame) % frames) * (100 / (frames - 1))}%`;
  }
  function remove() {
    picture.onload = null;
    layer.remove();
    for (const still of all("img", place)) still.style.visibility = "";
  }
  return { turn, remove };
}

const KEYS = { ArrowLeft: -1, ArrowRight: 1 };

for (const card of cards) {
  const picture = one("[data-turn]", card);
  if (!picture) continue;
  const frames = Number(picture.dataset.frames);
  let shown = null;
  let last = null;
  const begin = () => (shown ??= turning(picture, picture.dataset.turn, frames));
  // The card's link lies over the picture, so that the card hears of the pointer.
  card.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const box = picture.getBoundingClientRect();
    if (event.clientY > box.bottom) return;
    begin();
    if (last !== null) shown.turn(((last - event.clientX) / box.width) * frames);
    last = event.clientX;
  });
  card.addEventListener("pointerleave", () => (last = null));
  one("h2 a", card).addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    begin();
    shown.turn(KEYS[event.key]);
  });
}

// ---- Shapes on a stage

let loading = null;

function loadViewer() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = viewer;
    script.onload = () => customElements.whenDefined("model-viewer").then(resolve);
    script.onerror = reject;
    document.head.append(script);
  });
  return loading;
}

// Shows a shape, as a mesh where that can be, else as pictures.
async function show(stage, shape, name, hint) {
  clear(stage);
  const still = one(":scope > img", stage) ?? stage.appendChild(new Image());
  still.src = shape.picture ?? "";
  still.alt = `${name}: ${shape.title}`;
  const token = (stage.shown = {});
  if (viewer && shape.mesh) {
    try {
      await loadViewer();
      if (stage.shown !== token) return;
      placeMesh(stage, shape, `${name}: ${shape.title}`, () => placePictures(stage, shape, name, hint));
      hint.textContent = "Drag to turn, scroll or pinch to come nearer; or focus the shape and use the arrow keys.";
      return;
    } catch {
      if (stage.shown !== token) return;
    }
  }
  placePictures(stage, shape, name, hint);
}

function placeMesh(stage, shape, alt, failed) {
  const element = document.createElement("model-viewer");
  for (const [key, value] of Object.entries({
    src: shape.mesh,
    alt,
    "camera-controls": "",
    "touch-action": "pan-y",
    "camera-orbit": "-37deg 64deg auto",
    "field-of-view": "24deg",
    "interaction-prompt": "none",
    "environment-image": "legacy",
    "shadow-intensity": "0.9",
    "shadow-softness": "0.8",
    exposure: "0.8",
    loading: "eager",
  })) {
    element.setAttribute(key, value);
  }
  element.addEventListener("load", () => stage.classList.add("live"), { once: true });
  element.addEventListener("error", () => (element.remove(), failed()), { once: true });
  stage.append(element);
}

function placePictures(stage, shape, name, hint) {
  hint.textContent = "";
  if (!shape.turn) return;
  const frames = Number(stage.dataset.frames);
  const pictures = (stage.pictures = turning(stage, shape.turn, frames));
  hint.textContent = "Drag to turn; or focus the shape and use the arrow keys.";
  stage.tabIndex = 0;
  stage.setAttribute("role", "img");
  stage.setAttribute("aria-label", `${name}: ${shape.title}, turned by the arrow keys`);
  stage.onkeydown = (event) => event.key in KEYS && (event.preventDefault(), pictures.turn(KEYS[event.key]));
  let last = null;
  stage.onpointerdown = (event) => (stage.setPointerCapture(event.pointerId), (last = event.clientX));
  stage.onpointerup = stage.onpointercancel = () => (last = null);
  stage.onpointermove = (event) => {
    if (last === null) return;
    pictures.turn(((last - event.clientX) / stage.clientWidth) * frames);
    last = event.clientX;
  };
}

function clear(stage) {
  stage.shown = null;
  stage.classList.remove("live");
  one("model-viewer", stage)?.remove();
  stage.pictures?.remove();
  stage.pictures = null;
  for (const handler of ["onkeydown", "onpointerdown", "onpointerup", "onpointercancel", "onpointermove"]) stage[handler] = null;
  for (const attribute of ["tabindex", "role", "aria-label"]) stage.removeAttribute(attribute);
}

// ---- A preset, opened

function open(dialog) {
  if (dialog.open) return;
  dialog.showModal();
  dialog.scrollTop = 0;
  showChosen(dialog);
}

function showChosen(dialog) {
  const stage = one(".stage", dialog);
  const chosen = one(".shapes input:checked", dialog);
  if (!chosen) return;
  const link = one(".download", dialog);
  if (link) {
    link.hidden = !chosen.dataset.mesh;
    link.href = chosen.dataset.mesh ?? "";
    link.download = `${dialog.id}_${chosen.value}.glb`;
  }
  show(stage, chosen.dataset, stage.dataset.name, one(".hint", dialog));
}

for (const dialog of all("dialog")) {
  dialog.addEventListener("change", (event) => {
    if (event.target.matches(".shapes input")) showChosen(dialog);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // the backdrop
  dialog.addEventListener("close", () => {
    all(".stage", dialog).forEach(clear);
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    // Following a link to it has taken the focus away from what it was opened by.
    (dialog === comparison ? one(".go", tray) : one(`.card[data-id="${dialog.id}"] h2 a`)).focus();
  });
}

// ---- Two presets, side by side

const comparison = one("#comparison");
const [first, second] = all("select", comparison);
const tray = one(".tray");
let picked = [];

function pick(ids) {
  picked = ids;
  for (const card of cards) {
    const button = one(".compare", card);
    button.setAttribute("aria-pressed", picked.includes(card.dataset.id));
  }
  tray.hidden = picked.length === 0;
  one("p", tray).textContent =
    picked.length === 2 ? picked.join(" and ") : `${picked[0] ?? ""}: choose another one to compare it with`;
  const go = one(".go", tray);
  go.hidden = picked.length < 2;
  go.hash = `compare=${picked.join(",")}`;
}

for (const card of cards) {
  const button = one(".compare", card);
  button.hidden = cards.length < 2;
  button.addEventListener("click", () => {
    const id = card.dataset.id;
    pick(picked.includes(id) ? picked.filter((other) => other !== id) : [...picked, id].slice(-2));
  });
}
one(".clear", tray).addEventListener("click", () => pick([]));

function compare(ids) {
  [first.value, second.value] = ids;
  if (!comparison.open) comparison.showModal();
  all(".side", comparison).forEach((side, row) => {
    const chosen = one(".shapes input", document.getElementById(ids[row]));
    const stage = one(".stage", side);
    if (chosen) {
      show(stage, chosen.dataset, ids[row], one(".hint", comparison));
    } else {
      clear(stage);
      const sheet = one(".stage img", document.getElementById(ids[row]));
      stage.replaceChildren(...(sheet ? [sheet.cloneNode()] : []));
    }
  });
  one(".figures", comparison).replaceChildren(...figuresOf(ids));
  history.replaceState(null, "", `#compare=${ids.join(",")}`);
}

for (const select of [first, second]) {
  select.addEventListener("change", () => compare([first.value, second.value]));
}

// The head and the body of a table of what was measured of either; the first two figures of each.
function figuresOf(ids) {
  const tables = ids.map((id) => one("table.figures", document.getElementById(id)));
  const columns = tables.map((table) => (table ? all("thead th", table).slice(0, 2).map((cell) => cell.textContent) : []));
  const rows = new Map();
  tables.forEach((table, side) => {
    for (const row of table ? all("tbody tr", table) : []) {
      const kept = rows.get(row.dataset.score) ?? { meaning: one("th", row).textContent, sides: [[], []] };
      kept.sides[side] = all("td", row).slice(0, 2).map((cell) => cell.textContent);
      rows.set(row.dataset.score, kept);
    }
  });
  const wide = columns.map((names) => Math.max(names.length, 1));
  const head = document.createElement("thead");
  const names = head.insertRow();
  names.append(document.createElement("td"));
  ids.forEach((id, side) => names.append(heading("col", id, wide[side])));
  const under = head.insertRow();
  under.append(document.createElement("td"));
  columns.forEach((each) => (each.length ? each : [""]).forEach((name) => under.append(heading("col", name))));
  const body = document.createElement("tbody");
  for (const { meaning, sides } of rows.values()) {
    const row = body.insertRow();
    row.append(heading("row", meaning));
    sides.forEach((values, side) => {
      for (let column = 0; column < wide[side]; column++) row.insertCell().textContent = values[column] ?? "–";
    });
  }
  return [head, body];
}

function heading(scope, text, span = 1) {
  const cell = document.createElement("th");
  Object.assign(cell, { scope, textContent: text, colSpan: span });
  return cell;
}

// ---- What the address asks for

function follow() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  const pair = wanted.startsWith("compare=") ? wanted.slice(8).split(",") : [];
  if (pair.length === 2 && pair.every((id) => cards.some((card) => card.dataset.id === id))) return compare(pair);
  const dialog = cards.some((card) => card.dataset.id === wanted) && document.getElementById(wanted);
  if (dialog) open(dialog);
}

addEventListener("hashchange", follow);
follow();
