"""The page of the sandbox: a live view of the requests, in one document without external resources.

Untrusted input is inserted as text (`textContent`), never as markup. In addition, the policy allows the
browser to run this script only and to contact this server only.
"""

from __future__ import annotations

import base64
import hashlib

_STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --text: #1d2330; --dim: #697386; --line: #e3e6ec;
  --good: #16794c; --bad: #c02a42; --warn: #9a6400; --bar: #4774d8; }
@media (prefers-color-scheme: dark) { :root { --back: #11141a; --card: #191e27; --text: #e4e8f0; --dim: #8d97a9;
  --line: #2a303c; --good: #4cc38a; --bad: #ff7a8a; --warn: #e6b450; --bar: #6d95f0; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; background: var(--back); color: var(--text); margin: 0 auto;
  max-width: 78rem; padding: 1.5rem 1rem 3rem; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1rem; margin-bottom: 1.2rem; }
h1 { font-size: 1.25rem; margin: 0; } header p { margin: 0; color: var(--dim); flex: 1 1 12rem; }
button { font: inherit; font-size: .87rem; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: .3rem .8rem; cursor: pointer; } button:hover { border-color: var(--dim); }
#choices { display: flex; flex-wrap: wrap; gap: .4rem; }
button[aria-pressed=true] { border-color: var(--bar); color: var(--bar); }
#state { font-size: .87rem; color: var(--good); } #state.off { color: var(--bad); }
#quiet { font-size: .87rem; } #quiet p { margin: -.5rem 0 1rem; }
#faults { background: var(--card); border: 1px solid var(--warn); color: var(--warn); border-radius: 8px;
  padding: .4rem .8rem; margin: 0 0 1.2rem; font: .85rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
#cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; margin-bottom: 1.5rem; }
.card, .list { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.card { padding: 1rem 1.1rem .8rem; } .card h2 { margin: 0; font-size: .95rem; color: var(--dim); font-weight: 600; }
.card b { font-size: 1.9rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card p { margin: .1rem 0 .5rem; font-size: .87rem; color: var(--dim); font-variant-numeric: tabular-nums; }
svg { width: 100%; height: 3.2rem; display: block; border-bottom: 1px solid var(--line); } rect { fill: var(--bar); }
[hidden] { display: none; } .list { overflow-x: auto; } .list .card { border: 0; margin: 0; } table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; padding: .45rem .8rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--dim); font-weight: 600; } tr:last-child td { border-bottom: 0; }
td { max-width: 16rem; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; } td.time { white-space: nowrap; }
td.event { min-width: 7.5rem; overflow-wrap: break-word; } a { color: var(--bar); }
td.to { min-width: 12rem; } td.to span { -webkit-line-clamp: 2; }
td.body { font: .83rem/1.5 ui-monospace, monospace; max-width: 34rem; }
td span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.good { color: var(--good); } .bad { color: var(--bad); } .dim { color: var(--dim); }
"""

_SCRIPT = """
const $ = id => document.getElementById(id);
const make = (tag, text, name) => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
};
const number = value => value.toLocaleString("en");
let provider = "", paused = false, timer = 0;

function bars(history) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
  const top = Math.max(1, ...history);
  svg.setAttribute("viewBox", "0 0 60 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "accepted in each of the last 60 seconds");
  history.forEach((count, second) => {
    const rect = document.createElementNS(space, "rect"), height = 20 * count / top;
    for (const [key, value] of Object.entries({x: second + .1, y: 20 - height, width: .8, height}))
      rect.setAttribute(key, value);
    svg.append(rect);
  });
  return svg;
}

function requests(stats) {
  const statuses = Object.entries(stats.statuses);
  const each = statuses.map(([status, count]) => (status === "0" ? "none" : status) + " \\u00d7 " + number(count));
  return make("p", number(stats.requests) + (stats.requests === 1 ? " request: " : " requests: ") + each.join(", "));
}

