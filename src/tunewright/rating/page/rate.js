"use strict";
// Keys and drafts. Without this script the page is a plain form and loses only these two.
const form = document.getElementById("vote");
const state = document.getElementById("state");
const missing = document.getElementById("missing");
const questions = [...form.querySelectorAll("[data-question]")];
const names = questions.map((question) => question.dataset.question);
const memory = `draft:${form.dataset.rater}:${form.elements.position.value}:${form.elements.mark.value}`;
const PREFERENCES = { ArrowLeft: "left", ArrowRight: "right", t: "tie", x: "both_bad" };
let current = 0;

const answered = (name) => form.querySelector(`input[name="${name}"]:checked`) !== null;
const fields = () => new URLSearchParams(new FormData(form));

function mark(index, scroll) {
  current = index;
  questions.forEach((question, place) => question.classList.toggle("current", place === index));
  const box = questions[index].getBoundingClientRect();
  if (scroll && (box.top < 0 || box.bottom > innerHeight)) questions[index].scrollIntoView({ block: "center" });
}

function choose(name, value) {
  const input = form.querySelector(`input[name="${name}"][value="${value}"]`);
  input.checked = true;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function next(name) {
  const start = names.indexOf(name) + 1;
  const order = [...names.slice(start), ...names.slice(0, start)];
  const open = order.find((other) => !answered(other));
  mark(open === undefined ? names.length - 1 : names.indexOf(open), true);
}

// Drafts: one request at a time, so that an older draft never arrives after a newer one.
let dirty = false, sending = false, sent = false, timer = 0;

function remember() {
  sessionStorage.setItem(memory, fields().toString());
  dirty = true;
}

async function save() {
  if (sending || !dirty || sent) return;
  sending = true;
  dirty = false;
  try {
    const body = fields();
    const response = await fetch("/draft", { method: "POST", body, keepalive: body.toString().length < 60000 });
    state.textContent = response.ok ? state.dataset.saved : state.dataset.failed;
    state.classList.toggle("fault", !response.ok);
  } catch {
    dirty = true;
    if (!sent) state.textContent = state.dataset.failed;
    state.classList.add("fault");
    setTimeout(save, 2000);
  }
  sending = false;
  if (dirty) setTimeout(save, 100);
}

function restore() {
  // What lies there of other tasks was saved with their votes.
  for (const key of Object.keys(sessionStorage)) if (key !== memory) sessionStorage.removeItem(key);
  const kept = sessionStorage.getItem(memory);
  if (kept === null) return;
  for (const [name, value] of new URLSearchParams(kept)) {
    const field = form.elements[name];
    if (name === "mark" || name === "position" || !field) continue;
    field.value = value;
    if (name.endsWith(".correction") && value !== field.defaultValue) field.closest("details").open = true;
  }
  dirty = true;
  save();
}

form.addEventListener("change", (event) => {
  remember();
  save();
  const question = event.target.closest("[data-question]");
  if (!question || !event.target.checked) return;
  question.classList.remove("open");
  if (!event.target.matches(":focus-visible")) event.target.blur();
  next(question.dataset.question);
});

form.addEventListener("input", () => {
  remember();
  clearTimeout(timer);
  timer = setTimeout(save, 250);
});

form.addEventListener("submit", (event) => {
  const skips = event.submitter !== null && event.submitter.value === "skip";
  const open = skips ? [] : names.filter((name) => !answered(name));
  if (sent || open.length > 0) event.preventDefault();
  questions.forEach((question) => question.classList.toggle("open", open.includes(question.dataset.question)));
  missing.hidden = open.length === 0;
  missing.textContent = missing.dataset.text.replace("{count}", open.length);
  if (open.length > 0) mark(names.indexOf(open[0]), true);
  else sent = true;
});

addEventListener("pagehide", () => save());
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

function pressed(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const name = names[current];
  if (key in PREFERENCES) choose("preference", PREFERENCES[key]);
  else if ("123".includes(key) && name !== "preference") choose(name, String(Number(key) - 1));
  else if (key === "Backspace") mark(Math.max(0, current - 1), true);
  else if (key === "Enter") form.requestSubmit(form.querySelector("button.main"));
  else if (key === "u") document.querySelector('button[form="undo"]').click();
  else if (key === "n") form.elements.note.focus();
  else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  const target = event.target;
  if (target.matches("textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  // Whoever came to a control with Tab uses it as everywhere: arrows in a group, Enter on a button or link.
  const isArrow = event.key.startsWith("Arrow");
  if (isArrow && target.matches("input:focus-visible")) return;
  if (event.key === "Enter" && target.matches("button, a, summary")) return;
  if (pressed(event)) event.preventDefault();
});

questions.forEach((question, index) => question.addEventListener("pointerdown", () => mark(index, false)));
questions.forEach((question, index) => question.addEventListener("focusin", () => mark(index, false)));
form.noValidate = true;
document.getElementById("keys").hidden = false;
document.documentElement.classList.add("scripted");
restore();
next("preference");
scrollTo(0, 0);
