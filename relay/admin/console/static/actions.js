// Actions: a button opens a dialog, which shows the count, asks for a reason, and posts to the API.

const base = document.body.dataset.base;
const CONFIRM_ABOVE = 1000;
const number = new Intl.NumberFormat("en");

function toast(text, tone) {
  const shown = document.createElement("p");
  shown.className = `toast tone-${tone}`;
  shown.textContent = text;
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), 6000);
}

// The clipboard of a page that is served without TLS, and not from this host, works through a field only.
async function copy(text) {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
    } else {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      if (!done) throw new Error();
    }
    toast("Copied.", "good");
  } catch {
    toast("The browser does not allow copying.", "bad");
  }
}

function filled(template, values, encode) {
  return template.replace(/\{(\w+)\}/g, (_, name) => (encode ? encodeURIComponent(values[name]) : values[name]));
}

async function post(path, body) {
  const answer = await fetch(`${base}/api/v1${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.status === 401) location.reload();
  const text = await answer.text();
  let document_ = {};
  try {
    document_ = JSON.parse(text);
  } catch {
    document_ = { error: text };
  }
  if (!answer.ok) throw new Error(document_.error || `The server answers ${answer.status}.`);
  return document_;
}

// The fields as the API takes them: empty ones are left out, a checkbox is true, `data-number` a number.
function body(form) {
  const fields = {};
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") {
      if (field.checked) fields[field.name] = true;
    } else if ("flag" in field.dataset) {
      fields[field.name] = true;
    } else if (field.value !== "") {
      if ("number" in field.dataset) fields[field.name] = Number(field.value);
      else fields[field.name] = "json" in field.dataset ? JSON.parse(field.value) : field.value;
    }
  }
  return fields;
}

function setCount(dialog, count) {
  const known = Number.isFinite(count);
  for (const place of dialog.querySelectorAll('[data-show="count"]')) {
    place.textContent = known ? number.format(count) : "…";
  }
  const confirm = dialog.querySelector(".confirm");
  const input = dialog.querySelector(".confirm-input");
  if (!confirm) return;
  const needed = known && count > CONFIRM_ABOVE;
  confirm.hidden = !needed;
  input.value = "";
  dialog.dataset.needed = needed ? String(count) : "";
  dialog.querySelector(".confirm-text").textContent = needed ? `Type ${count} to confirm` : "";
  check(dialog);
}

function check(dialog) {
  const submit = dialog.querySelector('[type="submit"]');
  const needed = dialog.dataset.needed;
  const given = (dialog.querySelector(".confirm-input")?.value || "").replace(/[^0-9]/g, "");
  submit.disabled = Boolean(dialog.dataset.busy) || dialog.dataset.counting === "1" || Boolean(needed && given !== needed);
}

function fail(dialog, text) {
  const error = dialog.querySelector(".error");
  error.textContent = text;
  error.hidden = !text;
}

async function countFirst(dialog, form, values) {
  dialog.dataset.counting = "1";
  setCount(dialog, NaN);
  try {
    const found = await post(filled(form.dataset.post, values, true), { ...body(form), dry_run: true });
    dialog.dataset.counting = "";
    if (form.dataset.dry === "text") {
      dialog.querySelector('[data-show="count"]').textContent = `Then ${found.text}.`;
      check(dialog);
    } else {
      setCount(dialog, found.matched);
    }
  } catch (error) {
    dialog.dataset.counting = "";
    fail(dialog, error.message);
    check(dialog);
  }
}

// The text of a letter, which the operator edits.
async function textFirst(dialog, form) {
  const text = form.querySelector("textarea");
  text.disabled = true;
  dialog.dataset.counting = "1";
  setCount(dialog, NaN);
  try {
    const found = await post(form.dataset.text, { letter: body(form).letter });
    text.value = found.text;
    dialog.dataset.counting = "";
  } catch (error) {
    fail(dialog, error.message);
  } finally {
    text.disabled = false;
    text.focus();
    check(dialog);
  }
}

function open(button) {
  const dialog = document.getElementById(button.dataset.open);
  const form = dialog.querySelector("form");
  const values = { ...button.dataset };
  // A field may be named `reset`.
  HTMLFormElement.prototype.reset.call(form);
  fail(dialog, "");
  dialog.dataset.busy = "";
  dialog.dataset.counting = "";
  for (const field of form.querySelectorAll("[data-fill]")) field.value = values[field.dataset.fill] ?? "";
  for (const place of dialog.querySelectorAll("[data-show]")) {
    const value = values[place.dataset.show];
    if (place.dataset.show !== "count") place.textContent = value ? `${place.dataset.before || ""}${value}` : "";
  }
  form.relayValues = values;
  dialog.showModal();
  if ("text" in form.dataset) textFirst(dialog, form);
  else if ("dry" in form.dataset) countFirst(dialog, form, values);
  else setCount(dialog, values.count === undefined ? NaN : Number(values.count));
}

async function submit(form) {
  const dialog = form.closest("dialog");
  const values = form.relayValues;
  dialog.dataset.busy = "1";
  check(dialog);
  fail(dialog, "");
  try {
    const result = await post(filled(form.dataset.post, values, true), body(form));
    dialog.close();
    if ("job" in form.dataset) {
      follow(result.job);
      return;
    }
    toast(filled(form.dataset.done, { ...values, ...result }, false), "good");
    document.dispatchEvent(new CustomEvent("relay:done", { detail: { form, result } }));
  } catch (error) {
    fail(dialog, error.message);
  } finally {
    dialog.dataset.busy = "";
    check(dialog);
  }
}

// Shows the progress of a job until it ends.
async function follow(job) {
  const place = document.getElementById("job");
  const text = document.getElementById("job-text");
  const bar = document.getElementById("job-progress");
  const stop = document.getElementById("job-stop");
  if (stop) {
    stop.disabled = false;
    stop.onclick = () => {
      stop.disabled = true;
      post(`/jobs/${job}/stop`, {}).catch((error) => toast(error.message, "bad"));
    };
  }
  for (;;) {
    const answer = await fetch(`${base}/api/v1/jobs/${job}`).catch(() => null);
    const state = answer && answer.ok ? await answer.json() : null;
    if (!state) {
      if (place) place.hidden = true;
      toast("The progress cannot be shown any more; the audit log shows how it ends.", "warn");
      return;
    }
    if (place) place.hidden = false;
    const done = state.action === "purge" ? "purged" : "retried";
    const left = Object.entries(state.left || {}).map(([why, count]) => `${number.format(count)} ${why.replaceAll("_", " ")}`);
    const line = `${number.format(state.done)} of ${number.format(state.total)} ${done}${left.length ? `; left: ${left.join(", ")}` : ""}`;
    if (text) text.textContent = line;
    if (bar) {
      bar.max = Math.max(1, state.total);
      bar.value = state.matched;
    }
    if (!state.running) {
      if (place) place.hidden = true;
      toast(state.error || `${line}${state.interrupted ? "; stopped" : ""}.`, state.error ? "bad" : "good");
      document.dispatchEvent(new CustomEvent("relay:done", { detail: { result: state } }));
      return;
    }
    await new Promise((resume) => setTimeout(resume, 300));
  }
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) open(opener);
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
  if (event.target.closest("[data-copy]")) {
    copy(document.getElementById(event.target.closest("[data-copy]").dataset.copy).textContent);
  }
});
document.addEventListener("input", (event) => {
  const dialog = event.target.closest("dialog");
  if (dialog) check(dialog);
});
// A form that asks a question: the answer appears below it.
async function ask(form) {
  const place = form.querySelector(".result");
  const button = form.querySelector('[type="submit"]');
  button.disabled = true;
  try {
    const answer = await post(form.dataset.check, body(form));
    const lines = answer.valid ? ["The file is valid."] : answer.problems;
    place.replaceChildren(
      ...lines.map((text) => {
        const line = document.createElement("p");
        line.className = answer.valid ? "" : "error";
        line.textContent = text;
        return line;
      }),
    );
  } catch (error) {
    place.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

const running = document.getElementById("job")?.dataset.job;
if (running) follow(running);

document.addEventListener("submit", (event) => {
  if (event.target.dataset.check) {
    event.preventDefault();
    ask(event.target);
    return;
  }
  if (!event.target.dataset.post) return;
  event.preventDefault();
  submit(event.target);
});