function card(name, stats) {
  const div = make("div", "", "card"), line = make("p", "");
  const part = (count, word, name) =>
    line.append(line.childNodes.length ? " \\u00b7 " : "", make("span", number(count) + " " + word, count ? name : ""));
  part(stats.accepted, "accepted", "good");
  part(stats.refused, "refused", "bad");
  if (stats.unanswered) part(stats.unanswered, "unanswered", "bad");
  part(stats.duplicates, "duplicates", "bad");
  const busiest = Math.max(...stats.history);
  div.append(make("h2", name), make("b", number(stats.rate_per_second) + "/s"), line, requests(stats), bars(stats.history),
    make("p", "last 60 seconds; busiest " + number(busiest) + "/s"));
  return div;
}

function row(entry) {
  const tr = document.createElement("tr"), status = entry.status || "none";
  const good = entry.status >= 200 && entry.status < 300;
  const cut = (text, name) => {
    const td = make("td", "", name), span = make("span", text);
    span.title = text;
    td.append(span);
    return td;
  };
  tr.append(make("td", new Date(entry.at * 1000).toLocaleTimeString("en-GB"), "dim time"), make("td", entry.provider),
    cut(entry.target, "to"), make("td", entry.event, "event"), make("td", entry.message_id, "dim"),
    make("td", status, good ? "good" : "bad"), cut(entry.body, "body"));
  return tr;
}

function choices(names) {
  const shown = JSON.stringify([provider, names]);
  if (shown === choices.shown) return;  // else a button would lose the keyboard's focus each second
  choices.shown = shown;
  $("choices").replaceChildren(...["", ...names].map(name => {
    const button = make("button", name || "all");
    button.setAttribute("aria-pressed", name === provider);
    button.onclick = () => { provider = name; refresh(); };
    return button;
  }));
}

async function refresh() {
  clearTimeout(timer);
  try {
    const paths = ["stats", "faults", "received?limit=50&provider=" + encodeURIComponent(provider)];
    const [stats, faults, received] = await Promise.all(
      paths.map(path => fetch("/_sandbox/" + path).then(response => response.json())));
    const names = Object.keys(stats).sort(), active = Object.keys(faults).length > 0;
    const busy = names.filter(name => stats[name].messages), quiet = names.filter(name => !stats[name].messages);
    $("cards").replaceChildren(...busy.map(name => card(name, stats[name])));
    $("quiet").replaceChildren(...quiet.map(name => {
      const line = requests(stats[name]);
      line.prepend(make("b", name + " "));
      return line;
    }));
    $("faults").hidden = !active;
    $("faults").textContent = "Faults in force: " + JSON.stringify(faults);
    choices(busy);
    $("none").hidden = received.length > 0;
    $("table").hidden = received.length === 0;
    $("rows").replaceChildren(...received.map(row));
    $("state").textContent = paused ? "paused" : "\\u25cf live";
    $("state").className = "";
  } catch {
    $("state").textContent = "the sandbox does not answer";
    $("state").className = "off";
  }
  clearTimeout(timer);
  if (!paused) timer = setTimeout(refresh, 1000);
}

$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  refresh();
};
$("clear").onclick = async () => {
  await fetch("/_sandbox/received", {method: "DELETE"}).catch(() => null);
  refresh();
};
refresh();
"""

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>relay sandbox</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
<header>
<h1>relay sandbox</h1><p>Local emulators of the providers.
<a href="/_sandbox/relay.yaml">Configuration for relay.yaml</a></p>
<span id="state" role="status"></span><span id="choices"></span>
<button id="pause" aria-pressed="false">Pause</button><button id="clear">Clear</button>
</header>
<p id="faults" hidden></p>
<div id="cards"></div>
<div id="quiet" class="dim"></div>
<div class="list">
<table id="table" hidden>
<thead><tr><th>time<th>provider<th>to<th>event<th>id<th>answer<th>body</thead>
<tbody id="rows"></tbody>
</table>
<p id="none" class="card dim">No messages yet.</p>
</div>
<script>{_SCRIPT}</script>
</html>
""".encode()
"""The document, in UTF-8."""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: this script, this style, this server, and nothing else."""
